// What networks and programs have in common: checks of pictures, error messages, and the pieces of a picture
// that threads compute.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "instructions.h"
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
// Strips are cut narrower to fit the cache only down to MIN_STRIP_COLUMNS, and to MIN_STRIP_OVERLAPS times
// their overlap (measured: a network of 16 layers and 64 channels is a fifth faster in one strip of 960
// columns than in two).
constexpr int64_t MIN_STRIP_COLUMNS = 512, MIN_STRIP_OVERLAPS = 8;

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
    int64_t piece_size = std::max(unit, round_up((size + pieces - 1) / pieces, unit));
    if (piece_size > largest && largest >= unit) piece_size = largest / unit * unit;
    std::vector<Interval> result;
    for (int64_t begin = 0; begin < size; begin += piece_size)
        result.push_back({begin, std::min(size, begin + piece_size)});
    return result;
}

// Columns of a strip: as many strips of equal width as the cache asks for, but none narrower than allowed.
// bytes: of all kept rows, for each column. overlap: columns that two neighbouring strips both compute.
// Example: 28 KB a column: 4 MiB hold 149. With an overlap of 144, strips have at least 1152 columns: 1920
// columns are one strip, 2400 are two of 1200.
inline int64_t strip_for_cache(size_t bytes, int64_t width, int64_t overlap) {
    const int64_t fitting = std::max<int64_t>(1, int64_t(STRIP_CACHE_BYTES / std::max<size_t>(bytes, 1)));
    const int64_t narrowest = std::max(MIN_STRIP_COLUMNS, MIN_STRIP_OVERLAPS * overlap);
    const int64_t wanted = (width + fitting - 1) / fitting, allowed = std::max<int64_t>(1, width / narrowest);
    const int64_t strips = std::min(wanted, allowed);
    return (width + strips - 1) / strips;
}

// About how many columns two neighbouring strips both compute: a 3x3 layer lags one row behind its input and
// reads one column more on each side, by Winograd up to one tile. Example: lag 6, tiles of 4: 48.
inline int64_t strip_overlap(int64_t lag, int tile) { return 2 * tile * lag; }

// Rows of a band. Two bands for each thread, so that one slow thread does not delay the others; one band for
// each thread if the rows that neighbouring bands both compute would take too long.
// Example: 1000 rows, 4 threads, lag 6: 8 bands of 125 rows, because 125 >= 16 * 7 = 112. A lag of 16 gives
// 4 bands of 250 rows.
inline int64_t band_rows(int64_t height, int threads, int64_t lag) {
    int64_t bands = threads > 1 ? 2 * threads : 1;
    if (height / bands < 16 * (lag + 1)) bands = threads;
    return std::max<int64_t>((height + bands - 1) / bands, 4 * (lag + 1));
}

struct Piece {
    Interval columns, rows;
};

// Every piece of strips and bands, band after band.
inline std::vector<Piece> pieces_of(const std::vector<Interval> &strips, const std::vector<Interval> &bands) {
    std::vector<Piece> pieces;
    for (const Interval &band : bands)
        for (const Interval &strip : strips) pieces.push_back({strip, band});
    return pieces;
}

// Computes pieces on several threads. A piece computes by itself every row and column that its result depends
// on, so pieces share nothing. make: a strip (`Strip` or `ProgramStrip`) for a piece.
template <class Make>
const char *run_pieces(const std::vector<Piece> &pieces, int threads, ob_cancellation callback,
                       const Samples &source, const Samples &target, Make make) {
    Cancellation cancellation(callback);
    return parallel(pieces.size(), threads, cancellation, [&](size_t k, bool caller) -> const char * {
        auto strip = make(pieces[k]);
        if (!strip.complete()) return NOT_ENOUGH_MEMORY;
        for (int64_t steps = strip.steps(); steps > 0; steps--) {
            if (cancellation.requested(caller)) return CANCELLED;
            strip.step(source, 0, target, 0);
        }
        return nullptr;
    });
}

// A stream of one picture: the rows of the picture that it has read and the rows of the result that it has
// written, and the steps that each of its strips has done.
template <class AnyStrip>
struct StreamState {
    ob_format format;
    int threads;
    std::vector<AnyStrip> strips;
    int64_t rows_read = 0, rows_written = 0, steps_done = 0;

    // Opens a strip for each range of columns. make: a strip for a range.
    template <class Make>
    const char *open(const std::vector<Interval> &ranges, Make make) {
        for (const Interval &range : ranges) {
            strips.push_back(make(range));
            if (!strips.back().complete()) return NOT_ENOUGH_MEMORY;
        }
        return nullptr;
    }

    const char *check(int64_t count) const {
        if (count >= 0 && count <= format.height - rows_read) return nullptr;
        return "the stream is passed more rows than its picture has";
    }

    // Does the steps that `count` more rows of the picture allow. ready: rows of the result that are complete
    // after so many rows of the picture.
    template <class Ready>
    const char *push(int64_t count, const Samples &source, const Samples &target, ob_cancellation callback,
                     Ready ready) {
        // With the last row of the picture, the steps that finish the result are due as well.
        const int64_t first = rows_read, rows = rows_read + count, begin = steps_done;
        const int64_t until = rows >= format.height ? strips[0].steps() : rows;
        Cancellation cancellation(callback);
        // A thread takes longer to start than a few rows take to compute.
        const int used = (until - begin) * format.width < MIN_PIXELS_FOR_THREADS ? 1 : threads;
        const auto work = [&](size_t k, bool caller) -> const char * {
            for (int64_t step = begin; step < until; step++) {
                if (cancellation.requested(caller)) return CANCELLED;
                strips[k].step(source, first, target, rows_written);
            }
            return nullptr;
        };
        if (const char *error = parallel(strips.size(), used, cancellation, work)) return error;
        steps_done = until;
        rows_read = rows;
        rows_written = ready(rows);
        return nullptr;
    }
};

// Opens a network or a program for an instruction set; null, with the reason in `message`, if that fails.
// open: takes the kernels and what it has to open, and returns null or an error.
template <class Opened, class Open>
Opened *open_for(const char *instructions, char *message, size_t message_size, Open open) {
    std::unique_ptr<Opened> opened;
    const KernelSet *set = nullptr;
    const bool done = succeeds(message, message_size, [&] {
        set = kernel_set_named(instructions);
        return set ? open(set, opened) : "this processor does not support the instruction set ";
    });
    if (done) return opened.release();
    if (instructions && !set) append_message(message, message_size, instructions);
    return nullptr;
}

inline const char *check_threads(int32_t threads) {
    if (threads >= 1 && threads <= MAX_THREADS) return nullptr;
    return "the number of threads must be from 1 to 1024";
}

}  // namespace ob
