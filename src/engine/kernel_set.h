// The functions that every set of instructions has of its own, and the values that they work on.
//
// A *cell* is 32 bits of a feature map: one float32 channel, two bfloat16 channels or four 8-bit channels of
// one pixel. A *plane* is a row of cells of one group of channels. Rows of float32 networks are kept in four
// *phases*: plane 4 g + p holds the pixels 4 t + p, those of bfloat16 networks likewise in two, so that a
// one-dimensional Winograd transform needs no shuffling.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ob {

constexpr int MAX_PHASES = 4, MAX_COLUMNS = 31, MARGIN = 16;

// Products of a Winograd tile of so many outputs and three taps.
constexpr int frequencies_of(int tile) { return tile + 2; }
constexpr int MAX_FREQUENCIES = frequencies_of(MAX_PHASES);

// Where values go, or come from as a skip. `kind` also says how cells are packed.
enum class Cell { Float32, BFloat16, Int8 };

struct FeatureRow {
    int32_t *base = nullptr;  // plane 0, cell 0
    size_t stride = 0;        // cells from plane to plane
    float scale = 1, inverse = 1;
    int32_t zero_point = 0;
    Cell kind = Cell::Float32;
};

// What follows a convolution: times the multiplier (int8), the activation, the raw value kept, skips added,
// stored.
struct Epilogue {
    const float *multiplier = nullptr, *slope = nullptr;
    bool sloped = true;    // false: every slope is 1
    bool clamped = false;  // values may leave the range of 32-bit numbers
    bool keeps_raw = false;
    FeatureRow raw, out;
    const FeatureRow *skips = nullptr;
    int skip_count = 0;
    int phases = 1;
};

enum class Arithmetic { Fused, Strict, BFloat16, Int8 };

// One row of a convolution.
struct Convolution {
    Arithmetic arithmetic = Arithmetic::Fused;
    int out = 0;  // channels that are stored, padded as the packing of `weights` is
    int groups = 0, rows = 0, columns = 0, phases = 1;
    const int32_t *const *row = nullptr;          // [rows]: plane 0, cell 0
    size_t stride = 0;                            // cells from plane to plane
    ptrdiff_t tap[MAX_PHASES][MAX_COLUMNS] = {};  // from a group's first plane and the cell
    const int32_t *weights = nullptr;  // [block of channels][row][group][column][channel of the block]
    const int32_t *start = nullptr;    // [out]: float32 or int32
    size_t cells = 0;                  // to be made, rounded up to whole vectors
    Epilogue epilogue;
};

// One row of a 3x3 convolution from transformed rows [vector of tiles][frequency][group][lane], by F(4, 3) of
// float32 or F(2, 3) of bfloat16 cells; a tile has as many outputs as there are phases.
struct Winograd {
    Arithmetic arithmetic = Arithmetic::Fused;
    int groups = 0, out = 0;
    const int32_t *row[3] = {};        // null: a row of zeros
    const int32_t *weights = nullptr;  // [block of channels][frequency][row][group][channel of the block]
    const float *bias = nullptr;
    float *scratch = nullptr;  // MAX_FREQUENCIES * 8 * 4 * lanes
    size_t cells = 0;
    Epilogue epilogue;
};

struct PictureRow {
    const void *base = nullptr;        // of the row's first pixel
    int type = 0;                      // enum ob_type
    ptrdiff_t pixel = 1, channel = 1;  // samples from pixel to pixel and from channel to channel
};

struct KernelSet {
    const char *name;
    int lanes, max_block;  // pixels of a vector, channels of a block
    bool bfloat16;         // in hardware

    void (*convolve)(const Convolution &);
    void (*winograd)(const Winograd &);
    // Planes in phases (stride, cells) -> a transformed row, of float32 or bfloat16 cells.
    void (*transform)(Cell kind, const int32_t *planes, size_t stride, int groups, size_t cells,
                      int32_t *row);

    // `count` samples of one channel as floats in [0, 1]; back: clipped and rounded half up, floats as they
    // are.
    void (*read)(const PictureRow &, int channel, size_t count, float *values);
    void (*write)(const float *const *channels, int channel_count, int type, size_t count, void *row,
                  ptrdiff_t pixel, ptrdiff_t channel);
    // Studio Y, Cb, Cr of RGB and back, in place; grey <-> studio luma.
    void (*to_ycbcr)(float *r, float *g, float *b, size_t count);
    void (*to_rgb)(float *y, float *cb, float *cr, size_t count);
    void (*scale_and_shift)(float *values, float scale, float shift, size_t count);
    void (*luma)(const float *r, const float *g, const float *b, float *y, size_t count);

    // Pixels in order <-> planes of two or four phases.
    void (*split_phases)(const float *values, size_t count, int phases, float *planes, size_t stride);
    void (*join_phases)(const float *planes, size_t stride, int phases, size_t count, float *values);

    // sum = weight[k] * rows[k] over all k, in order.
    void (*weighted)(const float *const *rows, const float *weights, int taps, size_t count, float *sum);
    // Along a row: enlarging into one row for each phase, `apart` floats apart, and reducing (see Resampler);
    // values[0] is the tap of weight 0 of output 0. Both may write a vector beyond `count`.
    void (*enlarge)(const float *values, const float *weights, int phases, int taps, size_t count,
                    float *rows, size_t apart);
    void (*reduce)(const float *values, const float *weights, int stride, int taps, size_t count,
                   float *result);
    // result[s x + p] = first[p][x] + second[p][x], where there is a second.
    void (*interleave)(const float *const *first, const float *const *second, int phases, size_t count,
                       float *result);

    double (*peak)(int precision, double seconds);
};

// Blocks of output channels, as the packing of weights and the kernels agree on.
inline int block_of(int left, int max_block) {
    int block = max_block;
    while (block > left) block /= 2;
    return block;
}

}  // namespace ob
