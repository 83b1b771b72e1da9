// The kernels, written once as templates over a struct S of SIMD operations. Included by kernels_*.cpp alone.
//
// S::W is the number of lanes of a vector, S::MAX_BLOCK the largest number of output channels that are
// computed at once, S::F and S::I are vectors of float32 and int32. BFLOAT16 and BYTE_DOT tell whether the
// instruction set has products of bfloat16 and dot products of bytes. S also has the operations used below. A
// product and a sum outside S::fma are rounded separately (-ffp-contract=off), so all sets compute the same
// bits, except in the arithmetic kinds Fused and BFloat16.
#pragma once

#include <cassert>
#if !defined(__wasm__)
#include <chrono>
#endif
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernel_set.h"
#include "onebranch_engine.h"

#define OB_INLINE inline __attribute__((always_inline))
#define OB_UNROLL _Pragma("GCC unroll 16")
// A barrier for the compiler: without it, the loads of several columns are hoisted and the sums are spilled.
#define OB_IN_ORDER asm volatile("" ::: "memory")

namespace ob {
namespace {

// The number of vectors of pixels that are computed at once with a block of `channels` channels. The sums
// must fit the registers together with the inputs and one weight. Example, float32: AVX-512 has 32 registers;
// 8 channels of 3 vectors are 24 sums, beside 3 inputs and a weight. AVX2 has 16; 4 channels of 3 vectors are
// 12 sums, beside 3 inputs and a weight.
template <class S, class A>
constexpr int pixels_for(int channels) {
    // Fewer vectors where registers are scarce: for int8 without a dot product of bytes, which needs more
    // registers per sum, and in WebAssembly, which leaves 15 of x86's 16 registers. There, four channels of
    // two vectors were measured 11 % faster than four channels of three.
    constexpr bool narrow = (A::INTEGER && !S::BYTE_DOT) || !HAS_FUSED_INSTRUCTIONS;
    if (S::MAX_BLOCK == 8) {
        if (A::REGISTERS > 1) return channels == 8 ? 1 : channels == 4 ? 2 : 4;
        return channels == 8 ? 3 : channels == 4 ? 6 : 8;
    }
    if (narrow) return channels == 4 ? 2 : 4;
    return channels == 4 ? 3 : channels == 2 ? 4 : 6;
}

// True if P vectors are computed at once when `cells` cells remain. If P is 3 and exactly four vectors
// remain, it is false: two and two are faster than three and one.
template <class S, int O, int P>
constexpr bool fits(size_t cells) {
    return cells >= size_t(P) * S::W && !(O == S::MAX_BLOCK && P == 3 && cells == 4 * size_t(S::W));
}

// ---- arithmetic: a cell of the input times a cell of weights, added to a sum ----

// The output transform of a Winograd tile: the sums m of the frequencies become the pixels f, without bias.
//   f0 = m0 + m1 + m2 + m3 + m4
//   f1 = m1 - m2 + 2 (m3 - m4)
//   f2 = m1 + m2 + 4 (m3 + m4)
//   f3 = m1 - m2 + 8 (m3 - m4) + m5
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

// The same for F(2, 3): f0 = m0 + m1 + m2 and f1 = m1 - m2 - m3.
template <class S>
OB_INLINE void outputs_of(const typename S::F (&m)[4], typename S::F (&f)[2]) {
    f[0] = S::add(S::add(m[0], m[1]), m[2]);
    f[1] = S::sub(S::sub(m[1], m[2]), m[3]);
}

// A cell of four bytes, widened to two cells of two 16-bit numbers: `even` holds the channels 0 and 2, `odd`
// the channels 1 and 3.
template <class S>
struct Halves {
    typename S::I even, odd;
};

// Example: the cell 0x04030201 holds channel 0 = 1 to channel 3 = 4; even is 0x00030001, odd 0x00040002.
template <class S>
OB_INLINE Halves<S> split_bytes(typename S::I cells) {
    return {S::even_bytes(cells), S::odd_bytes(cells)};
}

// The kinds of arithmetic. A: a vector of sums. initial: the initial sum, of a whole convolution or of one
// frequency of Winograd. in: a vector of inputs. weight: one weight in every lane. step: sum + in * weight.
// value: the sum in real units. Only for Winograd: spill and reload: store a sum to scratch memory and load
// it. outputs: the output transform, with the bias or the multiplier.
template <class S>
struct Fused {
    using A = typename S::F;
    using Value = typename S::F;
    static constexpr int WEIGHT_CELLS = 1, REGISTERS = 1;
    static constexpr bool INTEGER = false;
    static OB_INLINE A initial(int32_t bits) { return S::set(S::as_float(bits)); }
    static OB_INLINE typename S::F in(const int32_t *at) {
        return S::load(reinterpret_cast<const float *>(at));
    }
    static OB_INLINE typename S::F weight(const int32_t *at) {
        return S::set(*reinterpret_cast<const float *>(at));
    }
    static OB_INLINE A step(A sum, typename S::F in, typename S::F weight) { return S::fma(in, weight, sum); }
    static OB_INLINE typename S::F value(A sum, const float *, int) { return sum; }
    static OB_INLINE A initial(const Winograd &, int, int) { return S::set(0.0f); }
    static OB_INLINE void spill(int32_t *at, A sum) { S::store(reinterpret_cast<float *>(at), sum); }
    static OB_INLINE Value reload(const int32_t *at) { return S::load(reinterpret_cast<const float *>(at)); }
    template <int FREQUENCIES, int TILE>
    static OB_INLINE void outputs(const Winograd &w, const Value (&m)[FREQUENCIES], int channel,
                                  typename S::F (&f)[TILE]) {
        outputs_of<S>(m, f);
        const typename S::F bias = S::set(w.bias[channel]);
        OB_UNROLL for (int p = 0; p < TILE; p++) f[p] = S::add(f[p], bias);
    }
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
    using Value = typename S::F;
    static constexpr int WEIGHT_CELLS = 1, REGISTERS = 1;
    static constexpr bool INTEGER = false;
    static OB_INLINE A initial(int32_t bits) { return S::set(S::as_float(bits)); }
    static OB_INLINE typename S::I in(const int32_t *at) { return S::load_cells(at); }
    static OB_INLINE typename S::I weight(const int32_t *at) { return S::set_cells(*at); }
    static OB_INLINE A step(A sum, typename S::I in, typename S::I weight) {
        return S::dot_bfloat16(sum, in, weight);
    }
    static OB_INLINE typename S::F value(A sum, const float *, int) { return sum; }
    static OB_INLINE A initial(const Winograd &, int, int) { return S::set(0.0f); }
    static OB_INLINE void spill(int32_t *at, A sum) { S::store(reinterpret_cast<float *>(at), sum); }
    static OB_INLINE Value reload(const int32_t *at) { return S::load(reinterpret_cast<const float *>(at)); }
    template <int FREQUENCIES, int TILE>
    static OB_INLINE void outputs(const Winograd &w, const Value (&m)[FREQUENCIES], int channel,
                                  typename S::F (&f)[TILE]) {
        outputs_of<S>(m, f);
        const typename S::F bias = S::set(w.bias[channel]);
        OB_UNROLL for (int p = 0; p < TILE; p++) f[p] = S::add(f[p], bias);
    }
};

// uint8 inputs times int8 weights, four of each in a cell. Without a dot product of bytes, each cell of
// inputs is widened to two cells of 16-bit numbers (channels 0 and 2, channels 1 and 3), which are multiplied
// by two cells of 16-bit weights.
template <class S>
struct Int8 {
    using A = std::conditional_t<S::BYTE_DOT, typename S::I, typename S::Sum16>;
    // The number of cells of weights for each cell of input, and of registers for each vector of sums.
    static constexpr int WEIGHT_CELLS = S::BYTE_DOT ? 1 : 2;
    static constexpr int REGISTERS = sizeof(A) / sizeof(typename S::I);
    static constexpr bool INTEGER = true;

    static OB_INLINE A initial(int32_t bits) {
        if constexpr (S::BYTE_DOT)
            return S::set_cells(bits);
        else
            return S::initial16(bits);
    }
    static OB_INLINE auto in(const int32_t *at) {
        if constexpr (S::BYTE_DOT)
            return S::byte_input(S::load_cells(at));
        else
            return split_bytes<S>(S::load_cells(at));
    }
    static OB_INLINE auto weight(const int32_t *at) {
        if constexpr (S::BYTE_DOT)
            return S::byte_weight(*at);
        else
            return Halves<S>{S::set_cells(at[0]), S::set_cells(at[1])};
    }
    template <class In, class Weight>
    static OB_INLINE A step(A sum, const In &in, const Weight &weight) {
        if constexpr (S::BYTE_DOT)
            return S::dot_bytes(sum, in, weight);
        else
            return S::dot16(S::dot16(sum, in.even, weight.even), in.odd, weight.odd);
    }
    static OB_INLINE typename S::F value(const A &sum, const float *multiplier, int channel) {
        typename S::I total;
        if constexpr (S::BYTE_DOT)
            total = sum;
        else
            total = S::total16(sum);
        return S::mul(S::to_float(total), S::set(multiplier[channel]));
    }
};

// 16-bit numbers times 16-bit numbers, two of each in a cell: the products of Winograd's integer transforms.
template <class S>
struct Int16 {
    using A = typename S::Sum16;
    static constexpr int WEIGHT_CELLS = 1, REGISTERS = sizeof(A) / sizeof(typename S::I);
    static constexpr bool INTEGER = true;
    using Value = typename S::I;

    static OB_INLINE A initial(const Winograd &w, int channel, int frequency) {
        // The initial value must be added once to every output. So it is put into m1, whose coefficient is 1
        // in all four outputs.
        return S::initial16(frequency == 1 ? w.initial_sums[channel] : 0);
    }
    static OB_INLINE typename S::I in(const int32_t *at) { return S::load_cells(at); }
    static OB_INLINE typename S::I weight(const int32_t *at) { return S::set_cells(*at); }
    static OB_INLINE A step(const A &sum, typename S::I in, typename S::I weight) {
        return S::dot16(sum, in, weight);
    }
    static OB_INLINE void spill(int32_t *at, const A &sum) { S::store_cells(at, S::total16(sum)); }
    static OB_INLINE Value reload(const int32_t *at) { return S::load_cells(at); }

    // The output transform of a tile. Each output is exactly WINOGRAD_SCALE = 24 times an integer and fits 32
    // bits (fits_integer_winograd); only intermediate sums may wrap. So an arithmetic shift by 3 divides by
    // 8, and a multiplication by the inverse of 3 modulo 2^32 divides by 3.
    static OB_INLINE void outputs(const Winograd &w, const Value (&m)[6], int channel,
                                  typename S::F (&f)[4]) {
        using I = typename S::I;
        const I sum = S::add_cells(m[1], m[2]), difference = S::sub_cells(m[1], m[2]);
        const I outer = S::add_cells(m[3], m[4]), outer_difference = S::sub_cells(m[3], m[4]);
        const I scaled[4] = {
            S::add_cells(S::add_cells(m[0], sum), outer),
            S::add_cells(difference, S::add_cells(outer_difference, outer_difference)),
            S::add_cells(sum, S::template shift_left<2>(outer)),
            S::add_cells(S::add_cells(difference, S::template shift_left<3>(outer_difference)), m[5])};
        // Example: 24 * 14 = 336; 336 >> 3 = 42 = 3 * 14, and 42 * 0xaaaaaaab = 14 modulo 2^32.
        const typename S::F multiplier = S::set(w.epilogue.multiplier[channel]);
        OB_UNROLL for (int p = 0; p < 4; p++) {
            I third =
                S::multiply_cells(S::template shift_right<3>(scaled[p]), S::set_cells(int32_t(0xaaaaaaabu)));
            f[p] = S::mul(S::to_float(third), multiplier);
        }
    }
};

// ---- epilogue ----

// Stores O channels of one vector of pixels as cells of a row of feature maps.
// Lanes: the vector's lane x is pixel `phases * (cell + x) + phase`; a cell holds 1, 2 or 4 channels of that
// pixel. For 8 bits, a value becomes round(value / scale) + zero point, clamped to 0 to 255. Example:
// channels 0 to 3 of a pixel are 0.2, -0.4, 1.0 and 99, with scale 0.1 and zero point 10: they become 12, 6,
// 20 and 255, and the cell 0xff14060c.
template <class S, int O>
OB_INLINE void store(const FeatureRow &to, const typename S::F (&f)[O], bool clamped, int channel, int phase,
                     int phases, size_t cell) {
    using I = typename S::I;
    if (to.kind == Cell::Float32) {
        OB_UNROLL for (int o = 0; o < O; o++) S::store(
            reinterpret_cast<float *>(to.base) + (size_t(channel + o) * phases + phase) * to.stride + cell,
            f[o]);
    } else if (HAS_BFLOAT16_NETWORKS && to.kind == Cell::BFloat16) {
        if constexpr (O % 2 == 0) {
            OB_UNROLL for (int o = 0; o < O; o += 2)
                S::store_cells(to.base + (size_t((channel + o) / 2) * phases + phase) * to.stride + cell,
                               S::pack_bfloat16(f[o], f[o + 1]));
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
                S::store_cells(to.base + (size_t((channel + o) / 4) * phases + phase) * to.stride + cell,
                               S::pack_bytes(q, to.zero_point));
            }
        }
    }
}

// One channel of a vector of pixels in real units, read from a row that `store` wrote.
// Example, 8 bits: level 30 with zero point 10 and scale 0.1 is 2.0.
template <class S>
OB_INLINE typename S::F skip_value(const FeatureRow &from, int channel, int phase, int phases, size_t cell) {
    if (from.kind == Cell::Float32)
        return S::load(reinterpret_cast<const float *>(from.base) +
                       (size_t(channel) * phases + phase) * from.stride + cell);
    if (HAS_BFLOAT16_NETWORKS && from.kind == Cell::BFloat16) {
        typename S::I cells =
            S::load_cells(from.base + (size_t(channel / 2) * phases + phase) * from.stride + cell);
        return channel & 1 ? S::upper_bfloat16(cells) : S::lower_bfloat16(cells);
    }
    typename S::I cells =
        S::load_cells(from.base + (size_t(channel / 4) * phases + phase) * from.stride + cell);
    typename S::I q = S::byte_of(cells, channel & 3);
    return S::mul(S::to_float(S::sub_cells(q, S::set_cells(from.zero_point))), S::set(from.scale));
}

// What follows a convolution, for O channels of one vector of pixels: apply PReLU, store the result in `raw`
// if a later skip needs it, add the skips, and store the sum in `out`. Example: the value -2 with slope 0.25
// becomes -0.5; a skip adds 1.5, and 1.0 is stored.
template <class S, int O>
OB_INLINE void finish(const Epilogue &e, typename S::F (&f)[O], int channel, int phase, size_t cell) {
    if (e.sloped) {
        OB_UNROLL for (int o = 0; o < O; o++) f[o] = S::prelu(f[o], S::set(e.slope[channel + o]));
    }
    if (e.keeps_raw) store<S, O>(e.raw, f, e.clamped, channel, phase, e.phases, cell);
    for (int s = 0; s < e.skip_count; s++) {
        OB_UNROLL for (int o = 0; o < O; o++) f[o] =
            S::add(f[o], skip_value<S>(e.skips[s], channel + o, phase, e.phases, cell));
    }
    store<S, O>(e.out, f, e.clamped, channel, phase, e.phases, cell);
}

// ---- direct convolution ----

// True if S has dot_bytes_4x3, and A is Int8<S>.
template <class S, class A, class = void>
constexpr bool HAS_DOT_BYTES_4X3 = false;
template <class S>
constexpr bool HAS_DOT_BYTES_4X3<S, Int8<S>, std::enable_if_t<S::DOT_BYTES_4X3>> = true;

// Adds the products of P vectors of inputs and O weights.
template <class S, class A, class In, int O, int P>
OB_INLINE void products(typename A::A (&sum)[O][P], const In (&in)[P], const int32_t *weights) {
    if constexpr (HAS_DOT_BYTES_4X3<S, A> && O == 4 && P == 3) {
        S::dot_bytes_4x3(sum, in, weights);
    } else {
        OB_UNROLL for (int o = 0; o < O; o++) {
            auto weight = A::weight(weights + o * A::WEIGHT_CELLS);
            OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::step(sum[o][p], in[p], weight);
        }
    }
}

// O output channels of P vectors of pixels, the innermost loop of every direct convolution. COLUMNS: the
// number of columns of the kernel if it is known at compile time, else 0, which stands for c.columns.
//
// Registers: sum[o][p] holds output channel `channel + o` of the W pixels from cell `cell + p * W` on; in[p]
// the input of these pixels, shifted by one column of the kernel; weight one cell of weights in every lane.
//
// Worked example: int8, W = 8, O = 4, P = 2, a 3x3 kernel, 16 input channels, so channel_groups = 4 cells of
// 4 channels. For row 0, group 0, column 0: in[0] are the bytes of input channels 0 to 3 of pixels -1 to 6,
// in[1] those of pixels 7 to 14. With weights (1, -2, 0, 3) for output channel 0 and bytes (10, 20, 30, 40)
// at pixel -1, lane 0 of sum[0][0] grows by 10 - 40 + 0 + 120 = 90. After 3 * 4 * 3 such steps the sums are
// complete: 4 channels of 16 pixels.
template <class S, class A, int O, int P, int COLUMNS>
OB_INLINE void direct_microkernel(const Convolution &c, const int32_t *weights, int channel, int phase,
                                  size_t cell) {
    typename A::A sum[O][P];
    OB_UNROLL for (int o = 0; o < O; o++) {
        OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::initial(c.initial_sums[channel + o]);
    }
    const int columns = COLUMNS ? COLUMNS : c.columns;
    assert(columns == c.columns && cell + size_t(P) * S::W <= c.cells && channel + O <= c.out &&
           phase < c.phases);
    // tap[l] is the offset, in cells, from the first plane of a group to the plane and cell of kernel column
    // l.
    const size_t group_stride = c.stride * c.phases;
    const ptrdiff_t *tap = c.tap[phase];
    for (int r = 0; r < c.rows; r++) {
        const int32_t *plane = c.row[r] + cell;
        for (int g = 0; g < c.channel_groups; g++, plane += group_stride) {
            OB_UNROLL for (int l = 0; l < columns; l++) {
                const int32_t *at = plane + tap[l];
                decltype(A::in(at)) in[P];
                OB_UNROLL for (int p = 0; p < P; p++) in[p] = A::in(at + p * S::W);
                products<S, A>(sum, in, weights);
                weights += O * A::WEIGHT_CELLS;
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

// O output channels of a whole row: P vectors at once, then two, then one.
template <class S, class A, int O, int COLUMNS>
void direct_block(const Convolution &c, const int32_t *weights, int channel) {
    constexpr int P = pixels_for<S, A>(O);
    for (int phase = 0; phase < c.phases; phase++) {
        size_t cell = 0;
        for (; fits<S, O, P>(c.cells - cell); cell += P * S::W)
            direct_microkernel<S, A, O, P, COLUMNS>(c, weights, channel, phase, cell);
        if constexpr (O == S::MAX_BLOCK && P > 2) {
            for (; cell + 2 * S::W <= c.cells; cell += 2 * S::W)
                direct_microkernel<S, A, O, 2, COLUMNS>(c, weights, channel, phase, cell);
        }
        for (; cell < c.cells; cell += S::W)
            direct_microkernel<S, A, O, 1, COLUMNS>(c, weights, channel, phase, cell);
    }
}

// Calls function(O, channel) for all output channels, MAX_BLOCK at once, the rest in blocks of a half, a
// quarter and an eighth of that; O is the number of channels of the block, as a std::integral_constant.
// Example: 19 channels with MAX_BLOCK = 8 are 8, 8, 2 and 1.
template <class S, class Function>
OB_INLINE void for_each_block(int channels, Function function) {
    for (int channel = 0; channel < channels;) {
        const int width = block_of(channels - channel, S::MAX_BLOCK);
        if constexpr (S::MAX_BLOCK == 8) {
            if (width == 8) function(std::integral_constant<int, 8>(), channel);
        }
        if (width == 4) function(std::integral_constant<int, 4>(), channel);
        if (width == 2) function(std::integral_constant<int, 2>(), channel);
        if (width == 1) function(std::integral_constant<int, 1>(), channel);
        channel += width;
    }
}

// All output channels of a row. The weights of a block follow those of all channels before it.
template <class S, class A, int COLUMNS>
void direct_blocks(const Convolution &c) {
    const size_t weights_per_channel = size_t(c.rows) * c.channel_groups * c.columns * A::WEIGHT_CELLS;
    for_each_block<S>(c.out, [&](auto width, int channel) {
        direct_block<S, A, decltype(width)::value, COLUMNS>(
            c, c.weights + weights_per_channel * size_t(channel), channel);
    });
}

// For kernels with 1, 3 and 5 columns, of which most networks consist, the length of the loop is known at
// compile time, so that it is unrolled.
template <class S, class A>
void direct_by_columns(const Convolution &c) {
    if (c.columns == 3) return direct_blocks<S, A, 3>(c);
    if (c.columns == 1) return direct_blocks<S, A, 1>(c);
    if (c.columns == 5) return direct_blocks<S, A, 5>(c);
    direct_blocks<S, A, 0>(c);
}

// One row of a direct convolution; see Convolution in kernel_set.h for the layout.
template <class S>
void convolve(const Convolution &c) {
    assert(c.out > 0 && c.channel_groups > 0 && c.rows > 0 && c.columns > 0 && c.columns <= MAX_COLUMNS);
    assert(c.phases >= 1 && c.phases <= MAX_PHASES && c.cells > 0 && c.cells % S::W == 0);
    assert(c.row && c.weights && c.initial_sums && c.epilogue.out.base && c.stride >= c.cells);
    switch (c.arithmetic) {
        case Arithmetic::Fused: return direct_by_columns<S, Fused<S>>(c);
        case Arithmetic::Strict:
            return direct_by_columns<S, std::conditional_t<HAS_FUSED_INSTRUCTIONS, Strict<S>, Fused<S>>>(c);
        case Arithmetic::BFloat16:
            if constexpr (HAS_BFLOAT16_NETWORKS) direct_by_columns<S, Bf16<S>>(c);
            return;
        case Arithmetic::Int16: return;  // by Winograd alone
        case Arithmetic::Int8: return direct_by_columns<S, Int8<S>>(c);
    }
}

// ---- Winograd F(4, 3) and F(2, 3) along the row ----
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), in one dimension, with the
// points 0, 1, -1, 2, -2 and infinity for F(4, 3), and 0, 1, -1 and infinity for F(2, 3).

// The input transform of F(4, 3): planes of four phases become a transformed row of float32 cells.
// Lanes: lane x of a vector belongs to tile `cell + x`, the pixels 4 t to 4 t + 3 with t = cell + x.
// Example: pixels -1 to 4 are 1, 2, 3, 4, 5, 6; tile 0 becomes 4 d0 - 5 d2 + d4 = -6,
// a + b = (d4 - 4 d2) + (d3 - 4 d1) = -11, a - b = -3, e + f = (d4 - d2) + 2 (d3 - d1) = 6, e - f = -2, and
// 4 d1 - 5 d3 + d5 = -6.
template <class S>
void transform_float32(const int32_t *planes, size_t stride, int channels, size_t cells, int32_t *row) {
    using F = typename S::F;
    const F two = S::set(2.0f), four = S::set(4.0f), five = S::set(5.0f);
    const size_t frequency_stride = size_t(channels) * S::W;
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
            S::store(out + frequency_stride, S::add(a, b));
            S::store(out + 2 * frequency_stride, S::sub(a, b));
            S::store(out + 3 * frequency_stride, S::add(e, f));
            S::store(out + 4 * frequency_stride, S::sub(e, f));
            S::store(out + 5 * frequency_stride, S::add(S::sub(S::mul(four, d1), S::mul(five, d3)), d5));
        }
    }
}

// The input transform of F(2, 3): planes of two phases become a transformed row of bfloat16 cells.
// Differences and sums are float32 and then rounded. Lanes: lane x belongs to tile `cell + x`, two pixels of
// two channels. Example: pixels -1 to 2 are 1, 2, 3, 4; tile 0 becomes -2, 5, 1, -2, which are 1 - 3, 2 + 3,
// 3 - 2 and 2 - 4.
template <class S>
void transform_bfloat16(const int32_t *planes, size_t stride, int groups, size_t cells, int32_t *row) {
    using F = typename S::F;
    const size_t frequency_stride = size_t(groups) * S::W;
    for (size_t cell = 0; cell < cells; cell += S::W) {
        int32_t *to = row + cell * frequencies_of(2) * groups;
        for (int g = 0; g < groups; g++) {
            const int32_t *at = planes + size_t(g) * 2 * stride + cell;
            // Pixels 2 t - 1 ... 2 t + 2, of two channels each.
            const typename S::I d[4] = {S::load_cells(at + stride - 1), S::load_cells(at),
                                        S::load_cells(at + stride), S::load_cells(at + 1)};
            F low[4], high[4];
            OB_UNROLL for (int k = 0; k < 4; k++) {
                low[k] = S::lower_bfloat16(d[k]);
                high[k] = S::upper_bfloat16(d[k]);
            }
            int32_t *out = to + size_t(g) * S::W;
            S::store_cells(out, S::pack_bfloat16(S::sub(low[0], low[2]), S::sub(high[0], high[2])));
            S::store_cells(out + frequency_stride,
                           S::pack_bfloat16(S::add(low[1], low[2]), S::add(high[1], high[2])));
            S::store_cells(out + 2 * frequency_stride,
                           S::pack_bfloat16(S::sub(low[2], low[1]), S::sub(high[2], high[1])));
            S::store_cells(out + 3 * frequency_stride,
                           S::pack_bfloat16(S::sub(low[1], low[3]), S::sub(high[1], high[3])));
        }
    }
}

// The transform of transform_float32 for cells of four bytes. It gives two cells of two 16-bit numbers each
// and is exact: for inputs from 0 to 255, results are in [-2040, 1275]. Lanes: lane x belongs to tile
// `cell + x`; the first cell holds channels 0 and 2 of a group, the second channels 1 and 3.
template <class S>
void transform_int16(const int32_t *planes, size_t stride, int groups, size_t cells, int32_t *row) {
    using I = typename S::I;
    const size_t frequency_stride = size_t(2 * groups) * S::W;
    for (size_t cell = 0; cell < cells; cell += S::W) {
        int32_t *to = row + cell * frequencies_of(4) * size_t(2 * groups);
        for (int g = 0; g < groups; g++) {
            const int32_t *at = planes + size_t(g) * 4 * stride + cell;
            const Halves<S> d[6] = {split_bytes<S>(S::load_cells(at + 3 * stride - 1)),
                                    split_bytes<S>(S::load_cells(at)),
                                    split_bytes<S>(S::load_cells(at + stride)),
                                    split_bytes<S>(S::load_cells(at + 2 * stride)),
                                    split_bytes<S>(S::load_cells(at + 3 * stride)),
                                    split_bytes<S>(S::load_cells(at + 1))};
            OB_UNROLL for (int half = 0; half < 2; half++) {
                I x[6];
                OB_UNROLL for (int k = 0; k < 6; k++) x[k] = half ? d[k].odd : d[k].even;
                const I four1 = S::template shift_left16<2>(x[1]), four2 = S::template shift_left16<2>(x[2]);
                const I a = S::sub16(x[4], four2), b = S::sub16(x[3], four1), e = S::sub16(x[4], x[2]);
                const I c = S::sub16(x[3], x[1]), f = S::add16(c, c);
                int32_t *out = to + (2 * size_t(g) + half) * S::W;
                // 4 d0 - 5 d2 + d4 and 4 d1 - 5 d3 + d5
                S::store_cells(
                    out, S::add16(S::sub16(S::template shift_left16<2>(x[0]), S::add16(four2, x[2])), x[4]));
                S::store_cells(out + frequency_stride, S::add16(a, b));
                S::store_cells(out + 2 * frequency_stride, S::sub16(a, b));
                S::store_cells(out + 3 * frequency_stride, S::add16(e, f));
                S::store_cells(out + 4 * frequency_stride, S::sub16(e, f));
                const I five3 = S::add16(S::template shift_left16<2>(x[3]), x[3]);
                S::store_cells(out + 5 * frequency_stride, S::add16(S::sub16(four1, five3), x[5]));
            }
        }
    }
}

// The input transform of a row of feature maps in phases, for `winograd`.
template <class S>
void transform(Cell kind, const int32_t *planes, size_t stride, int groups, size_t cells, int32_t *row) {
    assert(planes && row && groups > 0 && cells > 0 && cells % S::W == 0 && stride >= cells);
    if (kind == Cell::Float32) return transform_float32<S>(planes, stride, groups, cells, row);
    if constexpr (!S::BYTE_DOT) {
        if (kind == Cell::Int8) return transform_int16<S>(planes, stride, groups, cells, row);
    }
    if constexpr (HAS_BFLOAT16_NETWORKS) transform_bfloat16<S>(planes, stride, groups, cells, row);
}

// One frequency of O output channels of P vectors of tiles: the products with the transformed inputs, summed
// over three rows and all channels, and stored in `scratch` [channel][frequency][vector][lane].
//
// Registers: sum[o][p] holds the frequency of output channel `channel + o` of W tiles.
template <class S, class A, int TILE, int O, int P>
OB_INLINE void winograd_sums(const Winograd &w, const int32_t *weights, int channel, int frequency,
                             size_t cell) {
    constexpr int FREQUENCIES = frequencies_of(TILE);
    // The distances, in cells, from one frequency to the next and from one vector of tiles to the next.
    const size_t frequency_stride = size_t(w.channel_groups) * S::W;
    const size_t vector_stride = FREQUENCIES * frequency_stride;
    typename A::A sum[O][P];
    OB_UNROLL for (int o = 0; o < O; o++) {
        OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::initial(w, channel + o, frequency);
    }
    for (int r = 0; r < 3; r++) {
        if (!w.row[r]) {
            weights += size_t(w.channel_groups) * O;
            continue;
        }
        const int32_t *at = w.row[r] + cell * FREQUENCIES * w.channel_groups + frequency * frequency_stride;
        for (int g = 0; g < w.channel_groups; g++, at += S::W, weights += O) {
            decltype(A::in(at)) in[P];
            OB_UNROLL for (int p = 0; p < P; p++) in[p] = A::in(at + p * vector_stride);
            OB_UNROLL for (int o = 0; o < O; o++) {
                auto weight = A::weight(weights + o);
                OB_UNROLL for (int p = 0; p < P; p++) sum[o][p] = A::step(sum[o][p], in[p], weight);
            }
        }
    }
    int32_t *to = w.scratch + (size_t(channel) * FREQUENCIES + frequency) * P * S::W;
    OB_UNROLL for (int o = 0; o < O; o++, to += FREQUENCIES * P * S::W) {
        OB_UNROLL for (int p = 0; p < P; p++) A::spill(to + p * S::W, sum[o][p]);
    }
}

// The output transform and the epilogue of O output channels of P vectors of tiles: all frequencies of a tile
// give TILE outputs, one in each phase. Registers: m[k] holds frequency k.
//
// Worked example, Int16, one channel, one row of taps (1, 2, 3), pixels -1 to 4 of 1 to 6: the transformed
// inputs are -6, -11, -3, 6, -2, -6 (see transform_float32) and the weights 6, -24, -8, 17, 9, 72 (see
// integer_winograd_weights), so the products are -36, 264, 24, 102, -18, -432. Output 0 is (-36 + 264 + 24 +
// 102 - 18) / 24 = 14 = 1 + 4 + 9, output 1 (264 - 24 + 2 * (102 + 18)) / 24 = 20, output 2 (264 + 24 + 4 *
// (102 - 18)) / 24 = 26 and output 3 (264 - 24 + 8 * (102 + 18) - 432) / 24 = 32.
template <class S, class A, int TILE, int O, int P>
OB_INLINE void winograd_outputs(const Winograd &w, int channel, size_t cell) {
    constexpr int FREQUENCIES = frequencies_of(TILE);
    using F = typename S::F;
    const int32_t *from = w.scratch + size_t(channel) * FREQUENCIES * P * S::W;
    for (int p = 0; p < P; p++) {
        F f[TILE][O];
        OB_UNROLL for (int o = 0; o < O; o++) {
            typename A::Value m[FREQUENCIES];
            F outputs[TILE];
            OB_UNROLL for (int k = 0; k < FREQUENCIES; k++) m[k] =
                A::reload(from + ((size_t(o) * FREQUENCIES + k) * P + p) * S::W);
            A::outputs(w, m, channel + o, outputs);
            OB_UNROLL for (int phase = 0; phase < TILE; phase++) f[phase][o] = outputs[phase];
        }
        OB_UNROLL for (int phase = 0; phase < TILE; phase++)
            finish<S, O>(w.epilogue, f[phase], channel, phase, cell + size_t(p) * S::W);
    }
}

// All output channels of P vectors of tiles. The frequencies are the outer loop, so that the inputs of one
// frequency stay in the first-level cache while all output channels read them.
// Example: 64 channels, AVX2, three vectors: the inputs of a frequency are 3 rows * 64 * 3 * 32 bytes = 18
// KB; all frequencies, 110 KB, would have to be read from the second-level cache for each of the 16 blocks.
template <class S, class A, int TILE, int P>
OB_INLINE void winograd_vectors(const Winograd &w, size_t cell) {
    constexpr int FREQUENCIES = frequencies_of(TILE);
    for (int k = 0; k < FREQUENCIES; k++)
        for_each_block<S>(w.out, [&](auto width, int channel) {
            constexpr int O = decltype(width)::value;
            // A block's weights follow those of all channels before it: [frequency][row][group][channel].
            const size_t of_channel = 3 * size_t(w.channel_groups);
            const int32_t *weights = w.weights + (size_t(channel) * FREQUENCIES + size_t(k) * O) * of_channel;
            winograd_sums<S, A, TILE, O, P>(w, weights, channel, k, cell);
        });
    for_each_block<S>(w.out, [&](auto width, int channel) {
        winograd_outputs<S, A, TILE, decltype(width)::value, P>(w, channel, cell);
    });
}

// A whole row of tiles: P vectors at once, as many as the registers hold for MAX_BLOCK channels, then two,
// then one.
template <class S, class A, int TILE>
void winograd_row(const Winograd &w) {
    constexpr int O = S::MAX_BLOCK, P = pixels_for<S, A>(O);
    static_assert(P <= MAX_TILE_VECTORS, "the size of scratch");
    size_t cell = 0;
    for (; fits<S, O, P>(w.cells - cell); cell += P * S::W) winograd_vectors<S, A, TILE, P>(w, cell);
    if constexpr (P > 2) {
        for (; cell + 2 * S::W <= w.cells; cell += 2 * S::W) winograd_vectors<S, A, TILE, 2>(w, cell);
    }
    for (; cell < w.cells; cell += S::W) winograd_vectors<S, A, TILE, 1>(w, cell);
}

// One row of a 3x3 convolution from transformed rows; see Winograd in kernel_set.h for the layout.
template <class S>
void winograd(const Winograd &w) {
    assert(w.channel_groups > 0 && w.out > 0 && w.cells > 0 && w.cells % S::W == 0 && w.weights && w.scratch);
    assert(w.epilogue.out.base &&
           (w.arithmetic == Arithmetic::Int16 ? w.initial_sums != nullptr : w.bias != nullptr));
    if constexpr (HAS_BFLOAT16_NETWORKS) {
        if (w.arithmetic == Arithmetic::BFloat16) return winograd_row<S, Bf16<S>, 2>(w);
    }
    if constexpr (!S::BYTE_DOT) {
        if (w.arithmetic == Arithmetic::Int16) return winograd_row<S, Int16<S>, 4>(w);
    }
    winograd_row<S, Fused<S>, 4>(w);
}

// ---- pictures: plain loops, left to the compiler's vectorizer ----

// For one and for three channels, the strides (in samples) are known at compile time, so that the loops are
// vectorized. white: the value of white, 255, 65535 or 1.
template <class T>
OB_INLINE void read_as(const T *from, ptrdiff_t pixel, size_t count, float white, float *values) {
    if (pixel == 1)
        for (size_t x = 0; x < count; x++) values[x] = float(from[x]) / white;
    else if (pixel == 3)
        for (size_t x = 0; x < count; x++) values[x] = float(from[3 * x]) / white;
    else
        for (size_t x = 0; x < count; x++) values[x] = float(from[ptrdiff_t(x) * pixel]) / white;
}

// Converts one channel of a row of samples to float32 in [0, 1].
inline void read(const PictureRow &row, int channel, size_t count, float *values) {
    ptrdiff_t at = row.channel * channel;
    if (row.type == OB_UINT8)
        return read_as(static_cast<const uint8_t *>(row.base) + at, row.pixel, count, 255.0f, values);
    if (row.type == OB_UINT16)
        return read_as(static_cast<const uint16_t *>(row.base) + at, row.pixel, count, 65535.0f, values);
    read_as(static_cast<const float *>(row.base) + at, row.pixel, count, 1.0f, values);
}

// The value clipped to [0, 1], scaled, plus 0.5, so that truncation rounds it half up. NaN becomes 0.
// Example: 0.5 with white 255 is 127.5 + 0.5, which is truncated to 128.
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
OB_INLINE void write_as(const float *const *values, int channels, float white, size_t count, T *to,
                        ptrdiff_t pixel, ptrdiff_t channel) {
    if (channels == 3 && pixel == 3 && channel == 1)
        return write_three(values[0], values[1], values[2], white, count, to);
    for (int c = 0; c < channels; c++) write_one(values[c], white, count, to + c * channel, pixel);
}

inline void write(const float *const *values, int channels, int type, size_t count, void *row,
                  ptrdiff_t pixel, ptrdiff_t channel) {
    if (type == OB_UINT8)
        return write_as(values, channels, 255.0f, count, static_cast<uint8_t *>(row), pixel, channel);
    if (type == OB_UINT16)
        return write_as(values, channels, 65535.0f, count, static_cast<uint16_t *>(row), pixel, channel);
    for (int c = 0; c < channels; c++) {
        float *to = static_cast<float *>(row) + c * channel;
        if (pixel == 1)
            std::memcpy(to, values[c], count * sizeof(float));
        else
            for (size_t x = 0; x < count; x++) to[ptrdiff_t(x) * pixel] = values[c][x];
    }
}

// ITU-R BT.601, studio range / 255: white (1, 1, 1) has Y = 235 / 255 and Cb = Cr = 128 / 255.
constexpr float FROM_RGB[3][3] = {{float(65.481 / 255), float(128.553 / 255), float(24.966 / 255)},
                                  {float(-37.797 / 255), float(-74.203 / 255), float(112.0 / 255)},
                                  {float(112.0 / 255), float(-93.786 / 255), float(-18.214 / 255)}};
constexpr float OFFSET[3] = {float(16.0 / 255), float(128.0 / 255), float(128.0 / 255)};
// The inverse of the matrix, to 17 digits (numpy.linalg.inv).
constexpr float TO_RGB[3][3] = {
    {float(1.1643835616438356), float(3.0112439735697965e-07), float(1.5960268873357042)},
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

// Splits a row of pixels into planes of phases. Example, two phases: 1, 2, 3, 4, 5 become 1, 3, 5 and 2, 4.
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

// Joins planes of phases to a row of pixels, the reverse of split_by.
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

// sum[x] = weights[0] * rows[0][x] + weights[1] * rows[1][x] + ..., in this order.
inline void weighted(const float *const *rows, const float *weights, int taps, size_t count, float *sum) {
    for (size_t x = 0; x < count; x++) sum[x] = weights[0] * rows[0][x];
    for (int k = 1; k < taps; k++) {
        const float *row = rows[k], weight = weights[k];
        if (weight == 0.0f) continue;
        for (size_t x = 0; x < count; x++) sum[x] = sum[x] + weight * row[x];
    }
}

// Upscaling along a row by a polyphase filter, one result row for each phase. Example, two phases of three
// taps: rows[p][x] = w[p][0] v[x] + w[p][1] v[x + 1] + w[p][2] v[x + 2] for p = 0, 1.
template <class S, int TAPS>
OB_INLINE void enlarge_by(const float *values, const float *weights, int phases, int taps, size_t count,
                          float *rows, size_t row_stride) {
    const int n = TAPS ? TAPS : taps;
    for (int p = 0; p < phases; p++)
        for (size_t x = 0; x < count; x += S::W) {
            typename S::F sum = S::mul(S::load(values + x), S::set(weights[p * n]));
            for (int k = 1; k < n; k++)
                sum = S::add(sum, S::mul(S::load(values + x + k), S::set(weights[p * n + k])));
            S::store(rows + p * row_stride + x, sum);
        }
}

template <class S>
void enlarge(const float *values, const float *weights, int phases, int taps, size_t count, float *rows,
             size_t row_stride) {
    if (taps == 5) return enlarge_by<S, 5>(values, weights, phases, taps, count, rows, row_stride);
    enlarge_by<S, 0>(values, weights, phases, taps, count, rows, row_stride);
}

// Downscaling along a row by a filter with a stride. Example, stride 2, four taps:
// result[x] = w0 v[2 x] + w1 v[2 x + 1] + w2 v[2 x + 2] + w3 v[2 x + 3].
inline void reduce(const float *values, const float *weights, int stride, int taps, size_t count,
                   float *result) {
    for (size_t x = 0; x < count; x++) {
        float sum = 0.0f;
        for (int k = 0; k < taps; k++) sum += weights[k] * values[x * stride + k];
        result[x] = sum;
    }
}

// result[PHASES x + p] = first[p][x] + second[p][x]; `second` may be null. Example, two phases: the rows 1, 3
// and 2, 4 become 1, 2, 3, 4.
template <int PHASES>
OB_INLINE void interleave_by(const float *const *first, const float *const *second, size_t count,
                             float *result) {
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

inline void interleave(const float *const *first, const float *const *second, int phases, size_t count,
                       float *result) {
    if (phases == 1) return interleave_by<1>(first, second, count, result);
    if (phases == 2) return interleave_by<2>(first, second, count, result);
    if (phases == 3) return interleave_by<3>(first, second, count, result);
    interleave_by<4>(first, second, count, result);
}

// ---- the machine's peak: the direct kernel on data in the first-level cache ----

#if defined(__wasm__)

template <class S>
double peak(int, double) {
    return 0;  // there is no clock
}

#else

// Multiply-accumulates per second of `direct_microkernel` on one core; the best of many runs.
template <class S, class A>
double peak_of(int channels_per_cell, double seconds) {
    constexpr int O = S::MAX_BLOCK, P = pixels_for<S, A>(O), GROUPS = 12;
    alignas(64) static thread_local int32_t cells[GROUPS * (P * S::W + 2 * MARGIN)];
    alignas(64) static thread_local int32_t weights[GROUPS * 9 * O * 2], out[O * P * S::W], initial_sums[O];
    static thread_local float multiplier[O];
    const int32_t *rows[3] = {cells, cells, cells};
    Convolution c;
    c.out = O;
    c.channel_groups = GROUPS;
    c.rows = c.columns = 3;
    c.row = rows;
    c.stride = P * S::W + 2 * MARGIN;
    for (int l = 0; l < 3; l++) c.tap[0][l] = 16;  // aligned loads: the peak is a limit of the processor
    c.weights = weights;
    c.initial_sums = initial_sums;
    c.cells = P * S::W;
    c.epilogue.multiplier = multiplier;
    c.epilogue.sloped = false;
    c.epilogue.out.base = out;
    c.epilogue.out.stride = P * S::W;
    using Clock = std::chrono::steady_clock;
    double macs = double(O) * P * S::W * channels_per_cell * GROUPS * 9, best = 0;
    auto end = Clock::now() + std::chrono::duration<double>(seconds);
    do {
        auto begin = Clock::now();
        for (int k = 0; k < 200; k++) direct_microkernel<S, A, O, P, 3>(c, weights, 0, 0, 0);
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

#endif

template <class S>
KernelSet kernel_set(const char *name) {
    return {name,         S::W,        S::MAX_BLOCK, S::BFLOAT16, S::BYTE_DOT, convolve<S>,     winograd<S>,
            transform<S>, read,        write,        to_ycbcr,    to_rgb,      scale_and_shift, luma,
            split_phases, join_phases, weighted,     enlarge<S>,  reduce,      interleave,      peak<S>};
}

}  // namespace
}  // namespace ob
