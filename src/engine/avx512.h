// AVX-512 (F, BW, VL, DQ): 16 lanes, 32 registers. VNNI and BF16 have instructions for dot products.
#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace ob {
namespace {

template <bool VNNI, bool BF16>
struct Avx512 {
    static constexpr int W = 16, MAX_BLOCK = 8;
    static constexpr bool BFLOAT16 = BF16, BYTE_DOT = VNNI;
    using F = __m512;
    using I = __m512i;

    static OB_INLINE float as_float(int32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static OB_INLINE F set(float value) { return _mm512_set1_ps(value); }
    static OB_INLINE F load(const float *at) { return _mm512_loadu_ps(at); }
    static OB_INLINE void store(float *at, F value) { _mm512_storeu_ps(at, value); }
    static OB_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
    static OB_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static OB_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static OB_INLINE F fma(F a, F b, F c) {
        asm("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
        return c;
    }
    // The product and the sum are rounded separately. They are one statement, because the compiler would
    // otherwise compute many products first and run out of registers.
    static OB_INLINE F multiply_then_add(F a, F b, F c) {
        F product;
        asm("vmulps %3, %2, %1\n\tvaddps %1, %0, %0" : "+v"(c), "=&v"(product) : "v"(a), "v"(b));
        return c;
    }
    static OB_INLINE F prelu(F f, F slope) {
        return _mm512_mask_mul_ps(f, _mm512_cmp_ps_mask(f, _mm512_setzero_ps(), _CMP_LT_OQ), f, slope);
    }
    // Rounding gives the smallest integer for NaN and for values that are too small, so only values that are
    // too large are clamped.
    static OB_INLINE F clamp(F f) { return _mm512_min_ps(f, set(1024.0f)); }

    static OB_INLINE I set_cells(int32_t value) { return _mm512_set1_epi32(value); }
    static OB_INLINE I load_cells(const int32_t *at) { return _mm512_loadu_si512(at); }
    static OB_INLINE void store_cells(int32_t *at, I value) { _mm512_storeu_si512(at, value); }
    static OB_INLINE I sub_cells(I a, I b) { return _mm512_sub_epi32(a, b); }
    static OB_INLINE F to_float(I value) { return _mm512_cvtepi32_ps(value); }
    static OB_INLINE I round(F value) { return _mm512_cvtps_epi32(value); }
    static OB_INLINE I byte_of(I cells, int which) {
        return _mm512_and_si512(_mm512_srl_epi32(cells, _mm_cvtsi32_si128(8 * which)), set_cells(255));
    }
    // Lanes: see avx2.h; here there are four groups of 128 bits.
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        const I zero = _mm512_set1_epi16(int16_t(zero_point));
        I low = _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero);
        I high = _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero);
        const I order =
            _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        return _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), order);
    }
    static OB_INLINE F lower_bfloat16(I cells) { return _mm512_castsi512_ps(_mm512_slli_epi32(cells, 16)); }
    static OB_INLINE F upper_bfloat16(I cells) {
        return _mm512_castsi512_ps(_mm512_and_si512(cells, set_cells(int32_t(0xffff0000u))));
    }
    // Rounded to nearest, ties to even, in the upper half.
    static OB_INLINE I round_bfloat16(F value) {
        I bits = _mm512_castps_si512(value);
        I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set_cells(1));
        return _mm512_add_epi32(bits, _mm512_add_epi32(odd, set_cells(0x7fff)));
    }
    static OB_INLINE I pack_bfloat16(F low, F high) {
#if defined(__AVX512BF16__)
        if constexpr (BF16) {
            alignas(64) static constexpr uint16_t ORDER[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                               21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                               11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
            return _mm512_permutexvar_epi16(_mm512_load_si512(ORDER),
                                            (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
#endif
        return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(round_bfloat16(low), 16),
                                       round_bfloat16(high));
    }
    static OB_INLINE F dot_bfloat16(F sum, I a, I b) {
#if defined(__AVX512BF16__)
        if constexpr (BF16) {
            asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
            return sum;
        }
#endif
        return fma(upper_bfloat16(a), upper_bfloat16(b), fma(lower_bfloat16(a), lower_bfloat16(b), sum));
    }

    // u8 x s8, four products in each lane added to a 32-bit sum (vpdpbusd).
    static OB_INLINE I byte_input(I cells) { return cells; }
    static OB_INLINE I byte_weight(int32_t bytes) { return set_cells(bytes); }
    static OB_INLINE I dot_bytes(I sum, I in, I weight) {
#if defined(__AVX512VNNI__)
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(in), "v"(weight));
#endif
        return sum;
    }

    // Two products of 16-bit numbers in each lane, added to a 32-bit sum.
    using Sum16 = I;
    static OB_INLINE Sum16 initial16(int32_t value) { return set_cells(value); }
    static OB_INLINE Sum16 dot16(Sum16 sum, I in, I weight) {
        return _mm512_add_epi32(sum, _mm512_madd_epi16(in, weight));
    }
    static OB_INLINE I total16(Sum16 sum) { return sum; }
    static OB_INLINE I even_bytes(I cells) { return _mm512_and_si512(cells, set_cells(0x00ff00ff)); }
    static OB_INLINE I odd_bytes(I cells) { return _mm512_srli_epi16(cells, 8); }
    static OB_INLINE I add16(I a, I b) { return _mm512_add_epi16(a, b); }
    static OB_INLINE I sub16(I a, I b) { return _mm512_sub_epi16(a, b); }
    template <int BITS>
    static OB_INLINE I shift_left16(I value) {
        return _mm512_slli_epi16(value, BITS);
    }
    static OB_INLINE I add_cells(I a, I b) { return _mm512_add_epi32(a, b); }
    static OB_INLINE I multiply_cells(I a, I b) { return _mm512_mullo_epi32(a, b); }
    template <int BITS>
    static OB_INLINE I shift_left(I value) {
        return _mm512_slli_epi32(value, BITS);
    }
    template <int BITS>
    static OB_INLINE I shift_right(I value) {
        return _mm512_srai_epi32(value, BITS);
    }
};

}  // namespace
}  // namespace ob
