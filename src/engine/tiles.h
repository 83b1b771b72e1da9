// Direct convolutions by products of tiles, written once over a struct S of SIMD operations that also has
// tiles (amx.h).
//
// A tile is a register of up to 16 rows of 64 bytes. tile_product multiplies a tile of weights (16 output
// channels by up to 16 cells) by a tile of the input (as many cells by 16 pixels) and adds the products to a
// tile of sums (16 output channels by 16 pixels): 256 dot products of up to 64 bytes by one instruction. The
// rows of the input's tile are planes of the feature map, so that the layout of all other kernels serves.
#pragma once

#include <utility>

#include "kernels.h"

namespace ob {
namespace {

// The tiles of a kernel: up to four of sums, one of weights for each block of 16 output channels, and two of
// the input in turn. Sums of block b and vector p: tile 2 * b + p.
constexpr int TILE_OF_WEIGHTS = 4, TILE_OF_INPUT = 6, SUM_TILES = 4;
constexpr int CELLS_OF_TILE = TILE_SIZE * TILE_SIZE;

// Calls function(k) for k from 0 to N - 1, as a std::integral_constant: numbers of tiles are part of the
// instructions.
template <class Function, int... K>
OB_INLINE void for_each_of(Function function, std::integer_sequence<int, K...>) {
    (function(std::integral_constant<int, K>()), ...);
}
template <int N, class Function>
OB_INLINE void for_each_constant(Function function) {
    for_each_of(function, std::make_integer_sequence<int, N>());
}

// Which row of the kernel comes first in memory, or -1 if the rows that it reads do not lie one after
// another, as they do in a ring of as many rows as the kernel has. Example: a ring of three rows holds the
// rows 3, 4 and 2. A kernel that reads 2, 3 and 4 finds its row 1 first: the rotation is 1.
inline int rotation_of(const Convolution &c) {
    const ptrdiff_t row_size = ptrdiff_t(c.channel_groups) * ptrdiff_t(c.stride);
    int first = 0;
    for (int r = 1; r < c.rows; r++)
        if (c.row[r] < c.row[first]) first = r;
    for (int r = 0; r < c.rows; r++)
        if (c.row[r] != c.row[first] + ((r - first + c.rows) % c.rows) * row_size) return -1;
    return first;
}

// What all tiles of a row have in common. weights: of the rotation and the first block. in: the first plane.
struct TileRow {
    const Convolution &c;
    const int32_t *weights, *in;
    size_t block_size;  // cells of the weights of a block of 16 output channels
};

// The sums of `BLOCKS` blocks of 16 output channels for `VECTORS` vectors of 16 pixels, which end in `sums`
// [block][vector][channel][pixel].
//
// Worked example: int8, a 3x3 kernel, 16 input and 16 output channels: three rows of four groups are 12
// planes. For column 0, the tile of the input holds the cells of pixels -1 to 14 of all 12 planes, the tile
// of weights for each of 16 output channels the 12 cells of weights of this column, and their product adds 12
// * 4 products to each of 16 * 16 sums. After three columns the sums are complete: three instructions for
// 36,864 products.
template <class S, class A, int BLOCKS, int VECTORS>
OB_INLINE void tile_sums(const TileRow &row, int block, size_t cell, int32_t *sums) {
    const Convolution &c = row.c;
    const TileWeights &tiles = *c.tiles;
    const int planes = c.rows * c.channel_groups;
    for_each_constant<BLOCKS>([&](auto b) {
        for_each_constant<VECTORS>([&](auto p) {
            S::template load_tile<2 * b + p>(tiles.initial_sums + (block + b) * CELLS_OF_TILE, TILE_SIZE);
        });
    });
    const int32_t *weights = row.weights + size_t(block) * row.block_size;
    for (int l = 0; l < c.columns; l++)
        for (int s = 0; s < tiles.steps; s++, weights += CELLS_OF_TILE) {
            for_each_constant<BLOCKS>([&](auto b) {
                S::template load_tile<TILE_OF_WEIGHTS + b>(weights + b * row.block_size, TILE_SIZE);
            });
            const int32_t *in =
                row.in + ptrdiff_t(tiles.first_plane(s, planes)) * ptrdiff_t(c.stride) + c.tap[0][l] + cell;
            for_each_constant<VECTORS>([&](auto p) {
                S::template load_tile<TILE_OF_INPUT + p % 2>(in + p * TILE_SIZE, c.stride);
                for_each_constant<BLOCKS>([&](auto b) {
                    A::template tile_product<2 * b + p, TILE_OF_WEIGHTS + b, TILE_OF_INPUT + p % 2>();
                });
            });
        }
    for_each_constant<BLOCKS>([&](auto b) {
        for_each_constant<VECTORS>(
            [&](auto p) { S::template store_tile<2 * b + p>(sums + (b * VECTORS + p) * CELLS_OF_TILE); });
    });
}

// The epilogue of the sums of one vector of 16 pixels, for the output channels of one block.
template <class S, class A>
OB_INLINE void tile_outputs(const Convolution &c, int block, size_t cell, const int32_t *sums) {
    const int first = block * TILE_SIZE, channels = c.out - first < TILE_SIZE ? c.out - first : TILE_SIZE;
    for (size_t x = 0; x < TILE_SIZE && cell + x < c.cells; x += S::W)
        for_each_block<S>(channels, [&](auto width, int channel) {
            constexpr int O = decltype(width)::value;
            typename S::F f[O];
            OB_UNROLL for (int o = 0; o < O; o++) f[o] = A::tile_value(
                sums + size_t(channel + o) * TILE_SIZE + x, c.epilogue.multiplier, first + channel + o);
            finish<S, O>(c.epilogue, f, first + channel, 0, cell + x);
        });
}

// `BLOCKS` blocks of 16 output channels from `block` on, for a whole row.
template <class S, class A, int BLOCKS>
void tile_blocks(const TileRow &row, int block) {
    const Convolution &c = row.c;
    constexpr int VECTORS = SUM_TILES / BLOCKS;
    alignas(64) int32_t sums[SUM_TILES * CELLS_OF_TILE];
    const auto outputs = [&](size_t cell, int vectors) {
        for (int p = 0; p < vectors; p++)
            for (int b = 0; b < BLOCKS; b++)
                tile_outputs<S, A>(c, block + b, cell + size_t(p) * TILE_SIZE,
                                   sums + (b * vectors + p) * CELLS_OF_TILE);
    };
    size_t cell = 0;
    for (; cell + VECTORS * TILE_SIZE <= c.cells; cell += VECTORS * TILE_SIZE) {
        tile_sums<S, A, BLOCKS, VECTORS>(row, block, cell, sums);
        outputs(cell, VECTORS);
    }
    // The last vector of tiles may be longer than the row: what it computes beyond is not stored.
    for (; cell < c.cells; cell += TILE_SIZE) {
        tile_sums<S, A, BLOCKS, 1>(row, block, cell, sums);
        outputs(cell, 1);
    }
}

// One row of a convolution, of whose kernel row `rotation` reads the row that comes first in memory.
template <class S, class A>
void convolve_tiles(const Convolution &c, int rotation) {
    const int blocks = (c.out + TILE_SIZE - 1) / TILE_SIZE;
    const size_t block_size = size_t(c.columns) * size_t(c.tiles->steps) * CELLS_OF_TILE;
    const int32_t *weights = c.tiles->weights + size_t(rotation) * size_t(blocks) * block_size;
    const TileRow row = {c, weights, c.row[rotation], block_size};
    for (int block = 0; block < blocks;) {
        const int channels = c.out - block * TILE_SIZE;
        if (channels > TILE_SIZE) {
            S::configure_tiles(TILE_SIZE, channels < 2 * TILE_SIZE ? channels - TILE_SIZE : TILE_SIZE,
                               c.tiles->depth);
            tile_blocks<S, A, 2>(row, block);
            block += 2;
        } else {
            S::configure_tiles(channels, channels, c.tiles->depth);
            tile_blocks<S, A, 1>(row, block++);
        }
    }
    S::release_tiles();
}

// uint8 inputs times int8 weights, as in Int8.
template <class S>
struct TileInt8 {
    template <int SUM, int WEIGHTS, int INPUT>
    static OB_INLINE void tile_product() {
        S::template tile_product_bytes<SUM, WEIGHTS, INPUT>();
    }
    static OB_INLINE typename S::F tile_value(const int32_t *sum, const float *multiplier, int channel) {
        return S::mul(S::to_float(S::load_cells(sum)), S::set(multiplier[channel]));
    }
};

template <class S>
struct TileBf16 {
    template <int SUM, int WEIGHTS, int INPUT>
    static OB_INLINE void tile_product() {
        S::template tile_product_bfloat16<SUM, WEIGHTS, INPUT>();
    }
    static OB_INLINE typename S::F tile_value(const int32_t *sum, const float *, int) {
        return S::load(reinterpret_cast<const float *>(sum));
    }
};

// One row of a convolution: by products of tiles where its weights are packed for them and its rows lie one
// after another, else as in the other sets. The first and last rows of a picture read a row of zeros that
// lies elsewhere.
template <class S>
void convolve_with_tiles(const Convolution &c) {
    const int rotation = c.tiles ? rotation_of(c) : -1;
    if (rotation < 0) return convolve<S>(c);
    assert(c.phases == 1 && c.tiles->depth > 0 && c.tiles->depth <= TILE_SIZE && c.tiles->steps > 0);
    assert(c.arithmetic == Arithmetic::Int8 || c.arithmetic == Arithmetic::BFloat16);
    if (c.arithmetic == Arithmetic::Int8) return convolve_tiles<S, TileInt8<S>>(c, rotation);
    convolve_tiles<S, TileBf16<S>>(c, rotation);
}

#if !defined(ONEBRANCH_MODELS)
// Multiply-accumulates per second of `tile_sums` on one core; the best of many runs.
template <class S, class A>
double tile_peak_of(int channels_per_cell, double seconds) {
    constexpr int GROUPS = 16, COLUMNS = 3, OUT = 32, CELLS = 32;
    constexpr size_t STRIDE = plane_stride(CELLS);
    alignas(64) static thread_local int32_t cells[3 * GROUPS * STRIDE];
    alignas(64) static thread_local int32_t weights[2 * COLUMNS * 3 * CELLS_OF_TILE],
        initial_sums[2 * CELLS_OF_TILE], sums[SUM_TILES * CELLS_OF_TILE];
    TileWeights tiles;
    tiles.steps = 3;
    tiles.depth = TILE_SIZE;
    tiles.weights = weights;
    tiles.initial_sums = initial_sums;
    Convolution c;
    c.out = OUT;
    c.channel_groups = GROUPS;
    c.rows = 3;
    c.columns = COLUMNS;
    c.stride = STRIDE;
    c.tiles = &tiles;
    const TileRow row = {c, weights, cells + MARGIN, COLUMNS * 3 * CELLS_OF_TILE};
    using Clock = std::chrono::steady_clock;
    double macs = double(OUT) * CELLS * channels_per_cell * GROUPS * 9, best = 0;
    auto end = Clock::now() + std::chrono::duration<double>(seconds);
    S::configure_tiles(TILE_SIZE, TILE_SIZE, TILE_SIZE);
    do {
        auto begin = Clock::now();
        for (int k = 0; k < 200; k++) tile_sums<S, A, 2, 2>(row, 0, 0, sums);
        double rate = 200 * macs / std::chrono::duration<double>(Clock::now() - begin).count();
        best = rate > best ? rate : best;
    } while (Clock::now() < end);
    S::release_tiles();
    return best;
}

template <class S>
double tile_peak(int precision, double seconds) {
    if (precision == 0) return peak<S>(0, seconds);
    if (precision == 1) return tile_peak_of<S, TileBf16<S>>(2, seconds);
    return tile_peak_of<S, TileInt8<S>>(4, seconds);
}
#endif

template <class S>
KernelSet kernel_set_with_tiles(const char *name) {
    KernelSet set = kernel_set<S>(name);
    set.tiles = true;
    set.convolve = convolve_with_tiles<S>;
#if !defined(ONEBRANCH_MODELS)
    set.peak = tile_peak<S>;
#endif
    return set;
}

}  // namespace
}  // namespace ob
