// Any processor: with the vector extensions of GCC and Clang, four lanes. Read this set first.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels.h"

namespace ob {
namespace {

struct Portable {
    static constexpr int W = 4, MAX_BLOCK = 4;
    static constexpr bool BFLOAT16 = false, BYTE_DOT = false;
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));
    typedef uint32_t U __attribute__((vector_size(16)));  // arithmetic modulo 2^32

    static OB_INLINE float as_float(int32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static OB_INLINE F set(float value) { return F{value, value, value, value}; }
    static OB_INLINE F load(const float *at) {
        F value;
        std::memcpy(&value, at, 16);
        return value;
    }
    static OB_INLINE void store(float *at, F value) { std::memcpy(at, &value, 16); }
    static OB_INLINE F add(F a, F b) { return a + b; }
    static OB_INLINE F sub(F a, F b) { return a - b; }
    static OB_INLINE F mul(F a, F b) { return a * b; }
    static OB_INLINE F fma(F a, F b, F c) { return a * b + c; }
    static OB_INLINE F multiply_then_add(F a, F b, F c) { return add(mul(a, b), c); }
    static OB_INLINE F prelu(F f, F slope) { return f < set(0.0f) ? f * slope : f; }
    // NaN becomes the smallest value.
    static OB_INLINE F clamp(F f) {
        f = f > set(-1024.0f) ? f : set(-1024.0f);
        return f < set(1024.0f) ? f : set(1024.0f);
    }

    static OB_INLINE I set_cells(int32_t value) { return I{value, value, value, value}; }
    static OB_INLINE I load_cells(const int32_t *at) {
        I value;
        std::memcpy(&value, at, 16);
        return value;
    }
    static OB_INLINE void store_cells(int32_t *at, I value) { std::memcpy(at, &value, 16); }
    static OB_INLINE I sub_cells(I a, I b) { return a - b; }
    static OB_INLINE F to_float(I value) { return __builtin_convertvector(value, F); }
    // Rounds to nearest, ties to even: after the addition of 1.5 * 2^23, a float has no bits for a fraction.
    // Values are clamped to +-1024 first, which is beyond every 8-bit result.
    static OB_INLINE I round(F value) {
        const F shifted = clamp(value) + set(12582912.0f);
        return (I)shifted - set_cells(0x4b400000);
    }
    static OB_INLINE I byte_of(I cells, int which) { return (cells >> (8 * which)) & 255; }
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        I cells = set_cells(0);
        for (int b = 0; b < 4; b++) {
            I value = q[b] + zero_point;
            value = value < set_cells(0) ? set_cells(0) : value;
            value = value > set_cells(255) ? set_cells(255) : value;
            cells |= value << (8 * b);
        }
        return cells;
    }
    static OB_INLINE F lower_bfloat16(I cells) { return (F)(cells << 16); }
    static OB_INLINE F upper_bfloat16(I cells) { return (F)(cells & int32_t(0xffff0000u)); }
    // Rounded to nearest, ties to even, in the upper half.
    static OB_INLINE I round_bfloat16(F value) {
        U bits = (U)value;
        return (I)(bits + ((bits >> 16) & 1) + 0x7fff);
    }
    static OB_INLINE I pack_bfloat16(F low, F high) {
        return ((round_bfloat16(low) >> 16) & 0xffff) | (round_bfloat16(high) & int32_t(0xffff0000u));
    }
    static OB_INLINE F dot_bfloat16(F sum, I a, I b) {
        return fma(upper_bfloat16(a), upper_bfloat16(b), fma(lower_bfloat16(a), lower_bfloat16(b), sum));
    }

    // Two products of 16-bit numbers in each lane, added to a 32-bit sum.
    using Sum16 = I;
    static OB_INLINE Sum16 initial16(int32_t value) { return set_cells(value); }
#if defined(__SSE2__)
    static OB_INLINE Sum16 dot16(Sum16 sum, I in, I weight) {
        return sum + (I)_mm_madd_epi16((__m128i)in, (__m128i)weight);  // every x86-64 processor has it
    }
#else
    static OB_INLINE Sum16 dot16(Sum16 sum, I in, I weight) {
        return sum + ((in << 16) >> 16) * ((weight << 16) >> 16) + (in >> 16) * (weight >> 16);
    }
#endif
    static OB_INLINE I total16(Sum16 sum) { return sum; }
    static OB_INLINE I even_bytes(I cells) { return cells & 0x00ff00ff; }
    static OB_INLINE I odd_bytes(I cells) { return (cells >> 8) & 0x00ff00ff; }
    typedef int16_t H __attribute__((vector_size(16)));
    static OB_INLINE I add16(I a, I b) { return (I)((H)a + (H)b); }
    static OB_INLINE I sub16(I a, I b) { return (I)((H)a - (H)b); }
    template <int BITS>
    static OB_INLINE I shift_left16(I value) {
        return (I)((H)value << BITS);
    }
    static OB_INLINE I add_cells(I a, I b) { return a + b; }
    // Modulo 2^32, as the instructions of the other sets: in unsigned numbers, where overflow is defined.
    static OB_INLINE I multiply_cells(I a, I b) { return (I)((U)a * (U)b); }
    template <int BITS>
    static OB_INLINE I shift_left(I value) {
        return (I)((U)value << BITS);
    }
    template <int BITS>
    static OB_INLINE I shift_right(I value) {
        return value >> BITS;
    }
};

}  // namespace

}  // namespace ob
