// The kernels, written once over a type S that wraps a set of instructions. Included by kernels_*.cpp alone.
//
// S: W lanes, MAX_BLOCK channels of a block, F and I vectors of float32 and int32, and the operations used
// below. Multiplications and additions outside S::fma round each by itself (-ffp-contract=off), so that
// everything but `Fused` and `BFloat16` convolutions gives the same bits with every set.
#pragma once

#include <chrono>
#include <cmath>
#include <cstring>

#include "kernel_set.h"
#include "onebranch_engine.h"

#define OB_INLINE inline __attribute__((always_inline))
#define OB_UNROLL _Pragma("GCC unroll 16")
// No load is moved across: the compiler would fetch several columns at once and spill the sums.
#define OB_IN_ORDER asm volatile("" ::: "memory")

namespace ob {
namespace {

// Vectors of pixels that are made at once with a block of so many channels.
template <class S>
constexpr int pixels_for(int channels) {
    if (S::MAX_BLOCK == 8) return channels == 8 ? 3 : channels == 4 ? 6 : 8;
    return channels == 4 ? 3 : channels == 2 ? 4 : 6;
}

// Whether P more vectors are made at once of so many cells. Four are made two by two rather than as three and
// one.
template <class S, int O, int P>
constexpr bool fits(size_t cells) {
    return cells >= size_t(P) * S::W && !(O == S::MAX_BLOCK && P == 3 && cells == 4 * size_t(S::W));
}

// ---- arithmetic: a cell of the input times a cell of weights, added
// ------------------------------------------

template <class S>
struct Fused {
    using A = typename S::F;
    static OB_INLINE A start(int32_t bits) { return S::set(S::as_float(bits)); }
    static OB_INLINE typename S::F in(const int32_t *at) { return S::load(reinterpret_cast<const float *>(at)); }
    static OB_INLINE typename S::F weight(const int32_t *at) {
        return S::set(*reinterpret_cast<const float *>(at));
    }
    static OB_INLINE A step(A sum, typename S::F in, typename S::F weight) { return S::fma(in, weight, sum); }
    static OB_INLINE typename S::F value(A sum, const float *, int) { return sum; }
};

template <class S>
struct Strict : Fused<S> {
    using A = typename S::F;
    static OB_INLINE A step(A sum, typename S::F in, typename S::F weight) {
        return S::multiply_then_add(in, weight, sum);
    }
};

template <class S>
struct Bf16 {
    using A = typename S::F;
    static OB_INLINE A start(int32_t bits) { return S::set(S::as_float(bits)); }
    static OB_INLINE typename S::I in(const int32_t *at) { return S::load_cells(at); }
    static OB_INLINE typename S::I weight(const int32_t *at) { return S::set_cells(*at); }
    static OB_INLINE A step(A sum, typename S::I in, typename S::I weight) {
        return S::dot_bfloat16(sum, in, weight);
    }
    static OB_INLINE typename S::F value(A sum, const float *, int) { return sum; }
};

template <class S>
struct Int8 {
    using A = typename S::I;
    static OB_INLINE A start(int32_t bits) { return S::set_cells(bits); }
    static OB_INLINE typename S::I in(const int32_t *at) { return S::byte_input(S::load_cells(at)); }
    static OB_INLINE typename S::Weight weight(const int32_t *at) { return S::byte_weight(*at); }
    static OB_INLINE A step(A sum, typename S::I in, typename S::Weight weight) {
        return S::dot_bytes(sum, in, weight);
    }
    static OB_INLINE typename S::F value(A sum, const float *multiplier, int channel) {
        return S::mul(S::to_float(sum), S::set(multiplier[channel]));
    }
};

// ---- epilogue
// -----------------------------------------------------------------------------------------------

template <class S, int O>
OB_INLINE void store(const FeatureRow &to, const typename S::F (&f)[O], bool clamped, int channel, int phase,
                  int phases, size_t cell) {
    using I = typename S::I;
    if (to.kind == Cell::Float32) {
    OB_UNROLL for (int o = 0; o < O; o++)
            S::store(reinterpret_cast<float *>(to.base) + (size_t(channel + o) * phases + phase) * to.stride + cell, f[o]);
    } else if (to.kind == Cell::BFloat16) {
        if constexpr (O % 2 == 0) {
            OB_UNROLL for (int o = 0; o < O; o += 2)
                S::store_cells(to.base + (size_t((channel + o) / 2) * phases + phase) * to.stride + cell, S::pack_bfloat16(f[o], f[o + 1]));
        }
    } else {
        if constexpr (O % 4 == 0) {
            OB_UNROLL for (int o = 0; o < O; o += 4) {
                I q[4];
                OB_UNROLL for (int k = 0; k < 4; k++) {
                    typename S::F v = f[o + k];
                    if (to.inverse != 1.0f) v = S::mul(v, S::set(to.inverse));
                    if (clamped) v = S::clamp(v);
                    q[k] = S::round(v);
                }
                S::store_cells(to.base + (size_t((channel + o) / 4) * phases + phase) * to.stride + cell, S::pack_bytes(q, to.zero_point));
            }
        }
    }
}

template <class S>
OB_INLINE typename S::F skip_value(const FeatureRow &from, int channel, int phase, int phases, size_t cell) {
    if (from.kind == Cell::Float32)
        return S::load(reinterpret_cast<const float *>(from.base) + (size_t(channel) * phases + phase) * from.stride + cell);
    if (from.kind == Cell::BFloat16) {
        typename S::I cells = S::load_cells(from.base + (size_t(channel / 2) * phases + phase) * from.stride + cell);
        return channel & 1 ? S::upper_bfloat16(cells) : S::lower_bfloat16(cells);
    }
    typename S::I cells = S::load_cells(from.base + (size_t(channel / 4) * phases + phase) * from.stride + cell);
    typename S::I q = S::byte_of(cells, channel & 3);
    return S::mul(S::to_float(S::sub_cells(q, S::set_cells(from.zero_point))), S::set(from.scale));
}

template <class S, int O>
OB_INLINE void finish(const Epilogue &e, typename S::F (&f)[O], int channel, int phase, size_t cell) {
    if (e.sloped) {
        OB_UNROLL for (int o = 0; o < O; o++) f[o] = S::prelu(f[o], S::set(e.slope[channel + o]));
    }
    if (e.keeps_raw) store<S, O>(e.raw, f, e.clamped, channel, phase, e.phases, cell);
    for (int s = 0; s < e.skip_count; s++) {
        OB_UNROLL for (int o = 0; o < O; o++)
            f[o] = S::add(f[o], skip_value<S>(e.skips[s], channel + o, phase, e.phases, cell));
    }
    store<S, O>(e.out, f, e.clamped, channel, phase, e.phases, cell);
}

// ---- direct convolution -------------------------------------------------------------------------------------

// O channels of P vectors of pixels. COLUMNS 0: as many as the convolution says.
template <class S, class A, int O, int P, int COLUMNS>
OB_INLINE void tile(const Convolution &c, const int32_t *weights, int channel, int phase, size_t cell) {
    typename A::A sum[O][P];
    OB_UNROLL for (int o = 0; o < O; o++) {
        OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::start(c.start[channel + o]);
    }
    const int columns = COLUMNS ? COLUMNS : c.columns;
    const size_t group_stride = c.stride * c.phases;
    const ptrdiff_t *tap = c.tap[phase];
    for (int r = 0; r < c.rows; r++) {
        const int32_t *plane = c.row[r] + cell;
        for (int g = 0; g < c.groups; g++, plane += group_stride) {
            OB_UNROLL for (int l = 0; l < columns; l++) {
                const int32_t *at = plane + tap[l];
                decltype(A::in(at)) in[P];
                OB_UNROLL for (int p = 0; p < P; p++) in[p] = A::in(at + p * S::W);
                OB_UNROLL for (int o = 0; o < O; o++) {
                    auto weight = A::weight(weights + o);
                    OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::step(sum[o][p], in[p], weight);
                }
                weights += O;
                OB_IN_ORDER;
            }
        }
    }
    OB_UNROLL for (int p = 0; p < P; p++) {
        typename S::F f[O];
        OB_UNROLL for (int o = 0; o < O; o++) f[o] = A::value(sum[o][p], c.epilogue.multiplier, channel + o);
        finish<S, O>(c.epilogue, f, channel, phase, cell + size_t(p) * S::W);
    }
}

template <class S, class A, int O, int COLUMNS>
void block(const Convolution &c, const int32_t *weights, int channel) {
    constexpr int P = pixels_for<S>(O);
    for (int phase = 0; phase < c.phases; phase++) {
        size_t cell = 0;
        for (; fits<S, O, P>(c.cells - cell); cell += P * S::W) tile<S, A, O, P, COLUMNS>(c, weights, channel, phase, cell);
        if constexpr (O == S::MAX_BLOCK && P > 2) {
            for (; cell + 2 * S::W <= c.cells; cell += 2 * S::W) tile<S, A, O, 2, COLUMNS>(c, weights, channel, phase, cell);
        }
        for (; cell < c.cells; cell += S::W) tile<S, A, O, 1, COLUMNS>(c, weights, channel, phase, cell);
    }
}

template <class S, class A, int COLUMNS>
void blocks(const Convolution &c) {
    const int32_t *weights = c.weights;
    const size_t each = size_t(c.rows) * c.groups * c.columns;
    for (int channel = 0; channel < c.out;) {
        int width = block_of(c.out - channel, S::MAX_BLOCK);
        if constexpr (S::MAX_BLOCK == 8) {
            if (width == 8) block<S, A, 8, COLUMNS>(c, weights, channel);
        }
        if (width == 4) block<S, A, 4, COLUMNS>(c, weights, channel);
        if (width == 2) block<S, A, 2, COLUMNS>(c, weights, channel);
        if (width == 1) block<S, A, 1, COLUMNS>(c, weights, channel);
        weights += each * width;
        channel += width;
    }
}

template <class S, class A>
void by_columns(const Convolution &c) {
    if (c.columns == 3) return blocks<S, A, 3>(c);
    if (c.columns == 1) return blocks<S, A, 1>(c);
    blocks<S, A, 0>(c);
}

template <class S>
void convolve(const Convolution &c) {
    switch (c.arithmetic) {
        case Arithmetic::Fused: return by_columns<S, Fused<S>>(c);
        case Arithmetic::Strict: return by_columns<S, Strict<S>>(c);
        case Arithmetic::BFloat16: return by_columns<S, Bf16<S>>(c);
        case Arithmetic::Int8: return by_columns<S, Int8<S>>(c);
    }
}

// ---- Winograd F(4, 3) and F(2, 3) along the row -----------------------------------------------------------------
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), in one dimension, points 0, 1, -1, 2, -2
// and 0, 1, -1.

template <class S>
void transform_float32(const int32_t *planes, size_t stride, int channels, size_t cells, int32_t *row) {
    using F = typename S::F;
    const F two = S::set(2.0f), four = S::set(4.0f), five = S::set(5.0f);
    const size_t each = size_t(channels) * S::W;
    for (size_t cell = 0; cell < cells; cell += S::W) {
        float *to = reinterpret_cast<float *>(row) + cell * frequencies_of(4) * channels;
        for (int c = 0; c < channels; c++) {
            const float *at = reinterpret_cast<const float *>(planes) + size_t(c) * 4 * stride + cell;
            // Pixels 4 t - 1 ... 4 t + 4.
            F d0 = S::load(at + 3 * stride - 1), d1 = S::load(at), d2 = S::load(at + stride);
            F d3 = S::load(at + 2 * stride), d4 = S::load(at + 3 * stride), d5 = S::load(at + 1);
            F a = S::sub(d4, S::mul(four, d2)), b = S::sub(d3, S::mul(four, d1));
            F e = S::sub(d4, d2), f = S::mul(two, S::sub(d3, d1));
            float *out = to + size_t(c) * S::W;
            S::store(out, S::add(S::sub(S::mul(four, d0), S::mul(five, d2)), d4));
            S::store(out + each, S::add(a, b));
            S::store(out + 2 * each, S::sub(a, b));
            S::store(out + 3 * each, S::add(e, f));
            S::store(out + 4 * each, S::sub(e, f));
            S::store(out + 5 * each, S::add(S::sub(S::mul(four, d1), S::mul(five, d3)), d5));
        }
    }
}

template <class S>
void transform_bfloat16(const int32_t *planes, size_t stride, int groups, size_t cells, int32_t *row) {
    using F = typename S::F;
    const size_t each = size_t(groups) * S::W;
    for (size_t cell = 0; cell < cells; cell += S::W) {
        int32_t *to = row + cell * frequencies_of(2) * groups;
        for (int g = 0; g < groups; g++) {
            const int32_t *at = planes + size_t(g) * 2 * stride + cell;
            // Pixels 2 t - 1 ... 2 t + 2, of two channels each.
            const typename S::I d[4] = {S::load_cells(at + stride - 1), S::load_cells(at), S::load_cells(at + stride),
                                        S::load_cells(at + 1)};
            F low[4], high[4];
            OB_UNROLL for (int k = 0; k < 4; k++) {
                low[k] = S::lower_bfloat16(d[k]);
                high[k] = S::upper_bfloat16(d[k]);
            }
            int32_t *out = to + size_t(g) * S::W;
            S::store_cells(out, S::pack_bfloat16(S::sub(low[0], low[2]), S::sub(high[0], high[2])));
            S::store_cells(out + each, S::pack_bfloat16(S::add(low[1], low[2]), S::add(high[1], high[2])));
            S::store_cells(out + 2 * each, S::pack_bfloat16(S::sub(low[2], low[1]), S::sub(high[2], high[1])));
            S::store_cells(out + 3 * each, S::pack_bfloat16(S::sub(low[1], low[3]), S::sub(high[1], high[3])));
        }
    }
}

template <class S>
void transform(Cell kind, const int32_t *planes, size_t stride, int groups, size_t cells, int32_t *row) {
    if (kind == Cell::Float32) return transform_float32<S>(planes, stride, groups, cells, row);
    transform_bfloat16<S>(planes, stride, groups, cells, row);
}

// The products of a tile -> its outputs, without the bias.
template <class S>
OB_INLINE void outputs_of(const typename S::F (&m)[6], typename S::F (&f)[4]) {
    using F = typename S::F;
    F sum = S::add(m[1], m[2]), difference = S::sub(m[1], m[2]);
    F outer = S::add(m[3], m[4]), outer_difference = S::sub(m[3], m[4]);
    f[0] = S::add(S::add(m[0], sum), outer);
    f[1] = S::add(difference, S::mul(S::set(2.0f), outer_difference));
    f[2] = S::add(sum, S::mul(S::set(4.0f), outer));
    f[3] = S::add(S::add(difference, S::mul(S::set(8.0f), outer_difference)), m[5]);
}

template <class S>
OB_INLINE void outputs_of(const typename S::F (&m)[4], typename S::F (&f)[2]) {
    f[0] = S::add(S::add(m[0], m[1]), m[2]);
    f[1] = S::sub(S::sub(m[1], m[2]), m[3]);
}

template <class S, class A, int TILE, int O, int P>
OB_INLINE void multiply(const Winograd &w, const int32_t *weights, int channel, size_t cell) {
    constexpr int FREQUENCIES = frequencies_of(TILE);
    using F = typename S::F;
    const size_t each = size_t(w.groups) * S::W, next = FREQUENCIES * each;
    for (int k = 0; k < FREQUENCIES; k++) {
        F sum[O][P];
        OB_UNROLL for (int o = 0; o < O; o++) {
            OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = S::set(0.0f);
        }
        for (int r = 0; r < 3; r++) {
            if (!w.row[r]) {
                weights += size_t(w.groups) * O;
                continue;
            }
            const int32_t *at = w.row[r] + cell * FREQUENCIES * w.groups + k * each;
            for (int g = 0; g < w.groups; g++, at += S::W, weights += O) {
                decltype(A::in(at)) in[P];
                OB_UNROLL for (int p = 0; p < P; p++) in[p] = A::in(at + p * next);
                OB_UNROLL for (int o = 0; o < O; o++) {
                    auto weight = A::weight(weights + o);
                    OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::step(sum[o][p], in[p], weight);
                }
            }
        }
        OB_UNROLL for (int o = 0; o < O; o++) {
            OB_UNROLL for (int p = 0; p < P; p++) S::store(w.scratch + ((size_t(k) * O + o) * P + p) * S::W, sum[o][p]);
        }
    }
    for (int p = 0; p < P; p++) {
        F f[TILE][O];
        OB_UNROLL for (int o = 0; o < O; o++) {
            F m[FREQUENCIES], made[TILE];
            OB_UNROLL for (int k = 0; k < FREQUENCIES; k++) m[k] = S::load(w.scratch + ((size_t(k) * O + o) * P + p) * S::W);
            outputs_of<S>(m, made);
            F bias = S::set(w.bias[channel + o]);
            OB_UNROLL for (int phase = 0; phase < TILE; phase++) f[phase][o] = S::add(made[phase], bias);
        }
        OB_UNROLL for (int phase = 0; phase < TILE; phase++)
            finish<S, O>(w.epilogue, f[phase], channel, phase, cell + size_t(p) * S::W);
    }
}

template <class S, class A, int TILE, int O>
void winograd_block(const Winograd &w, const int32_t *weights, int channel) {
    constexpr int P = pixels_for<S>(O) > 4 ? 4 : pixels_for<S>(O);
    size_t cell = 0;
    for (; fits<S, O, P>(w.cells - cell); cell += P * S::W) multiply<S, A, TILE, O, P>(w, weights, channel, cell);
    if constexpr (O == S::MAX_BLOCK && P > 2) {
        for (; cell + 2 * S::W <= w.cells; cell += 2 * S::W) multiply<S, A, TILE, O, 2>(w, weights, channel, cell);
    }
    for (; cell < w.cells; cell += S::W) multiply<S, A, TILE, O, 1>(w, weights, channel, cell);
}

template <class S, class A, int TILE>
void winograd_blocks(const Winograd &w) {
    const int32_t *weights = w.weights;
    for (int channel = 0; channel < w.out;) {
        int width = block_of(w.out - channel, S::MAX_BLOCK);
        if constexpr (S::MAX_BLOCK == 8) {
            if (width == 8) winograd_block<S, A, TILE, 8>(w, weights, channel);
        }
        if (width == 4) winograd_block<S, A, TILE, 4>(w, weights, channel);
        if (width == 2) winograd_block<S, A, TILE, 2>(w, weights, channel);
        if (width == 1) winograd_block<S, A, TILE, 1>(w, weights, channel);
        weights += size_t(frequencies_of(TILE)) * 3 * w.groups * width;
        channel += width;
    }
}

template <class S>
void winograd(const Winograd &w) {
    if (w.arithmetic == Arithmetic::BFloat16) return winograd_blocks<S, Bf16<S>, 2>(w);
    winograd_blocks<S, Fused<S>, 4>(w);
}

// ---- pictures: plain loops, left to the compiler's vectorizer ---------------------------------------------------

template <class T>
OB_INLINE void read_as(const T *from, ptrdiff_t pixel, size_t count, float white, float *values) {
    if (pixel == 1)
        for (size_t x = 0; x < count; x++) values[x] = float(from[x]) / white;
    else if (pixel == 3)
        for (size_t x = 0; x < count; x++) values[x] = float(from[3 * x]) / white;
    else
        for (size_t x = 0; x < count; x++) values[x] = float(from[ptrdiff_t(x) * pixel]) / white;
}

inline void read(const PictureRow &row, int channel, size_t count, float *values) {
    ptrdiff_t at = row.channel * channel;
    if (row.type == OB_UINT8) return read_as(static_cast<const uint8_t *>(row.base) + at, row.pixel, count, 255.0f, values);
    if (row.type == OB_UINT16) return read_as(static_cast<const uint16_t *>(row.base) + at, row.pixel, count, 65535.0f, values);
    read_as(static_cast<const float *>(row.base) + at, row.pixel, count, 1.0f, values);
}

// Clipped and rounded half up. What is not a number becomes 0.
OB_INLINE float rounded(float value, float white) {
    value = value > 0.0f ? value : 0.0f;
    value = value < 1.0f ? value : 1.0f;
    return value * white + 0.5f;
}

template <class T>
OB_INLINE void write_one(const float *values, float white, size_t count, T *to, ptrdiff_t pixel) {
    if (pixel == 1)
        for (size_t x = 0; x < count; x++) to[x] = T(int32_t(rounded(values[x], white)));
    else
        for (size_t x = 0; x < count; x++) to[ptrdiff_t(x) * pixel] = T(int32_t(rounded(values[x], white)));
}

template <class T>
OB_INLINE void write_three(const float *r, const float *g, const float *b, float white, size_t count, T *to) {
    for (size_t x = 0; x < count; x++) {
        to[3 * x] = T(int32_t(rounded(r[x], white)));
        to[3 * x + 1] = T(int32_t(rounded(g[x], white)));
        to[3 * x + 2] = T(int32_t(rounded(b[x], white)));
    }
}

template <class T>
OB_INLINE void write_as(const float *const *values, int channels, float white, size_t count, T *to, ptrdiff_t pixel,
                        ptrdiff_t channel) {
    if (channels == 3 && pixel == 3 && channel == 1) return write_three(values[0], values[1], values[2], white, count, to);
    for (int c = 0; c < channels; c++) write_one(values[c], white, count, to + c * channel, pixel);
}

inline void write(const float *const *values, int channels, int type, size_t count, void *row, ptrdiff_t pixel,
                  ptrdiff_t channel) {
    if (type == OB_UINT8) return write_as(values, channels, 255.0f, count, static_cast<uint8_t *>(row), pixel, channel);
    if (type == OB_UINT16) return write_as(values, channels, 65535.0f, count, static_cast<uint16_t *>(row), pixel, channel);
    for (int c = 0; c < channels; c++) {
        float *to = static_cast<float *>(row) + c * channel;
        for (size_t x = 0; x < count; x++) to[ptrdiff_t(x) * pixel] = values[c][x];
    }
}

// ITU-R BT.601, studio range / 255.
constexpr float FROM_RGB[3][3] = {{float(65.481 / 255), float(128.553 / 255), float(24.966 / 255)},
                                  {float(-37.797 / 255), float(-74.203 / 255), float(112.0 / 255)},
                                  {float(112.0 / 255), float(-93.786 / 255), float(-18.214 / 255)}};
constexpr float OFFSET[3] = {float(16.0 / 255), float(128.0 / 255), float(128.0 / 255)};
// The inverse of the matrix, to 17 digits (numpy.linalg.inv).
constexpr float TO_RGB[3][3] = {{float(1.1643835616438356), float(3.0112439735697965e-07), float(1.5960268873357042)},
                                {float(1.1643835616438356), float(-0.3917625399414501), float(-0.8129682921622053)},
                                {float(1.1643835616438358), float(2.0172326395564593), float(3.054261745313201e-06)}};

inline void luma(const float *r, const float *g, const float *b, float *y, size_t count) {
    for (size_t x = 0; x < count; x++)
        y[x] = FROM_RGB[0][0] * r[x] + FROM_RGB[0][1] * g[x] + FROM_RGB[0][2] * b[x] + OFFSET[0];
}

inline void to_ycbcr(float *r, float *g, float *b, size_t count) {
    for (size_t x = 0; x < count; x++) {
        float red = r[x], green = g[x], blue = b[x];
        r[x] = FROM_RGB[0][0] * red + FROM_RGB[0][1] * green + FROM_RGB[0][2] * blue + OFFSET[0];
        g[x] = FROM_RGB[1][0] * red + FROM_RGB[1][1] * green + FROM_RGB[1][2] * blue + OFFSET[1];
        b[x] = FROM_RGB[2][0] * red + FROM_RGB[2][1] * green + FROM_RGB[2][2] * blue + OFFSET[2];
    }
}

inline void to_rgb(float *y, float *cb, float *cr, size_t count) {
    for (size_t x = 0; x < count; x++) {
        float l = y[x] - OFFSET[0], u = cb[x] - OFFSET[1], v = cr[x] - OFFSET[2];
        y[x] = TO_RGB[0][0] * l + TO_RGB[0][1] * u + TO_RGB[0][2] * v;
        cb[x] = TO_RGB[1][0] * l + TO_RGB[1][1] * u + TO_RGB[1][2] * v;
        cr[x] = TO_RGB[2][0] * l + TO_RGB[2][1] * u + TO_RGB[2][2] * v;
    }
}

inline void scale_and_shift(float *values, float scale, float shift, size_t count) {
    for (size_t x = 0; x < count; x++) values[x] = values[x] * scale + shift;
}

template <int PHASES>
OB_INLINE void split_by(const float *values, size_t count, float *planes, size_t stride) {
    size_t whole = count / PHASES;
    for (size_t t = 0; t < whole; t++)
        OB_UNROLL for (int p = 0; p < PHASES; p++) planes[p * stride + t] = values[PHASES * t + p];
    for (size_t x = PHASES * whole; x < count; x++) planes[(x % PHASES) * stride + x / PHASES] = values[x];
}

inline void split_phases(const float *values, size_t count, int phases, float *planes, size_t stride) {
    if (phases == 2) return split_by<2>(values, count, planes, stride);
    split_by<4>(values, count, planes, stride);
}

template <int PHASES>
OB_INLINE void join_by(const float *planes, size_t stride, size_t count, float *values) {
    size_t whole = count / PHASES;
    for (size_t t = 0; t < whole; t++)
        OB_UNROLL for (int p = 0; p < PHASES; p++) values[PHASES * t + p] = planes[p * stride + t];
    for (size_t x = PHASES * whole; x < count; x++) values[x] = planes[(x % PHASES) * stride + x / PHASES];
}

inline void join_phases(const float *planes, size_t stride, int phases, size_t count, float *values) {
    if (phases == 2) return join_by<2>(planes, stride, count, values);
    join_by<4>(planes, stride, count, values);
}

inline void weighted(const float *const *rows, const float *weights, int taps, size_t count, float *sum) {
    for (size_t x = 0; x < count; x++) sum[x] = weights[0] * rows[0][x];
    for (int k = 1; k < taps; k++) {
        const float *row = rows[k], weight = weights[k];
        if (weight == 0.0f) continue;
        for (size_t x = 0; x < count; x++) sum[x] = sum[x] + weight * row[x];
    }
}

template <class S, int TAPS>
OB_INLINE void enlarge_by(const float *values, const float *weights, int phases, int taps, size_t count, float *rows,
                          size_t apart) {
    const int n = TAPS ? TAPS : taps;
    for (int p = 0; p < phases; p++)
        for (size_t x = 0; x < count; x += S::W) {
            typename S::F sum = S::mul(S::load(values + x), S::set(weights[p * n]));
            for (int k = 1; k < n; k++) sum = S::add(sum, S::mul(S::load(values + x + k), S::set(weights[p * n + k])));
            S::store(rows + p * apart + x, sum);
        }
}

template <class S>
void enlarge(const float *values, const float *weights, int phases, int taps, size_t count, float *rows, size_t apart) {
    if (taps == 5) return enlarge_by<S, 5>(values, weights, phases, taps, count, rows, apart);
    enlarge_by<S, 0>(values, weights, phases, taps, count, rows, apart);
}

inline void reduce(const float *values, const float *weights, int stride, int taps, size_t count, float *result) {
    for (size_t x = 0; x < count; x++) {
        float sum = 0.0f;
        for (int k = 0; k < taps; k++) sum += weights[k] * values[x * stride + k];
        result[x] = sum;
    }
}

template <int PHASES>
OB_INLINE void interleave_by(const float *const *first, const float *const *second, size_t count, float *result) {
    const float *a[PHASES], *b[PHASES];
    for (int p = 0; p < PHASES; p++) {
        a[p] = first[p];
        b[p] = second ? second[p] : nullptr;
    }
    if (second)
        for (size_t x = 0; x < count; x++)
            OB_UNROLL for (int p = 0; p < PHASES; p++) result[PHASES * x + p] = a[p][x] + b[p][x];
    else
        for (size_t x = 0; x < count; x++)
            OB_UNROLL for (int p = 0; p < PHASES; p++) result[PHASES * x + p] = a[p][x];
}

inline void interleave(const float *const *first, const float *const *second, int phases, size_t count, float *result) {
    if (phases == 1) return interleave_by<1>(first, second, count, result);
    if (phases == 2) return interleave_by<2>(first, second, count, result);
    if (phases == 3) return interleave_by<3>(first, second, count, result);
    interleave_by<4>(first, second, count, result);
}

// ---- the machine's peak: the direct kernel on data in the first cache --------------------------------------------

template <class S, class A>
double peak_of(int group, double seconds) {
    constexpr int O = S::MAX_BLOCK, P = pixels_for<S>(O), GROUPS = 12;
    alignas(64) static thread_local int32_t cells[GROUPS * (P * S::W + 2 * MARGIN)];
    alignas(64) static thread_local int32_t weights[GROUPS * 9 * O], out[O * P * S::W], start[O];
    static thread_local float multiplier[O];
    const int32_t *rows[3] = {cells, cells, cells};
    Convolution c;
    c.out = O;
    c.groups = GROUPS;
    c.rows = c.columns = 3;
    c.row = rows;
    c.stride = P * S::W + 2 * MARGIN;
    for (int l = 0; l < 3; l++) c.tap[0][l] = 16;  // aligned loads: this is the machine's limit, not ours
    c.weights = weights;
    c.start = start;
    c.cells = P * S::W;
    c.epilogue.multiplier = multiplier;
    c.epilogue.sloped = false;
    c.epilogue.out.base = out;
    c.epilogue.out.stride = P * S::W;
    using Clock = std::chrono::steady_clock;
    double macs = double(O) * P * S::W * group * GROUPS * 9, best = 0;
    auto end = Clock::now() + std::chrono::duration<double>(seconds);
    do {
        auto begin = Clock::now();
        for (int k = 0; k < 200; k++) tile<S, A, O, P, 3>(c, weights, 0, 0, 0);
        double rate = 200 * macs / std::chrono::duration<double>(Clock::now() - begin).count();
        best = rate > best ? rate : best;
    } while (Clock::now() < end);
    return best;
}

template <class S>
double peak(int precision, double seconds) {
    if (precision == 0) return peak_of<S, Fused<S>>(1, seconds);
    if (precision == 1) return peak_of<S, Bf16<S>>(2, seconds);
    return peak_of<S, Int8<S>>(4, seconds);
}

template <class S>
KernelSet kernel_set(const char *name) {
    return {name,     S::W,   S::MAX_BLOCK,       S::BFLOAT16, convolve<S>,  winograd<S>, transform<S>, read,   write,
            to_ycbcr, to_rgb, scale_and_shift, luma,        split_phases, join_phases, weighted,     enlarge<S>, reduce,
            interleave, peak<S>};
}

}  // namespace
}  // namespace ob
