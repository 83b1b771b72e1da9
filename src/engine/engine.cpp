// The C interface: whole pictures in pieces on several threads, and streams of rows.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "onebranch_engine.h"
#include "pieces.h"
#include "strip.h"

struct ob_network {
    ob::Network network;
};

struct ob_stream {
    const ob::Network &network;
    ob::StreamState<ob::Strip> state;
};

namespace ob {
namespace {

// Null, or what is wrong with the format for this network.
const char *check_format(const Network &network, const ob_format &format) {
    if (const char *error = check_picture(format)) return error;
    int channels = network.description.channels;
    bool fits = format.colour == OB_OWN || (format.colour == OB_RGB_OF_GREY && channels == 3) ||
                ((format.colour == OB_Y_OF_RGB || format.colour == OB_Y_OF_GREY) && channels == 1);
    return fits ? nullptr : "the colour conversion does not fit the network's channels";
}

int picture_channels(const Network &network, const ob_format &format) {
    if (format.colour == OB_OWN) return network.description.channels;
    return format.colour == OB_Y_OF_RGB ? 3 : 1;
}

// The samples of the picture of which the first of `rows` rows is at `input`.
Samples source_of(const Network &network, const ob_format &format, const void *input, int64_t rows) {
    return samples(const_cast<void *>(input), format.source, format.width, rows,
                   picture_channels(network, format), format.planar);
}

int64_t output_side(const Network &network, int64_t side) {
    const Description &d = network.description;
    return d.reduces() > 1 ? (side + d.scale - 1) / d.scale : side * d.enlarges();
}

Samples target_of(const Network &network, const ob_format &format, void *output, int64_t rows) {
    return samples(output, format.target, output_side(network, format.width), rows,
                   picture_channels(network, format), format.planar);
}

// Pieces begin at multiples of a Winograd tile (4 pixels) and of the cells that the network reduces.
int64_t unit_of(const Network &network) { return 4 * network.description.reduces(); }

// Bytes of the rows that a strip keeps, for each of its columns. Example: five layers of 16 float32 channels,
// each read by a layer that runs by Winograd, take 5 * 16 * 4 * 7 = 2240 bytes. Strips that fit the cache
// then have 2^22 / 2240 = 1872 columns, rounded down to 1856.
size_t bytes_of_column(const Network &network) {
    size_t bytes = 0;
    for (size_t k = 0; k + 1 < network.layers.size(); k++) {
        const PackedLayer &packed = network.layers[k];
        size_t sample_bytes = packed.out_cell == Cell::Float32    ? 4
                              : packed.out_cell == Cell::BFloat16 ? 2
                                                                  : 1;
        bool transformed = network.layers[k + 1].winograd;
        bytes +=
            size_t(packed.out) * sample_bytes * (transformed ? 7 : size_t(network.layers[k + 1].layer->rows));
    }
    return bytes;
}

// Columns of the narrowest strip into which a stream is cut to use its threads. Two neighbouring strips both
// compute 2 * (the sum of the column radii) columns, which is a quarter of such a strip.
int64_t min_stream_strip(const Network &network) {
    int64_t radii = 1;
    for (const Layer &layer : network.description.layers) radii += layer.column_radius();
    return 8 * radii;
}

std::vector<Piece> pieces_for(const Network &network, const ob_format &format, int threads, int64_t strip,
                              int64_t band) {
    int64_t unit = unit_of(network), reduces = network.description.reduces();
    int64_t width = round_up(format.width, reduces), height = round_up(format.height, reduces);
    int64_t columns = strip > 0 ? strip
                                : strip_for_cache(bytes_of_column(network), width,
                                                  strip_overlap(network.lag, network.phases));
    int64_t rows = band > 0 ? band : band_rows(height, threads, network.lag);
    return pieces_of(cut(width, std::max(columns, unit), unit),
                     cut(height, std::max(rows, reduces), reduces));
}

const char *run(const Network &network, const ob_format &format, const void *input, void *output, int threads,
                int64_t strip, int64_t band, ob_cancellation callback) {
    if (const char *error = check_format(network, format)) return error;
    if (const char *error = check_threads(threads)) return error;
    return run_pieces(pieces_for(network, format, threads, strip, band), threads, callback,
                      source_of(network, format, input, format.height),
                      target_of(network, format, output, output_side(network, format.height)),
                      [&](const Piece &piece) { return Strip(network, format, piece.columns, piece.rows); });
}

// Example, x2, lag 3: after 10 rows of the picture, 7 rows are complete, which are 14 rows of the result.
int64_t rows_ready(const ob_stream &stream, int64_t rows) {
    const Description &d = stream.network.description;
    const int64_t height = stream.state.format.height;
    if (rows >= height) return output_side(stream.network, height);
    int64_t lag = stream.state.strips[0].steps() - round_up(height, d.reduces());
    int64_t complete = std::max<int64_t>(0, rows - lag);
    return d.reduces() > 1 ? (complete + d.scale - 1) / d.scale : complete * d.enlarges();
}

const char *push(ob_stream &stream, const void *input, int64_t count, int64_t input_plane, void *output,
                 int64_t output_plane, ob_cancellation callback) {
    if (const char *error = stream.state.check(count)) return error;
    const ob_format &format = stream.state.format;
    return stream.state.push(count, source_of(stream.network, format, input, input_plane),
                             target_of(stream.network, format, output, output_plane), callback,
                             [&](int64_t rows) { return rows_ready(stream, rows); });
}

const char *open_stream(const ob_network *network, const ob_format &format, int32_t threads,
                        std::unique_ptr<ob_stream> &stream) {
    const Network &net = network->network;
    if (const char *error = check_format(net, format)) return error;
    if (const char *error = check_threads(threads)) return error;
    stream.reset(new ob_stream{net, {format, threads, {}}});
    int64_t reduces = net.description.reduces(), unit = unit_of(net);
    int64_t width = round_up(format.width, reduces), height = round_up(format.height, reduces);
    // A stream has no bands, because rows arrive one by one: its threads compute strips of columns.
    int64_t columns = strip_for_cache(bytes_of_column(net), width, strip_overlap(net.lag, net.phases));
    if (width / threads >= min_stream_strip(net))
        columns = std::min(columns, (width + threads - 1) / threads);
    return stream->state.open(
        cut(width, std::max(round_up(columns, unit), unit), unit),
        [&](const Interval &range) { return Strip(net, format, range, Interval{0, height}); });
}

const char *open_network(const uint8_t *bytes, size_t size, const KernelSet *set,
                         std::unique_ptr<ob_network> &network) {
    Description description;
    if (const char *error = parse(bytes, size, description)) return error;
    if (!HAS_BFLOAT16_NETWORKS && description.precision == Precision::BFloat16)
        return "this build of the engine has no bfloat16; use fp32 or int8";
    network.reset(new ob_network{Network(std::move(description), set)});
    return network->network.complete ? nullptr : NOT_ENOUGH_MEMORY;
}

}  // namespace
}  // namespace ob

extern "C" {

int32_t ob_version(void) { return OB_VERSION; }

const char *ob_instruction_sets(void) {
    static const auto &names = *[] {  // kept: threads may outlive main()
        auto *joined = new std::vector<char>;
        for (const ob::KernelSet &set : ob::kernel_sets()) {
            joined->insert(joined->end(), set.name, set.name + std::strlen(set.name));
            joined->push_back(' ');
        }
        joined->back() = 0;
        return joined;
    }();
    return names.data();
}

ob_network *ob_open(const uint8_t *description, size_t size, const char *instructions, char *message,
                    size_t message_size) {
    return ob::open_for<ob_network>(instructions, message, message_size,
                                    [&](const ob::KernelSet *set, std::unique_ptr<ob_network> &network) {
                                        return ob::open_network(description, size, set, network);
                                    });
}

void ob_close(ob_network *network) { delete network; }

int64_t ob_output_height(const ob_network *network, int64_t height) {
    return ob::output_side(network->network, height);
}
int64_t ob_output_width(const ob_network *network, int64_t width) {
    return ob::output_side(network->network, width);
}

int32_t ob_run(const ob_network *network, const ob_format *format, const void *input, void *output,
               int32_t threads, int64_t strip, int64_t band, ob_cancellation cancellation, char *message,
               size_t message_size) {
    return ob::succeeds(message, message_size, [&] {
        return ob::run(network->network, *format, input, output, threads, strip, band, cancellation);
    });
}

ob_stream *ob_stream_open(const ob_network *network, const ob_format *format, int32_t threads, char *message,
                          size_t message_size) {
    std::unique_ptr<ob_stream> stream;
    const bool opened = ob::succeeds(message, message_size,
                                     [&] { return ob::open_stream(network, *format, threads, stream); });
    return opened ? stream.release() : nullptr;
}

int64_t ob_stream_ready(const ob_stream *stream, int64_t rows) { return ob::rows_ready(*stream, rows); }

int32_t ob_stream_push(ob_stream *stream, const void *input, int64_t count, int64_t input_plane, void *output,
                       int64_t output_plane, ob_cancellation cancellation, char *message,
                       size_t message_size) {
    return ob::succeeds(message, message_size, [&] {
        return ob::push(*stream, input, count, input_plane, output, output_plane, cancellation);
    });
}

void ob_stream_close(ob_stream *stream) { delete stream; }

double ob_peak(const ob_network *network, int32_t precision, double seconds) {
    return network->network.kernels->peak(precision, seconds);
}

}  // extern "C"
