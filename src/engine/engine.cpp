// The C interface: whole pictures in pieces on several threads, and streams of rows.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "instructions.h"
#include "onebranch_engine.h"
#include "parallel.h"
#include "strip.h"

struct ob_network {
    ob::Network network;
};

struct ob_stream {
    const ob::Network &network;
    ob_format format;
    int threads;
    std::vector<ob::Strip> strips;
    int64_t taken = 0, given = 0, steps_done = 0;
};

namespace ob {
namespace {

constexpr int64_t MAX_PICTURE_COLUMNS = int64_t(1) << 24, MAX_PICTURE_ROWS = int64_t(1) << 40;
constexpr int MAX_THREADS = 1024;
// A push of fewer pixels than this to a stream runs on the calling thread alone.
constexpr int64_t MIN_PIXELS_FOR_THREADS = 4096;
// If the rows of a strip take more bytes than this, narrower strips are faster (measured).
constexpr size_t STRIP_CACHE_BYTES = 4 << 20;
// Strips are not made narrower than this only to fit the cache.
constexpr int64_t MIN_STRIP_COLUMNS = 512;

// Copies a line, cut to the size of the buffer, after what is in it.
void append_message(char *message, size_t message_size, const char *text) {
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

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// Null, or what is wrong with the format for this network.
const char *check_format(const Network &network, const ob_format &format) {
    if (format.height < 1 || format.width < 1) return "a picture has at least one row and one column";
    if (format.width > MAX_PICTURE_COLUMNS || format.height > MAX_PICTURE_ROWS)
        return "the picture is too large: at most 16,777,216 columns";
    for (int32_t type : {format.source, format.target})
        if (type < OB_UINT8 || type > OB_FLOAT32) return "unknown sample type";
    int channels = network.description.channels;
    bool fits = format.colour == OB_OWN || (format.colour == OB_RGB_OF_GREY && channels == 3) ||
                ((format.colour == OB_Y_OF_RGB || format.colour == OB_Y_OF_GREY) && channels == 1);
    return fits ? nullptr : "the colour conversion does not fit the network's channels";
}

int picture_channels(const Network &network, const ob_format &format) {
    if (format.colour == OB_OWN) return network.description.channels;
    return format.colour == OB_Y_OF_RGB ? 3 : 1;
}

// The samples of a picture; if it is planar, each plane has `rows` rows.
Samples samples(void *base, int type, int64_t width, int64_t rows, int channels, bool planar) {
    Samples samples;
    samples.base = base;
    samples.type = type;
    samples.row = planar ? width : width * channels;
    samples.pixel = planar ? 1 : channels;
    samples.channel = planar ? width * rows : 1;
    return samples;
}

int64_t output_side(const Network &network, int64_t side) {
    const Description &d = network.description;
    return d.reduces() > 1 ? (side + d.scale - 1) / d.scale : side * d.enlarges();
}

// [0, size) in pieces of at most `largest`, of which all but the last are multiples of `unit`.
// Example: cut(100, 48, 4) = [0, 36), [36, 72), [72, 100).
std::vector<Interval> cut(int64_t size, int64_t largest, int64_t unit) {
    int64_t pieces = std::max<int64_t>(1, (size + largest - 1) / largest);
    int64_t each = std::max(unit, round_up((size + pieces - 1) / pieces, unit));
    if (each > largest && largest >= unit) each = largest / unit * unit;
    std::vector<Interval> pieces_of_size;
    for (int64_t at = 0; at < size; at += each) pieces_of_size.push_back({at, std::min(size, at + each)});
    return pieces_of_size;
}

// Pieces begin at multiples of a Winograd tile (4 pixels) and of the cells that the network reduces.
int64_t unit_of(const Network &network) { return 4 * network.description.reduces(); }

// Columns of the widest strip whose rows stay in the cache; at least MIN_STRIP_COLUMNS, because neighbouring
// strips compute some columns twice. Example: five layers of 16 float32 channels, each read by a layer that
// runs by Winograd, take 5 * 16 * 4 * 7 = 2240 bytes per column; 2^22 / 2240 = 1872, rounded down to 1856.
int64_t strip_for_cache(const Network &network, int64_t width) {
    size_t each = 0;
    for (size_t k = 0; k + 1 < network.layers.size(); k++) {
        const PackedLayer &packed = network.layers[k];
        size_t bytes = packed.out_cell == Cell::Float32 ? 4 : packed.out_cell == Cell::BFloat16 ? 2 : 1;
        bool transformed = network.layers[k + 1].winograd;
        each += size_t(packed.out) * bytes * (transformed ? 7 : size_t(network.layers[k + 1].layer->rows));
    }
    int64_t fitting = int64_t(STRIP_CACHE_BYTES / std::max<size_t>(each, 1));
    if (fitting >= width) return width;
    return std::max(MIN_STRIP_COLUMNS, fitting / 64 * 64);
}

// Columns of the narrowest strip into which a stream is cut to use its threads. Two neighbouring strips both
// compute 2 * (the sum of the column radii) columns, which is a quarter of such a strip.
int64_t min_stream_strip(const Network &network) {
    int64_t radii = 1;
    for (const Layer &layer : network.description.layers) radii += layer.column_radius();
    return 8 * radii;
}

struct Task {
    Interval columns, rows;
};

// Example: 1000 rows, 4 threads, a network of lag 6: 8 bands of 125 rows, because 125 >= 16 * 7 = 112. A
// network of lag 16 gets 4 bands of 250 rows.
std::vector<Task> tasks_for(const Network &network, const ob_format &format, int threads, int64_t strip,
                            int64_t band) {
    int64_t unit = unit_of(network), reduces = network.description.reduces();
    int64_t width = round_up(format.width, reduces), height = round_up(format.height, reduces);
    int64_t columns = strip > 0 ? strip : strip_for_cache(network, width);
    std::vector<Interval> strips = cut(width, std::max(columns, unit), unit);
    int64_t rows = band;
    if (rows <= 0) {
        // Two bands for each thread, so that one slow thread does not delay the others; one band for each
        // thread if the rows that neighbouring bands both compute would take too long.
        int64_t bands = threads > 1 ? 2 * threads : 1;
        if (height / bands < 16 * (network.lag + 1)) bands = threads;
        rows = std::max<int64_t>((height + bands - 1) / bands, 4 * (network.lag + 1));
    }
    std::vector<Task> tasks;
    for (const Interval &b : cut(height, std::max(rows, reduces), reduces))
        for (const Interval &s : strips) tasks.push_back({s, b});
    return tasks;
}

const char *check_threads(int32_t threads) {
    if (threads >= 1 && threads <= MAX_THREADS) return nullptr;
    return "the number of threads must be from 1 to 1024";
}

const char *run(const Network &network, const ob_format &format, const void *input, void *output, int threads,
                int64_t strip, int64_t band, ob_cancellation callback) {
    if (const char *error = check_format(network, format)) return error;
    if (const char *error = check_threads(threads)) return error;
    int channels = picture_channels(network, format);
    Samples source = samples(const_cast<void *>(input), format.source, format.width, format.height, channels,
                             format.planar);
    Samples target = samples(output, format.target, output_side(network, format.width),
                             output_side(network, format.height), channels, format.planar);
    // A task computes by itself every row and column that its result depends on, so tasks share nothing.
    std::vector<Task> tasks = tasks_for(network, format, threads, strip, band);
    Cancellation cancellation(callback);
    return parallel(tasks.size(), threads, cancellation, [&](size_t k, bool caller) -> const char * {
        Strip piece(network, format, tasks[k].columns, tasks[k].rows);
        if (!piece.complete()) return NOT_ENOUGH_MEMORY;
        for (int64_t steps = piece.steps(); steps > 0; steps--) {
            if (cancellation.requested(caller)) return CANCELLED;
            piece.step(source, 0, target, 0);
        }
        return nullptr;
    });
}

// The number of steps that a stream's strips can take after `rows` rows of the picture have been passed.
int64_t steps_ready(const ob_stream &stream, int64_t rows) {
    return rows >= stream.format.height ? stream.strips[0].steps() : rows;
}

// Example, x2, lag 3: after 10 rows of the picture, 7 rows are complete, which are 14 rows of the result.
int64_t rows_ready(const ob_stream &stream, int64_t rows) {
    const Description &d = stream.network.description;
    if (rows >= stream.format.height) return output_side(stream.network, stream.format.height);
    int64_t lag = stream.strips[0].steps() - round_up(stream.format.height, d.reduces());
    int64_t made = std::max<int64_t>(0, rows - lag);
    return d.reduces() > 1 ? (made + d.scale - 1) / d.scale : made * d.enlarges();
}

const char *push(ob_stream &stream, const void *input, int64_t count, int64_t input_plane, void *output,
                 int64_t output_plane, ob_cancellation callback) {
    if (count < 0 || count > stream.format.height - stream.taken)
        return "the stream is passed more rows than its picture has";
    int channels = picture_channels(stream.network, stream.format);
    bool planar = stream.format.planar != 0;
    Samples source = samples(const_cast<void *>(input), stream.format.source, stream.format.width,
                             input_plane, channels, planar);
    Samples target = samples(output, stream.format.target, output_side(stream.network, stream.format.width),
                             output_plane, channels, planar);
    // With the last row of the picture, the steps that finish the result are due as well.
    int64_t first = stream.taken, until = steps_ready(stream, stream.taken + count),
            begin = stream.steps_done;
    Cancellation cancellation(callback);
    // A thread takes longer to start than a few rows take to compute.
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
    stream.given = rows_ready(stream, stream.taken);
    return nullptr;
}

const char *open_stream(const ob_network *network, const ob_format &format, int32_t threads,
                        std::unique_ptr<ob_stream> &stream) {
    const Network &net = network->network;
    if (const char *error = check_format(net, format)) return error;
    if (const char *error = check_threads(threads)) return error;
    stream.reset(new ob_stream{net, format, threads, {}});
    int64_t reduces = net.description.reduces(), unit = unit_of(net);
    int64_t width = round_up(format.width, reduces), height = round_up(format.height, reduces);
    // A stream has no bands, because rows arrive one by one: its threads compute strips of columns.
    int64_t columns = strip_for_cache(net, width);
    if (width / threads >= min_stream_strip(net))
        columns = std::min(columns, (width + threads - 1) / threads);
    for (const Interval &range : cut(width, std::max(round_up(columns, unit), unit), unit)) {
        stream->strips.emplace_back(net, format, range, Interval{0, height});
        if (!stream->strips.back().complete()) return NOT_ENOUGH_MEMORY;
    }
    return nullptr;
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
    std::unique_ptr<ob_network> network;
    const ob::KernelSet *set = nullptr;
    const bool opened = ob::succeeds(message, message_size, [&] {
        set = ob::kernel_set_named(instructions);
        return set ? ob::open_network(description, size, set, network)
                   : "this processor does not support the instruction set ";
    });
    if (opened) return network.release();
    if (instructions && !set) ob::append_message(message, message_size, instructions);
    return nullptr;
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
