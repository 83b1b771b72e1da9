// The kernels of one instruction set, and the arguments that they take.
//
// A *cell* is 32 bits of a feature map: one float32 channel, two bfloat16 channels or four 8-bit channels of
// one pixel. A *group* is the channels that share a cell (it has nothing to do with grouped convolutions). A
// *plane* is a row of cells of one group. Networks that run by Winograd keep every row in *phases*, as many
// as a tile has outputs: with four of them, plane 4 g + p holds the pixels 4 t + p of group g. So the four
// outputs of a tile are four vectors, and no transform needs a shuffle.
//
// Example: 8 channels of int8, 10 pixels, four phases: 2 groups, 8 planes; plane 5 (group 1, phase 1) holds
// channels 4 to 7 of the pixels 1, 5 and 9.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ob {

// The build for WebAssembly, which every visitor downloads, leaves out networks in bfloat16, and WebAssembly
// has no fused multiply-add. All other builds have both. Without fused multiply-add, Fused and Strict
// arithmetic are the same.
#if defined(__wasm__)
constexpr bool HAS_BFLOAT16_NETWORKS = false, HAS_FUSED_INSTRUCTIONS = false;
#else
constexpr bool HAS_BFLOAT16_NETWORKS = true, HAS_FUSED_INSTRUCTIONS = true;
#endif

constexpr int MAX_PHASES = 4;
constexpr int MAX_COLUMNS = 31;  // of a kernel
constexpr int MARGIN = 16;  // cells before and after a plane's own: zeros of the feature map, or its edges

// The number of cells from plane to plane: whole cache lines, margins included, and an odd number of them, so
// that the planes of a pixel fall into different sets of the cache. Example: 88 cells: 96 + 32 = 128 are 8
// lines of 16, an even number, so it is 9 lines: 144.
constexpr size_t plane_stride(size_t cells) {
    const size_t lines = (cells + 15) / 16 + 2 * MARGIN / 16;
    return 16 * (lines | 1);
}

// The number of products of a Winograd tile with `tile_size` outputs and three taps.
constexpr int frequencies_of(int tile_size) { return tile_size + 2; }
constexpr int MAX_FREQUENCIES = frequencies_of(MAX_PHASES);
constexpr int MAX_TILE_VECTORS = 3;  // at most so many vectors of tiles are computed at once

// The integer weights of F(4, 3) are the rational weights times this factor, and so are the sums, which are
// divided by it exactly.
constexpr int WINOGRAD_SCALE = 24;

// How many channels a cell holds, and of which type: 1, 2 or 4.
enum class Cell { Float32, BFloat16, Int8 };

// A row of feature maps in memory, and how its 8-bit values are scaled.
struct FeatureRow {
    int32_t *base = nullptr;  // plane 0, cell 0
    size_t stride = 0;        // cells from plane to plane
    float scale = 1, inverse = 1;
    int32_t zero_point = 0;
    Cell kind = Cell::Float32;
};

// What follows a convolution: multiplier (int8), activation, the value before skips, skips, and the store.
struct Epilogue {
    const float *multiplier = nullptr, *slope = nullptr;
    bool sloped = true;    // false: every slope is 1
    bool clamped = false;  // values may exceed 32-bit integers, and are limited before they are rounded
    bool keeps_raw = false;
    FeatureRow raw, out;
    const FeatureRow *skips = nullptr;
    int skip_count = 0;
    int phases = 1;
};

// Fused: a product and a sum are rounded once, where the instruction set can. Strict: both are rounded.
// Int8: products of bytes. Int16: products of the 16-bit numbers into which Winograd's input transform turns
// bytes; see transform_int16.
enum class Arithmetic { Fused, Strict, BFloat16, Int8, Int16 };

// The number of rows of a tile of AMX, and of cells in each of its rows.
constexpr int TILE_SIZE = 16;

// The weights of a convolution for products of tiles; see tile_sums in tiles.h. For each column of the
// kernel, planes of the input are read in steps of `depth` planes. If the number of planes is not a multiple
// of `depth`, the last step overlaps the one before; the weights of planes that are read twice are zero
// there.
//
// Sums of integers do not depend on their order: there, the planes of all rows of the kernel are one sequence
// (row_steps = 0), and the rows may be rotated in memory. Example: 3 rows of 6 groups are 18 planes: two
// steps of 9. 3 rows of 7 groups are 21 planes: two steps of 11, the planes 0 to 10 and 10 to 20.
//
// Sums of floats are taken row by row, in the order of the kernel's rows, so that they do not depend on where
// a row lies: row_steps steps for each row, and one rotation. Example: 3 rows of 20 groups: two steps of 10
// for each row, six in all.
struct TileWeights {
    int steps = 0, depth = 0, row_steps = 0;
    // [rotation of the rows][block of 16 channels][column][step][channel][16 cells]
    const int32_t *weights = nullptr;
    const int32_t *initial_sums = nullptr;  // [block of 16 channels][channel][16 cells], float32 or int32

    // The first of the planes that a step reads, of `planes`: those of a row, or of all rows.
    int first_plane(int step, int planes) const {
        const int first = (row_steps ? step % row_steps : step) * depth;
        return first < planes - depth ? first : planes - depth;
    }
};

// One row of a convolution.
struct Convolution {
    Arithmetic arithmetic = Arithmetic::Fused;
    int out = 0;  // channels that are stored, padded like `weights`
    int channel_groups = 0, rows = 0, columns = 0, phases = 1;
    const int32_t *const *row = nullptr;          // [rows]: plane 0, cell 0
    size_t stride = 0;                            // cells from plane to plane
    ptrdiff_t tap[MAX_PHASES][MAX_COLUMNS] = {};  // from a group's first plane and the cell
    const int32_t *weights = nullptr;       // [block of channels][row][group][column][channel of the block]
    const int32_t *initial_sums = nullptr;  // [out], float32 or int32
    size_t cells = 0;                       // to compute, rounded up to whole vectors
    const TileWeights *tiles = nullptr;     // the same weights, where the set has products of tiles
    Epilogue epilogue;
};

// Sets where a row's columns are read, from phases, columns and stride. pad: columns before the first pixel.
// Example: four phases, three columns, stride 64, dilation 1, pad 1. For phase 0, column 0 reads x = -1,
// which is in phase 3 of the cell before: 3 * 64 - 1 = 191. For phase 3, column 2 reads x = 4, which is in
// phase 0 of the cell after: 0 * 64 + 1 = 1.
inline void set_taps(Convolution &c, int dilation, int pad) {
    for (int p = 0; p < c.phases; p++)
        for (int l = 0; l < c.columns; l++) {
            const int x = p + l * dilation - pad, phase = ((x % c.phases) + c.phases) % c.phases;
            c.tap[p][l] = ptrdiff_t(phase) * ptrdiff_t(c.stride) + (x - phase) / c.phases;
        }
}

// One row of a 3x3 convolution from transformed rows [vector of tiles][frequency][group][lane], by F(4, 3) of
// float32 or 16-bit integers, or F(2, 3) of bfloat16; a tile has as many outputs as there are phases.
struct Winograd {
    Arithmetic arithmetic = Arithmetic::Fused;
    int channel_groups = 0, out = 0;
    const int32_t *row[3] = {};        // null: a row of zeros
    const int32_t *weights = nullptr;  // [block of channels][frequency][row][group][channel of the block]
    const float *bias = nullptr;       // [out], of floats
    const int32_t *initial_sums = nullptr;  // [out], of integers, times WINOGRAD_SCALE
    int32_t *scratch = nullptr;             // [winograd_scratch(out, lanes)]
    size_t cells = 0;
    Epilogue epilogue;
};

// The number of cells of `Winograd::scratch`. Example: 16 channels, 8 lanes: 16 * 6 * 3 * 8 = 2304.
inline size_t winograd_scratch(int out, int lanes) {
    return size_t(out) * size_t(MAX_FREQUENCIES * MAX_TILE_VECTORS) * size_t(lanes);
}

// One row of a picture's samples.
struct PictureRow {
    const void *base = nullptr;        // of the row's first pixel
    int type = 0;                      // enum ob_type
    ptrdiff_t pixel = 1, channel = 1;  // samples from pixel to pixel and from channel to channel
};

struct KernelSet {
    const char *name;
    int lanes, max_block;  // pixels of a vector, channels of a block
    bool bfloat16;         // has instructions for bfloat16
    bool byte_dot;         // has a dot product of bytes; without it int8 networks run by Winograd in 16 bits

    void (*convolve)(const Convolution &);
    void (*winograd)(const Winograd &);
    // Planes in phases (stride, cells) -> a transformed row: of float32 or bfloat16 cells, or of cells of
    // two 16-bit numbers from planes of 8-bit cells.
    void (*transform)(Cell kind, const int32_t *planes, size_t stride, int groups, size_t cells,
                      int32_t *row);

    // read: `count` samples of one channel -> floats in [0, 1]. write: the reverse, clipped and rounded half
    // up; float samples are not changed.
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
    // Resampling along a row (see Resampler): enlarge writes one row for each phase, `row_stride` floats
    // apart; reduce writes one row. Output 0 multiplies values[0] by weights[0]. Both may write up to a
    // vector beyond `count`.
    void (*enlarge)(const float *values, const float *weights, int phases, int taps, size_t count,
                    float *rows, size_t row_stride);
    void (*reduce)(const float *values, const float *weights, int stride, int taps, size_t count,
                   float *result);
    // result[s x + p] = first[p][x] + second[p][x], where there is a second.
    void (*interleave)(const float *const *first, const float *const *second, int phases, size_t count,
                       float *result);

    double (*peak)(int precision, double seconds);
    bool tiles = false;  // has products of tiles of bytes and of bfloat16, and takes Convolution::tiles
};

// The number of output channels of the next block if `remaining` channels are left; packing and kernels both
// use it. Example: 7 channels in blocks of at most 4 are blocks of 4, 2 and 1.
inline int block_of(int remaining, int max_block) {
    int block = max_block;
    while (block > remaining) block /= 2;
    return block;
}

}  // namespace ob
