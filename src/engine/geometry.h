// Which rows and columns of the input, and of every layer, a part of the result depends on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "packing.h"

namespace ob {

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
inline int64_t round_down(int64_t value, int64_t to) { return value / to * to; }

// Columns [begin, end) or rows [begin, end).
struct Interval {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
};

inline Interval clipped(Interval range, int64_t size) {
    return {std::max<int64_t>(range.begin, 0), std::min(range.end, size)};
}

// The columns of the input that `wanted` columns of the result depend on; it begins at a multiple of four, so
// that Winograd tiles, and with them rounding, do not depend on where the picture is cut. Example: three 3x3
// layers, no residual: wanted [100, 200) of 1000 columns needs [96, 204) with Winograd.
Interval needed_columns(const Network &network, Interval wanted, int64_t width);
// The rows of the input that `wanted` rows of the result depend on.
Interval needed_rows(const Network &network, Interval wanted, int64_t height);
// Input positions that resizing reads around one position: before it (negative) and after it.
Interval resampling_reach(const Description &network, bool chroma);
// The columns of the tail's output that `wanted` columns of the result depend on; rows likewise.
Interval reduced_reach(const Description &network, Interval wanted, int64_t size);

}  // namespace ob
