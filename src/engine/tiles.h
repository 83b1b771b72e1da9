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

// The tiles of a kernel: four of sums, one for each phase; three of weights, one for each column of a 3x3
// kernel; and one of the input.
constexpr int TILE_OF_WEIGHTS = 4, TILE_OF_INPUT = 7;
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
    const ptrdiff_t row_size = ptrdiff_t(c.channel_groups) * ptrdiff_t(c.stride) * c.phases;
    int first = 0;
    for (int r = 1; r < c.rows; r++)
        if (c.row[r] < c.row[first]) first = r;
    for (int r = 0; r < c.rows; r++)
        if (c.row[r] != c.row[first] + ((r - first + c.rows) % c.rows) * row_size) return -1;
    return first;
}

// What most layers of 8-bit networks do with a sum: multiply it, apply PReLU, round it and store it. This
// copy of a part of an Epilogue stays in registers.
struct PlainOutput {
    const float *multiplier, *slope;
    int32_t *base;
    size_t stride;
    int32_t zero_point;
    bool valid;

    explicit PlainOutput(const Epilogue &e)
        : multiplier(e.multiplier),
          slope(e.slope),
          base(e.out.base),
          stride(e.out.stride),
          zero_point(e.out.zero_point),
          valid(e.out.kind == Cell::Int8 && e.out.inverse == 1.0f && e.sloped && !e.clamped && !e.keeps_raw &&
                !e.skip_count) {}

    // Stores O channels of a vector of cells, like `finish`.
    template <class S, class A, int O>
    OB_INLINE void store(const int32_t *sums, int channel, int phase, size_t cell) const {
        OB_UNROLL for (int o = 0; o < O; o += 4) {
            typename S::I q[4];
            OB_UNROLL for (int k = 0; k < 4; k++) {
                typename S::F f = A::tile_value(sums + (o + k) * TILE_SIZE, multiplier, channel + o + k);
                q[k] = S::round(S::prelu(f, S::set(slope[channel + o + k])));
            }
            S::store_cells(base + size_t(channel + o + phase) * stride + cell, S::pack_bytes(q, zero_point));
        }
    }
};
static_assert(MAX_PHASES == 4, "channels of a cell and phases: (channel / 4) * 4 + phase is a plane");

// The epilogue of complete sums of one block of 16 output channels, in parts of eight channels of a phase.
// The parts are done between the products of the next sums, because products of tiles leave other units of
// the processor idle.
template <class S, class A>
struct TileOutputs {
    static constexpr int CHANNELS = 8, PARTS = MAX_PHASES * TILE_SIZE / CHANNELS;
    const Convolution *c;
    PlainOutput plain;
    const int32_t *sums = nullptr;  // [phase][channel][cell]
    size_t cell = 0;
    int block = 0, next = PARTS;
    int due = 0;  // the remainder by which PARTS parts are spread evenly over `calls` calls

    explicit TileOutputs(const Convolution &convolution) : c(&convolution), plain(convolution.epilogue) {}

    void begin(const int32_t *of, size_t first_cell, int of_block) {
        sums = of;
        cell = first_cell;
        block = of_block;
        next = due = 0;
    }
    // Does as many parts as are due in one of `calls` calls. Example: 8 parts, 6 calls: 1, 1, 2, 1, 1, 2.
    OB_INLINE void advance(int calls) {
        for (due += PARTS; due >= calls; due -= calls)
            if (next < PARTS) part(next++);
    }
    OB_INLINE void finish_all() {
        while (next < PARTS) part(next++);
    }

    OB_INLINE void part(int k) {
        const int phase = k % MAX_PHASES, in_block = k / MAX_PHASES * CHANNELS,
                  first = block * TILE_SIZE + in_block;
        const int32_t *from = sums + phase * CELLS_OF_TILE + in_block * TILE_SIZE;
        const int left = c->out - first;
        if (S::W == TILE_SIZE && plain.valid && left >= CHANNELS)
            return plain.store<S, A, CHANNELS>(from, first, phase, cell);
        // The last tile may extend beyond the row, where vectors are shorter than tiles (in the model).
        for (size_t x = 0; x < TILE_SIZE && cell + x < c->cells; x += S::W)
            for_each_block<S>(left < CHANNELS ? left : CHANNELS, [&](auto width, int channel) {
                constexpr int O = decltype(width)::value;
                typename S::F f[O];
                OB_UNROLL for (int o = 0; o < O; o++) f[o] = A::tile_value(
                    from + (channel + o) * TILE_SIZE + x, c->epilogue.multiplier, first + channel + o);
                finish<S, O>(c->epilogue, f, first + channel, phase, cell + x);
            });
    }
};

// What all tiles of a block of 16 output channels have in common. weights: of the rotation and the block. in:
// plane 0 of the row that comes first in memory, if all rows are one sequence of planes.
struct TileBlock {
    const Convolution &c;
    const int32_t *weights, *in, *initial_sums;
    int block;
    // The first cell of a step's planes.
    const int32_t *input(int step) const {
        const TileWeights &tiles = *c.tiles;
        const int planes = tiles.row_steps ? c.channel_groups : c.rows * c.channel_groups;
        const int32_t *from = tiles.row_steps ? c.row[step / tiles.row_steps] : in;
        return from + ptrdiff_t(tiles.first_plane(step, planes)) * ptrdiff_t(c.stride) * MAX_PHASES;
    }
    const int32_t *weights_of(int column, int step) const {
        return weights + (size_t(column) * size_t(c.tiles->steps) + size_t(step)) * CELLS_OF_TILE;
    }
};

// The products of a step of a kernel with three columns. Six tiles of the input, the pixels 4 t - 1 to
// 4 t + 4, serve 12 products: pixel 4 t + q is read by the outputs of the phases q - 1, q and q + 1.
template <class S, class A, class Between>
OB_INLINE void three_columns(const TileBlock &b, int step, size_t cell, bool weights_loaded,
                             Between between) {
    const Convolution &c = b.c;
    if (!weights_loaded)
        for_each_constant<3>(
            [&](auto l) { S::template load_tile<TILE_OF_WEIGHTS + l>(b.weights_of(l, step), TILE_SIZE); });
    const int32_t *in = b.input(step) + cell;
    for_each_constant<MAX_PHASES + 2>([&](auto k) {
        constexpr int q = k - 1, phase = q < 0 ? 0 : q > 3 ? 3 : q;
        S::template load_tile<TILE_OF_INPUT>(in + c.tap[phase][q - phase + 1], c.stride * MAX_PHASES);
        for_each_constant<3>([&](auto l) {
            constexpr int p = q + 1 - l;
            if constexpr (p >= 0 && p < MAX_PHASES)
                A::template tile_product<p, TILE_OF_WEIGHTS + l, TILE_OF_INPUT>();
        });
        between();
    });
}

// The same for any number of columns: a tile of the input for each product.
template <class S, class A, class Between>
OB_INLINE void any_columns(const TileBlock &b, int step, size_t cell, Between between) {
    const Convolution &c = b.c;
    for (int l = 0; l < c.columns; l++) {
        S::template load_tile<TILE_OF_WEIGHTS>(b.weights_of(l, step), TILE_SIZE);
        for_each_constant<MAX_PHASES>([&](auto p) {
            S::template load_tile<TILE_OF_INPUT>(b.input(step) + cell + c.tap[p][l], c.stride * MAX_PHASES);
            A::template tile_product<p, TILE_OF_WEIGHTS, TILE_OF_INPUT>();
            between();
        });
    }
}

// The sums of a block of 16 output channels for 16 cells of each of the four phases, that is for 64 pixels,
// which end in `sums` [phase][channel][cell]. between() is called after each tile of the input has been
// multiplied.
//
// Worked example: int8, a 3x3 kernel, 16 input and 16 output channels: three rows of four groups are 12
// planes of each phase. A tile of the input holds every fourth of 64 pixels, from 12 planes; a tile of
// weights, for each of 16 output channels, the 12 cells of weights of one column. Their product adds 12 * 4
// products to each of 16 * 16 sums. After 12 products, three for each phase, the sums are complete.
template <class S, class A, class Between>
OB_INLINE void tile_sums(const TileBlock &b, size_t cell, int32_t *sums, Between between) {
    for_each_constant<MAX_PHASES>([&](auto p) { S::template load_tile<p>(b.initial_sums, TILE_SIZE); });
    for (int s = 0; s < b.c.tiles->steps; s++) {
        if (b.c.columns == 3)
            three_columns<S, A>(b, s, cell, b.c.tiles->steps == 1 && cell, between);
        else
            any_columns<S, A>(b, s, cell, between);
    }
    for_each_constant<MAX_PHASES>([&](auto p) { S::template store_tile<p>(sums + p * CELLS_OF_TILE); });
}

// A block of 16 output channels of a whole row.
template <class S, class A>
void tile_block(const TileBlock &b) {
    const Convolution &c = b.c;
    const int calls = c.tiles->steps * (c.columns == 3 ? MAX_PHASES + 2 : MAX_PHASES * c.columns);
    alignas(64) int32_t sums[2][MAX_PHASES * CELLS_OF_TILE];  // the ones before, and those that are computed
    TileOutputs<S, A> before(c);
    int now = 0;
    S::configure_tiles(c.out - b.block * TILE_SIZE, c.tiles->depth);
    for (size_t cell = 0; cell < c.cells; cell += TILE_SIZE, now = 1 - now) {
        tile_sums<S, A>(b, cell, sums[now], [&] { before.advance(calls); });
        before.finish_all();
        before.begin(sums[now], cell, b.block);
    }
    before.finish_all();
}

// One row of the output. `rotation` is the row of the kernel whose row of the input lies first in memory.
template <class S, class A>
void convolve_tiles(const Convolution &c, int rotation) {
    const TileWeights &tiles = *c.tiles;
    const int blocks = (c.out + TILE_SIZE - 1) / TILE_SIZE;
    const size_t block_size = size_t(c.columns) * size_t(tiles.steps) * CELLS_OF_TILE;
    for (int block = 0; block < blocks; block++) {
        const int32_t *weights =
            tiles.weights + (size_t(rotation) * size_t(blocks) + size_t(block)) * block_size;
        tile_block<S, A>({c, weights, c.row[rotation], tiles.initial_sums + block * CELLS_OF_TILE, block});
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

// One row of a convolution: by products of tiles where its weights are packed for them, else as in the other
// sets. Rows of int8 that do not lie one after another are computed as there, too: the first and last rows of
// a picture read a row of zeros that lies elsewhere.
template <class S>
void convolve_with_tiles(const Convolution &c) {
    const int rotation = !c.tiles ? -1 : c.tiles->row_steps ? 0 : rotation_of(c);
    if (rotation < 0) return convolve<S>(c);
    assert(c.phases == MAX_PHASES && c.tiles->depth > 0 && c.tiles->depth <= TILE_SIZE && c.tiles->steps > 0);
    assert(c.arithmetic == Arithmetic::Int8 || c.arithmetic == Arithmetic::BFloat16);
    if (c.arithmetic == Arithmetic::Int8) return convolve_tiles<S, TileInt8<S>>(c, rotation);
    convolve_tiles<S, TileBf16<S>>(c, rotation);
}

#if !defined(ONEBRANCH_MODELS)
// Multiply-accumulates per second of `tile_sums` on one core; the best of many runs.
template <class S, class A>
double tile_peak_of(int channels_per_cell, double seconds) {
    constexpr int GROUPS = 16, COLUMNS = 3, STEPS = 3;
    constexpr size_t STRIDE = plane_stride(TILE_SIZE);
    alignas(64) static thread_local int32_t cells[STEPS * GROUPS * MAX_PHASES * STRIDE];
    alignas(64) static thread_local int32_t weights[COLUMNS * STEPS * CELLS_OF_TILE],
        initial_sums[CELLS_OF_TILE], sums[MAX_PHASES * CELLS_OF_TILE];
    TileWeights tiles;
    tiles.steps = STEPS;
    tiles.depth = TILE_SIZE;
    Convolution c;
    c.channel_groups = GROUPS;
    c.rows = c.columns = COLUMNS;
    c.phases = MAX_PHASES;
    c.stride = STRIDE;
    c.tiles = &tiles;
    const TileBlock block = {c, weights, cells + MARGIN, initial_sums, 0};
    using Clock = std::chrono::steady_clock;
    double macs = double(TILE_SIZE) * MAX_PHASES * TILE_SIZE * channels_per_cell * GROUPS * 9, best = 0;
    auto end = Clock::now() + std::chrono::duration<double>(seconds);
    S::configure_tiles(TILE_SIZE, TILE_SIZE);
    do {
        auto begin = Clock::now();
        for (int k = 0; k < 200; k++) tile_sums<S, A>(block, 0, sums, [] {});
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
