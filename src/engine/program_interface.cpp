// The C interface for programs: whole pictures in pieces on several threads, and streams of rows.
#include "onebranch_program.h"

#include <memory>
#include <utility>
#include <vector>

#include "instructions.h"
#include "pieces.h"
#include "program_strip.h"

struct ob_program {
    ob::PackedProgram packed;
};

struct ob_program_stream {
    const ob::PackedProgram &packed;
    ob::StreamState<ob::ProgramStrip> state;
};

namespace ob {
namespace {

// Pieces begin at multiples of this many columns, so that those of every value begin at a Winograd tile.
int64_t unit_of(const Program &program) { return int64_t(MAX_PHASES) * program.block; }

const char *check_program_format(const ob_format &format) {
    if (const char *error = check_picture(format)) return error;
    return format.colour == OB_OWN ? nullptr : "a program converts no colours";
}

Samples source_of(const PackedProgram &packed, const ob_format &format, const void *input, int64_t rows) {
    return samples(const_cast<void *>(input), format.source, format.width, rows, packed.program.channels,
                   format.planar);
}

Samples target_of(const PackedProgram &packed, const ob_format &format, void *output, int64_t rows) {
    return samples(output, format.target, format.width * packed.program.output_scale(), rows,
                   packed.program.output_channels, format.planar);
}

// Bytes of the rows that the largest convolution reads and writes for ROWS_AT_ONCE rows of the picture, for
// each of its columns: they should stay in the cache meanwhile. By Winograd it reads 3 rows of 6 transformed
// cells for 4 pixels of each channel.
size_t bytes_of_column(const PackedProgram &packed) {
    size_t largest = 0;
    for (size_t k = 0; k < packed.program.nodes.size(); k++) {
        const ProgramNode &node = packed.program.nodes[k];
        if (node.kind != NodeKind::Convolution) continue;
        const size_t read = size_t(node.inputs[0].count),
                     rows = size_t(packed.program.blocks_at_once() * node.rate);
        const size_t floats = (read + size_t(node.channels)) * rows + read * size_t(node.rows - 1);
        const size_t transformed = packed.layers[k][0].winograd ? read * 18 : 0;
        const size_t of_block = (floats * sizeof(float) + transformed) * size_t(node.rate);
        largest = std::max(largest, of_block / size_t(packed.program.block));
    }
    return largest;
}

int64_t strip_columns(const PackedProgram &packed, int64_t width) {
    return strip_for_cache(bytes_of_column(packed), width, strip_overlap(packed.program.lag(), MAX_PHASES));
}

std::vector<Piece> pieces_for(const PackedProgram &packed, const ob_format &format, int threads,
                              int64_t strip, int64_t band) {
    const int64_t columns = strip > 0 ? strip : strip_columns(packed, format.width);
    const int64_t rows = band > 0 ? band : band_rows(format.height, threads, packed.program.lag());
    const int64_t unit = unit_of(packed.program), block = packed.program.block;
    return pieces_of(cut(format.width, std::max(columns, unit), unit),
                     cut(format.height, std::max(rows, block), block));
}

const char *run_program(const PackedProgram &packed, const ob_format &format, const void *input, void *output,
                        int threads, int64_t strip, int64_t band, ob_cancellation callback) {
    if (const char *error = check_program_format(format)) return error;
    if (const char *error = check_threads(threads)) return error;
    return run_pieces(
        pieces_for(packed, format, threads, strip, band), threads, callback,
        source_of(packed, format, input, format.height),
        target_of(packed, format, output, format.height * packed.program.output_scale()),
        [&](const Piece &piece) { return ProgramStrip(packed, format, piece.columns, piece.rows); });
}

// Example, x2, lag 3, four rows at once: after 10 rows of the picture, 8 have been used, and 5 rows are
// complete, which are 10 rows of the result.
int64_t program_rows_ready(const ob_program_stream &stream, int64_t rows) {
    const Program &program = stream.packed.program;
    const int64_t all = stream.state.format.height * program.output_scale();
    if (rows >= stream.state.format.height) return all;
    const int32_t value = program.output.value;
    const int64_t together = stream.packed.rows_at_once();
    const int64_t blocks = rows / together * together / program.block;
    const int64_t computed = blocks * program.rate_of(value) - program.lag_of(value);
    return std::min(all, std::max<int64_t>(0, computed) * program.scale);
}

const char *push_rows(ob_program_stream &stream, const void *input, int64_t count, int64_t input_plane,
                      void *output, int64_t output_plane, ob_cancellation callback) {
    if (const char *error = stream.state.check(count)) return error;
    const ob_format &format = stream.state.format;
    return stream.state.push(count, source_of(stream.packed, format, input, input_plane),
                             target_of(stream.packed, format, output, output_plane), callback,
                             [&](int64_t rows) { return program_rows_ready(stream, rows); });
}

const char *open_program_stream(const PackedProgram &packed, const ob_format &format, int32_t threads,
                                std::unique_ptr<ob_program_stream> &stream) {
    if (const char *error = check_program_format(format)) return error;
    if (const char *error = check_threads(threads)) return error;
    stream.reset(new ob_program_stream{packed, {format, threads, {}}});
    int64_t columns = strip_columns(packed, format.width);
    // As many strips as threads, unless the columns that neighbours both compute were more than a quarter.
    if (format.width / threads >= 8 * (packed.program.lag() + 1))
        columns = std::min(columns, (format.width + threads - 1) / threads);
    const int64_t unit = unit_of(packed.program);
    return stream->state.open(cut(format.width, std::max(round_up(columns, unit), unit), unit),
                              [&](const Interval &range) {
                                  return ProgramStrip(packed, format, range, Interval{0, format.height});
                              });
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
    return ob::open_for<ob_program>(instructions, message, message_size,
                                    [&](const ob::KernelSet *set, std::unique_ptr<ob_program> &program) {
                                        return ob::open_program(bytes, size, set, program);
                                    });
}

void ob_program_close(ob_program *program) { delete program; }

int64_t ob_program_output_height(const ob_program *program, int64_t height) {
    return height * program->packed.program.output_scale();
}
int64_t ob_program_output_width(const ob_program *program, int64_t width) {
    return width * program->packed.program.output_scale();
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
