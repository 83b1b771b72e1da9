// A network, parsed from untrusted bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ob {

enum class Task { Upscale = 0, Downscale = 1, Denoise = 2 };
enum class Precision { Float32 = 0, BFloat16 = 1, Int8 = 2 };

// Quantization parameters: real = scale * (q - zero_point). inverse: 1 / scale, or 1 where the multiplier
// contains it.
struct QuantParams {
    float scale = 1, inverse = 1;
    int32_t zero_point = 0;
};

// One convolution with its activation f < 0 ? f * slope : f. Weights are [out][in][rows][columns].
struct Layer {
    int32_t in = 0, out = 0, rows = 0, columns = 0;
    std::vector<float> weight, bias, slope;
    // True in int8 networks, except in the head: products are summed exactly, then the multiplier is applied.
    bool integer = false;
    std::vector<int8_t> integer_weight;
    std::vector<int32_t> initial_sums;  // the bias, less what the input's zero point adds
    std::vector<float> multiplier;
    // int8: of the output that the next layer reads, and of the output before skips are added.
    QuantParams output, raw;
    bool keeps_raw = false;        // skips start and end here: the output before skips is stored too
    std::vector<int32_t> sources;  // layers whose raw output is added to this one's

    int32_t row_radius() const { return rows / 2; }
    int32_t column_radius() const { return columns / 2; }
};

// Resizing along an axis. Enlarging gives `phases` outputs for each input position x; output p is the sum of
// weight[p][k] * input[x + k - before]. Reducing by `stride`: one output, of input[x * stride + k - before].
struct Resampler {
    int32_t phases = 1, stride = 1, taps = 1, before = 0;
    std::vector<float> weight;  // [phases][taps]
    int32_t after() const { return taps - 1 - before; }
};

// The downsampling layer after the tail: the average of scale x scale values, or a convolution of that
// stride.
struct Reduction {
    bool present = false, average = false;
    int32_t in = 0, out = 0, kernel = 0, pad = 0;
    std::vector<float> weight, bias;  // [out][in][kernel][kernel]
};

struct Description {
    Task task = Task::Upscale;
    Precision precision = Precision::Float32;
    int32_t channels = 1, scale = 1;
    std::vector<Layer> layers;  // head, blocks, tail
    Reduction reduction;
    bool has_residual = false;
    Resampler residual, chroma;

    int32_t enlarges() const { return task == Task::Upscale ? scale : 1; }
    int32_t reduces() const { return task == Task::Downscale ? scale : 1; }
};

// Reads a description into `network`. The bytes must be exactly one valid description. Returns null, or what
// is wrong: one line in static storage.
const char *parse(const uint8_t *bytes, size_t size, Description &network);

}  // namespace ob
