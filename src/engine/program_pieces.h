// Checks of pictures, pieces of a picture and error messages for programs; engine.cpp has the same for
// networks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "onebranch_engine.h"
#include "parallel.h"
#include "strip.h"

namespace ob {

constexpr int64_t MAX_PICTURE_COLUMNS = int64_t(1) << 24, MAX_PICTURE_ROWS = int64_t(1) << 40;
constexpr int MAX_THREADS = 1024;
// A push of fewer pixels than this to a stream runs on the calling thread alone.
constexpr int64_t MIN_PIXELS_FOR_THREADS = 4096;
// If the rows of a strip take more bytes than this, narrower strips are faster (measured).
constexpr size_t STRIP_CACHE_BYTES = 4 << 20;
// Strips are not made narrower than this only to fit the cache.
constexpr int64_t MIN_STRIP_COLUMNS = 512;

// Copies a line, cut to the size of the buffer, after what is in it.
inline void append_message(char *message, size_t message_size, const char *text) {
    if (!message || !message_size) return;
    size_t at = std::strlen(message);
    while (at + 1 < message_size && *text) message[at++] = *text++;
    message[at] = 0;
}

// The result of a function that returns null or an error: 1, or 0 with the error in `message`.
template <class Function>
int32_t succeeds(char *message, size_t message_size, Function function) {
    const char *error = attempt(function);
    if (!error) return 1;
    if (message && message_size) message[0] = 0;
    append_message(message, message_size, error);
    return 0;
}

// Null, or what is wrong with the size and the sample types of a picture.
inline const char *check_picture(const ob_format &format) {
    if (format.height < 1 || format.width < 1) return "a picture has at least one row and one column";
    if (format.width > MAX_PICTURE_COLUMNS || format.height > MAX_PICTURE_ROWS)
        return "the picture is too large: at most 16,777,216 columns";
    for (int32_t type : {format.source, format.target})
        if (type < OB_UINT8 || type > OB_FLOAT32) return "unknown sample type";
    return nullptr;
}

// The samples of a picture; if it is planar, each plane has `rows` rows.
inline Samples samples(void *base, int type, int64_t width, int64_t rows, int channels, bool planar) {
    Samples samples;
    samples.base = base;
    samples.type = type;
    samples.row = planar ? width : width * channels;
    samples.pixel = planar ? 1 : channels;
    samples.channel = planar ? width * rows : 1;
    return samples;
}

// [0, size) in pieces of at most `largest`, of which all but the last are multiples of `unit`.
// Example: cut(100, 48, 4) = [0, 36), [36, 72), [72, 100).
inline std::vector<Interval> cut(int64_t size, int64_t largest, int64_t unit) {
    int64_t pieces = std::max<int64_t>(1, (size + largest - 1) / largest);
    int64_t each = std::max(unit, round_up((size + pieces - 1) / pieces, unit));
    if (each > largest && largest >= unit) each = largest / unit * unit;
    std::vector<Interval> pieces_of_size;
    for (int64_t at = 0; at < size; at += each) pieces_of_size.push_back({at, std::min(size, at + each)});
    return pieces_of_size;
}

struct Piece {
    Interval columns, rows;
};

inline const char *check_threads(int32_t threads) {
    if (threads >= 1 && threads <= MAX_THREADS) return nullptr;
    return "the number of threads must be from 1 to 1024";
}

}  // namespace ob
