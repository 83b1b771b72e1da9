// The layout of a description, little-endian, nothing between the fields and nothing after them:
//
//   8 bytes "OBNET\0\0\1"
//   int32 task, precision, channels, scale, layers, skips, residual (0 or 1)
//   resampler residual (if 1), resampler chroma:
//     int32 phases, stride, taps, before; float32 weight[phases * taps]
//   reduction: int32 kind (0 none, 1 average, 2 convolution); for 2:
//     int32 in, out, kernel, pad; float32 weight[out * in * kernel * kernel], bias[out]
//   each layer: int32 in, out, rows, columns, integer (0 or 1);
//     integer 0: float32 weight[out * in * rows * columns], bias[out]
//     integer 1: int8 weight[out * in * rows * columns], int32 initial_sums[out], float32 multiplier[out]
//     float32 slope[out]
//     precision int8: float32 scale, inverse, int32 zero_point of the output, the same of the raw output
//   each skip: int32 source, target
#include "description.h"

#include <cmath>

#include "kernel_set.h"
#include "reader.h"

namespace ob {
namespace {

constexpr int32_t MAX_LAYERS = 1024, MAX_SKIPS = 4096, MAX_CHANNELS = 4096;
constexpr int32_t MAX_KERNEL_SIZE = 31, MAX_RESAMPLING_TAPS = 64;
constexpr double MAX_ACCUMULATOR = 2147483647.0, MAX_ROUNDED_VALUE = 2147483000.0;

constexpr char DESCRIPTION_SIGNATURE[] = {'O', 'B', 'N', 'E', 'T', 0, 0, 1};

constexpr ReaderMessages MESSAGES = {
    "these bytes are not a network description of this version",
    "the description of the network is truncated",
    "the description of the network is damaged: a number is out of range",
    "the description of the network is damaged: a number is not finite",
    "the description of the network is damaged: a weight is not finite",
    "the description of the network is damaged: data follows its end",
};

Resampler read_resampler(Reader &reader, const Description &network) {
    Resampler result;
    result.phases = reader.integer(1, 4);
    result.stride = reader.integer(1, 4);
    result.taps = reader.integer(1, MAX_RESAMPLING_TAPS);
    result.before = reader.integer(0, result.taps - 1);
    result.weight = reader.numbers<float>(size_t(result.phases) * result.taps);
    // The margins of a row hold the pixels that are read beyond its ends.
    if (result.before > MARGIN || result.after() > MARGIN)
        reader.fail("the description of the network is damaged: a resampling reads too many pixels");
    if (result.phases != network.enlarges() || result.stride != network.reduces())
        reader.fail(
            "the description of the network is damaged: a resampling has another scale than the network");
    return result;
}

Reduction read_reduction(Reader &reader, const Description &network) {
    Reduction result;
    int32_t kind = reader.integer(0, 2);
    if ((kind != 0) != (network.task == Task::Downscale))
        reader.fail(
            "the description of the network is damaged: its task and its downsampling layer disagree");
    result.present = kind != 0;
    result.average = kind == 1;
    if (kind == 2) {
        result.in = reader.integer(1, MAX_CHANNELS);
        result.out = reader.integer(network.channels, network.channels);
        result.kernel = reader.integer(network.scale, MAX_KERNEL_SIZE);
        result.pad = reader.integer(0, result.kernel - 1);
        if (result.kernel != network.scale + 2 * result.pad)
            reader.fail(
                "the description of the network is damaged: its downsampling layer does not fit its scale");
        result.weight = reader.numbers<float>(uint64_t(result.out) * uint64_t(result.in) *
                                              uint64_t(result.kernel) * uint64_t(result.kernel));
        result.bias = reader.numbers<float>(result.out);
    }
    return result;
}

QuantParams read_quant_params(Reader &reader) {
    QuantParams params;
    params.scale = reader.number();
    params.inverse = reader.number();
    params.zero_point = reader.integer(0, 255);
    if (!(params.scale > 0) || !(params.inverse > 0))
        reader.fail("the description of the network is damaged: a scale is not above 0");
    return params;
}

// Accumulators, and values that are rounded without having been clamped, must fit 32 bits.
// Example: weights 100 and -50, initial sum 1000: at most 255 * 150 + 1000 = 39,250.
const char *check_sums(const Layer &layer, bool tail) {
    size_t weights_per_output = layer.integer_weight.size() / size_t(layer.out);
    for (size_t o = 0; o < size_t(layer.out); o++) {
        double sum = std::fabs(double(layer.initial_sums[o]));
        for (size_t k = 0; k < weights_per_output; k++)
            sum += 255.0 * std::abs(int(layer.integer_weight[o * weights_per_output + k]));
        if (sum > MAX_ACCUMULATOR)
            return "a layer is too large for int8: its accumulators leave 32 bits; use another precision";
        double largest_value =
            sum * std::fabs(double(layer.multiplier[o])) * std::fmax(1.0, std::fabs(double(layer.slope[o])));
        if (!tail && layer.sources.empty() && largest_value * layer.output.inverse > MAX_ROUNDED_VALUE)
            return "a layer's values are too large for int8; use another precision";
    }
    return nullptr;
}

Layer read_layer(Reader &reader, const Description &network, bool head, bool tail) {
    Layer layer;
    layer.in = reader.integer(1, MAX_CHANNELS);
    layer.out = reader.integer(1, MAX_CHANNELS);
    layer.rows = reader.integer(1, MAX_KERNEL_SIZE);
    layer.columns = reader.integer(1, MAX_KERNEL_SIZE);
    if (!(layer.rows & 1) || !(layer.columns & 1))
        reader.fail("the description of the network is damaged: a kernel is even");
    layer.integer = reader.integer(0, 1) != 0;
    bool quantized = network.precision == Precision::Int8;
    if (layer.integer != (quantized && !head))
        reader.fail("the description of the network is damaged: a layer's precision does not fit");
    const uint64_t count =
        uint64_t(layer.out) * uint64_t(layer.in) * uint64_t(layer.rows) * uint64_t(layer.columns);
    if (layer.integer) {
        layer.integer_weight = reader.numbers<int8_t>(count);
        layer.initial_sums = reader.numbers<int32_t>(layer.out);
        layer.multiplier = reader.numbers<float>(layer.out);
    } else {
        layer.weight = reader.numbers<float>(count);
        layer.bias = reader.numbers<float>(layer.out);
    }
    layer.slope = reader.numbers<float>(layer.out);
    if (quantized) {
        layer.output = read_quant_params(reader);
        layer.raw = read_quant_params(reader);
    }
    if (tail)
        for (float slope : layer.slope)
            if (slope != 1.0f)
                reader.fail("the description of the network is damaged: its tail has an activation");
    return layer;
}

void read_skips(Reader &reader, Description &network, int32_t count) {
    std::vector<bool> joined(network.layers.size(), false);
    int32_t last = int32_t(network.layers.size()) - 2;
    for (int32_t k = 0; k < count; k++) {
        int32_t source = reader.integer(0, last - 1), target = reader.integer(source + 1, last);
        if (network.layers[source].out != network.layers[target].out)
            return reader.fail("the description of the network is damaged: a skip joins unequal widths");
        network.layers[target].sources.push_back(source);
        joined[target] = true;
    }
    // A layer that is a source and a target has two values: with the skips that end at it, which the next
    // layer reads, and without, which the skips that start at it add.
    for (const Layer &layer : network.layers)
        for (int32_t source : layer.sources) network.layers[source].keeps_raw = joined[source];
}

const char *check_shapes(const Description &network) {
    int32_t width = network.channels;
    for (const Layer &layer : network.layers) {
        if (layer.in != width)
            return "the description of the network is damaged: a layer's input is not its predecessor's "
                   "output";
        width = layer.out;
    }
    int32_t tail = network.reduction.present && !network.reduction.average
                       ? network.reduction.in
                       : network.channels * network.enlarges() * network.enlarges();
    if (width != tail)
        return "the description of the network is damaged: its tail's width does not fit its task";
    return nullptr;
}

}  // namespace

const char *parse(const uint8_t *bytes, size_t size, Description &network) {
    Reader reader(bytes, size, MESSAGES);
    reader.magic(DESCRIPTION_SIGNATURE);
    network.task = Task(reader.integer(0, 2));
    network.precision = Precision(reader.integer(0, 2));
    network.channels = reader.integer(1, 3);
    if (network.channels == 2)
        reader.fail("the description of the network is damaged: pictures have 1 or 3 channels");
    network.scale = reader.integer(1, 4);
    if ((network.scale == 1) != (network.task == Task::Denoise))
        reader.fail("the description of the network is damaged: its task and its scale disagree");
    int32_t layers = reader.integer(2, MAX_LAYERS), skips = reader.integer(0, MAX_SKIPS);
    network.has_residual = reader.integer(0, 1) != 0;
    if (network.has_residual) network.residual = read_resampler(reader, network);
    network.chroma = read_resampler(reader, network);
    network.reduction = read_reduction(reader, network);
    for (int32_t k = 0; k < layers && !reader.error(); k++)
        network.layers.push_back(read_layer(reader, network, k == 0, k == layers - 1));
    if (skips && layers < 3)
        reader.fail("the description of the network is damaged: there is nothing for a skip to join");
    if (!reader.error()) read_skips(reader, network, skips);
    if (reader.error()) return reader.error();
    for (const Layer &layer : network.layers)
        if (layer.integer)
            if (const char *error = check_sums(layer, &layer == &network.layers.back())) return error;
    if (const char *error = check_shapes(network)) return error;
    reader.end();
    return reader.error();
}

}  // namespace ob
