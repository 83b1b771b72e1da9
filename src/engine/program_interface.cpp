// The C interface for programs: whole pictures in pieces on several threads, and streams of rows.
#include "onebranch_program.h"

#include <memory>
#include <utility>
#include <vector>

#include "instructions.h"
#include "program_pieces.h"
#include "program_strip.h"

struct ob_program {
    ob::PackedProgram packed;
};

struct ob_program_stream {
    const ob::PackedProgram &packed;
    ob_format format;
    int threads;
    std::vector<ob::ProgramStrip> strips;
    int64_t taken = 0, given = 0, steps_done = 0;
};

namespace ob {
namespace {

constexpr int64_t UNIT = MAX_PHASES;  // pieces begin at multiples of a Winograd tile

const char *check_program_format(const ob_format &format) {
    if (const char *error = check_picture(format)) return error;
    return format.colour == OB_OWN ? nullptr : "a program converts no colours";
}

Samples source_of(const PackedProgram &packed, const ob_format &format, const void *input, int64_t rows) {
    return samples(const_cast<void *>(input), format.source, format.width, rows, packed.program.channels,
                   format.planar);
}

Samples target_of(const PackedProgram &packed, const ob_format &format, void *output, int64_t rows) {
    return samples(output, format.target, format.width * packed.program.scale, rows,
                   packed.program.output_channels, format.planar);
}

// Columns of the widest strip whose rows stay in the cache; see strip_for_cache in engine.cpp. A convolution
// that runs by Winograd keeps 3 rows of 6 products for 4 pixels of each channel of its input.
int64_t program_strip_for_cache(const PackedProgram &packed, int64_t width) {
    const Program &program = packed.program;
    size_t each = 0;
    for (size_t v = 0; v < packed.depths.size(); v++)
        each += size_t(packed.depths[v]) * size_t(program.channels_of(int32_t(v))) * sizeof(float);
    for (size_t k = 0; k < program.nodes.size(); k++)
        if (!packed.layers[k].empty() && packed.layers[k][0].winograd)
            each += size_t(program.nodes[k].inputs[0].count) * 18;
    const int64_t fitting = int64_t(STRIP_CACHE_BYTES / std::max<size_t>(each, 1));
    return fitting >= width ? width : std::max(MIN_STRIP_COLUMNS, fitting / 64 * 64);
}

// As tasks_for in engine.cpp.
std::vector<Piece> pieces_for(const PackedProgram &packed, const ob_format &format, int threads,
                              int64_t strip, int64_t band) {
    const int64_t lag = packed.program.lag();
    const int64_t columns = strip > 0 ? strip : program_strip_for_cache(packed, format.width);
    int64_t rows = band;
    if (rows <= 0) {
        int64_t bands = threads > 1 ? 2 * threads : 1;
        if (format.height / bands < 16 * (lag + 1)) bands = threads;
        rows = std::max<int64_t>((format.height + bands - 1) / bands, 4 * (lag + 1));
    }
    std::vector<Piece> pieces;
    const std::vector<Interval> strips = cut(format.width, std::max(columns, UNIT), UNIT);
    for (const Interval &b : cut(format.height, rows, 1))
        for (const Interval &s : strips) pieces.push_back({s, b});
    return pieces;
}

const char *run_program(const PackedProgram &packed, const ob_format &format, const void *input, void *output,
                        int threads, int64_t strip, int64_t band, ob_cancellation callback) {
    if (const char *error = check_program_format(format)) return error;
    if (const char *error = check_threads(threads)) return error;
    const Samples source = source_of(packed, format, input, format.height);
    const Samples target = target_of(packed, format, output, format.height * packed.program.scale);
    const std::vector<Piece> pieces = pieces_for(packed, format, threads, strip, band);
    Cancellation cancellation(callback);
    return parallel(pieces.size(), threads, cancellation, [&](size_t k, bool caller) -> const char * {
        ProgramStrip piece(packed, format, pieces[k].columns, pieces[k].rows);
        if (!piece.complete()) return NOT_ENOUGH_MEMORY;
        for (int64_t steps = piece.steps(); steps > 0; steps--) {
            if (cancellation.requested(caller)) return CANCELLED;
            piece.step(source, 0, target, 0);
        }
        return nullptr;
    });
}

// Example, x2, lag 3: after 10 rows of the picture, 7 rows are complete, which are 14 rows of the result.
int64_t program_rows_ready(const ob_program_stream &stream, int64_t rows) {
    const Program &program = stream.packed.program;
    if (rows >= stream.format.height) return stream.format.height * program.scale;
    return std::max<int64_t>(0, rows - program.lag()) * program.scale;
}

const char *push_rows(ob_program_stream &stream, const void *input, int64_t count, int64_t input_plane,
                      void *output, int64_t output_plane, ob_cancellation callback) {
    if (count < 0 || count > stream.format.height - stream.taken)
        return "the stream is passed more rows than its picture has";
    const Samples source = source_of(stream.packed, stream.format, input, input_plane);
    const Samples target = target_of(stream.packed, stream.format, output, output_plane);
    // With the last row of the picture, the steps that finish the result are due as well.
    const bool last = stream.taken + count >= stream.format.height;
    const int64_t first = stream.taken, begin = stream.steps_done;
    const int64_t until = last ? stream.strips[0].steps() : stream.taken + count;
    Cancellation cancellation(callback);
    const int threads = (until - begin) * stream.format.width < MIN_PIXELS_FOR_THREADS ? 1 : stream.threads;
    const auto work = [&](size_t k, bool caller) -> const char * {
        for (int64_t step = begin; step < until; step++) {
            if (cancellation.requested(caller)) return CANCELLED;
            stream.strips[k].step(source, first, target, stream.given);
        }
        return nullptr;
    };
    if (const char *error = parallel(stream.strips.size(), threads, cancellation, work)) return error;
    stream.steps_done = until;
    stream.taken += count;
    stream.given = program_rows_ready(stream, stream.taken);
    return nullptr;
}

const char *open_program_stream(const PackedProgram &packed, const ob_format &format, int32_t threads,
                                std::unique_ptr<ob_program_stream> &stream) {
    if (const char *error = check_program_format(format)) return error;
    if (const char *error = check_threads(threads)) return error;
    stream.reset(new ob_program_stream{packed, format, threads, {}});
    int64_t columns = program_strip_for_cache(packed, format.width);
    // As many strips as threads, unless the columns that neighbours both compute were more than a quarter.
    if (format.width / threads >= 8 * (packed.program.lag() + 1))
        columns = std::min(columns, (format.width + threads - 1) / threads);
    for (const Interval &range : cut(format.width, std::max(round_up(columns, UNIT), UNIT), UNIT)) {
        stream->strips.emplace_back(packed, format, range, Interval{0, format.height});
        if (!stream->strips.back().complete()) return NOT_ENOUGH_MEMORY;
    }
    return nullptr;
}

const char *open_program(const uint8_t *bytes, size_t size, const KernelSet *set,
                         std::unique_ptr<ob_program> &program) {
    Program parsed;
    if (const char *error = parse_program(bytes, size, parsed)) return error;
    program.reset(new ob_program{PackedProgram(std::move(parsed), set)});
    return program->packed.complete ? nullptr : NOT_ENOUGH_MEMORY;
}

}  // namespace
}  // namespace ob

extern "C" {

ob_program *ob_program_open(const uint8_t *bytes, size_t size, const char *instructions, char *message,
                            size_t message_size) {
    std::unique_ptr<ob_program> program;
    const ob::KernelSet *set = nullptr;
    const bool opened = ob::succeeds(message, message_size, [&] {
        set = ob::kernel_set_named(instructions);
        return set ? ob::open_program(bytes, size, set, program)
                   : "this processor does not support the instruction set ";
    });
    if (opened) return program.release();
    if (instructions && !set) ob::append_message(message, message_size, instructions);
    return nullptr;
}

void ob_program_close(ob_program *program) { delete program; }

int64_t ob_program_output_height(const ob_program *program, int64_t height) {
    return height * program->packed.program.scale;
}
int64_t ob_program_output_width(const ob_program *program, int64_t width) {
    return width * program->packed.program.scale;
}

int32_t ob_program_run(const ob_program *program, const ob_format *format, const void *input, void *output,
                       int32_t threads, int64_t strip, int64_t band, ob_cancellation cancellation,
                       char *message, size_t message_size) {
    return ob::succeeds(message, message_size, [&] {
        return ob::run_program(program->packed, *format, input, output, threads, strip, band, cancellation);
    });
}

ob_program_stream *ob_program_stream_open(const ob_program *program, const ob_format *format, int32_t threads,
                                          char *message, size_t message_size) {
    std::unique_ptr<ob_program_stream> stream;
    const bool opened = ob::succeeds(message, message_size, [&] {
        return ob::open_program_stream(program->packed, *format, threads, stream);
    });
    return opened ? stream.release() : nullptr;
}

int64_t ob_program_stream_ready(const ob_program_stream *stream, int64_t rows) {
    return ob::program_rows_ready(*stream, rows);
}

int32_t ob_program_stream_push(ob_program_stream *stream, const void *input, int64_t count,
                               int64_t input_plane, void *output, int64_t output_plane,
                               ob_cancellation cancellation, char *message, size_t message_size) {
    return ob::succeeds(message, message_size, [&] {
        return ob::push_rows(*stream, input, count, input_plane, output, output_plane, cancellation);
    });
}

void ob_program_stream_close(ob_program_stream *stream) { delete stream; }

double ob_program_peak(const ob_program *program, int32_t precision, double seconds) {
    return program->packed.kernels->peak(precision, seconds);
}

int32_t ob_program_unary(const char *instructions, int32_t operation, const float *from, float a, float b,
                         size_t count, float *to) {
    const ob::KernelSet *set = ob::kernel_set_named(instructions);
    if (!set || operation < 0 || operation > int32_t(ob::Unary::Last)) return 0;
    ob::program_kernels_for(*set).unary(ob::Unary(operation), from, a, b, count, to);
    return 1;
}

}  // extern "C"
