// The rows and columns of the input, and of every layer, that a part of the result depends on.
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

// The columns of the input that `wanted` columns of the result depend on. They begin at a multiple of four,
// so that Winograd tiles, and therefore rounding, do not depend on where the picture is cut.
// Example: three 3x3 layers in float32, of which the last two run by Winograd in tiles of four, no residual.
// Columns [100, 200) of 1000 need [99, 201) of the block, [95, 205) of the head and [94, 206) of the input;
// the result is [92, 206).
Interval needed_columns(const Network &network, Interval wanted, int64_t width);
// The rows of the input that `wanted` rows of the result depend on.
Interval needed_rows(const Network &network, Interval wanted, int64_t height);
// Input positions that resizing reads around one position: before it (negative) and after it.
Interval resampling_halo(const Description &network, bool chroma);
// The columns of the tail's output that `wanted` columns of the result depend on; rows likewise.
Interval needed_of_tail(const Description &network, Interval wanted, int64_t size);

}  // namespace ob
