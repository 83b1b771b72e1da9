// AVX2 with FMA: eight lanes, 16 registers. VNNI: with the dot product of bytes in its VEX encoding
// (AVX-VNNI).
#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace ob {
namespace {

template <bool VNNI>
struct Avx2 {
    static constexpr int W = 8, MAX_BLOCK = 4;
    static constexpr bool BFLOAT16 = false, BYTE_DOT = VNNI;
    using F = __m256;
    using I = __m256i;

    static OB_INLINE float as_float(int32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static OB_INLINE F set(float value) { return _mm256_set1_ps(value); }
    static OB_INLINE F load(const float *at) { return _mm256_loadu_ps(at); }
    static OB_INLINE void store(float *at, F value) { _mm256_storeu_ps(at, value); }
    static OB_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
    static OB_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    static OB_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static OB_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static OB_INLINE F multiply_then_add(F a, F b, F c) { return add(mul(a, b), c); }
    static OB_INLINE F prelu(F f, F slope) {
        return _mm256_blendv_ps(f, _mm256_mul_ps(f, slope),
                                _mm256_cmp_ps(f, _mm256_setzero_ps(), _CMP_LT_OQ));
    }
    // Rounding gives the smallest integer for NaN and for values that are too small, so only values that are
    // too large are clamped.
    static OB_INLINE F clamp(F f) { return _mm256_min_ps(f, set(1024.0f)); }

    static OB_INLINE I set_cells(int32_t value) { return _mm256_set1_epi32(value); }
    static OB_INLINE I load_cells(const int32_t *at) {
        return _mm256_loadu_si256(reinterpret_cast<const I *>(at));
    }
    static OB_INLINE void store_cells(int32_t *at, I value) {
        _mm256_storeu_si256(reinterpret_cast<I *>(at), value);
    }
    static OB_INLINE I sub_cells(I a, I b) { return _mm256_sub_epi32(a, b); }
    static OB_INLINE F to_float(I value) { return _mm256_cvtepi32_ps(value); }
    static OB_INLINE I round(F value) { return _mm256_cvtps_epi32(value); }
    static OB_INLINE I byte_of(I cells, int which) {
        return _mm256_and_si256(_mm256_srl_epi32(cells, _mm_cvtsi32_si128(8 * which)), set_cells(255));
    }
    // Lanes: the pack instructions work within each half of 128 bits. After both, a half holds four pixels of
    // q[0], then of q[1], q[2] and q[3]; `order` puts the four bytes of a pixel side by side.
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        const I zero = _mm256_set1_epi16(int16_t(zero_point));
        I low = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), zero);
        I high = _mm256_adds_epi16(_mm256_packs_epi32(q[2], q[3]), zero);
        const I order =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        return _mm256_shuffle_epi8(_mm256_packus_epi16(low, high), order);
    }
    static OB_INLINE F lower_bfloat16(I cells) { return _mm256_castsi256_ps(_mm256_slli_epi32(cells, 16)); }
    static OB_INLINE F upper_bfloat16(I cells) {
        return _mm256_castsi256_ps(_mm256_and_si256(cells, set_cells(int32_t(0xffff0000u))));
    }
    // Rounded to nearest, ties to even, in the upper half.
    static OB_INLINE I round_bfloat16(F value) {
        I bits = _mm256_castps_si256(value);
        I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set_cells(1));
        return _mm256_add_epi32(bits, _mm256_add_epi32(odd, set_cells(0x7fff)));
    }
    static OB_INLINE I pack_bfloat16(F low, F high) {
        return _mm256_blend_epi16(_mm256_srli_epi32(round_bfloat16(low), 16), round_bfloat16(high), 0xaa);
    }
    static OB_INLINE F dot_bfloat16(F sum, I a, I b) {
        return fma(upper_bfloat16(a), upper_bfloat16(b), fma(lower_bfloat16(a), lower_bfloat16(b), sum));
    }

    // u8 x s8, four products in each lane added to a 32-bit sum (vpdpbusd).
    static OB_INLINE I byte_input(I cells) { return cells; }
    static OB_INLINE I byte_weight(int32_t bytes) { return set_cells(bytes); }
    static OB_INLINE I dot_bytes(I sum, I in, I weight) {
#if defined(ONEBRANCH_MODELS)
        // The definition of the instruction, for tests on processors that lack it.
        alignas(32) int32_t sums[8];
        alignas(32) uint8_t inputs[32];
        alignas(32) int8_t weights[32];
        _mm256_store_si256(reinterpret_cast<I *>(sums), sum);
        _mm256_store_si256(reinterpret_cast<I *>(inputs), in);
        _mm256_store_si256(reinterpret_cast<I *>(weights), weight);
        for (int k = 0; k < 32; k++) sums[k / 4] += int32_t(inputs[k]) * int32_t(weights[k]);
        return _mm256_load_si256(reinterpret_cast<const I *>(sums));
#elif defined(__AVXVNNI__)
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(in), "x"(weight));
        return sum;
#else
        return sum;
#endif
    }

#if defined(__AVXVNNI__)
    // The products of four output channels and three vectors, which need all 16 registers: one statement,
    // because the compiler would otherwise keep one of the sums in memory, and wait for it in every step.
    static constexpr bool DOT_BYTES_4X3 = VNNI;
    static OB_INLINE void dot_bytes_4x3(I (&sum)[4][3], const I (&in)[3], const int32_t *weights) {
#define OB_CHANNEL(offset, a, b, c)                                                       \
    "vpbroadcastd " offset                                                                \
    "(%[weights]), %[weight]\n\t"                                                         \
    "%{vex%} vpdpbusd %[weight], %[in0], " a "\n\t%{vex%} vpdpbusd %[weight], %[in1], " b \
    "\n\t%{vex%} vpdpbusd %[weight], %[in2], " c "\n\t"
        I weight;
        asm volatile(OB_CHANNEL("", "%0", "%1", "%2") OB_CHANNEL("4", "%3", "%4", "%5")
                         OB_CHANNEL("8", "%6", "%7", "%8") OB_CHANNEL("12", "%9", "%10", "%11")
                     : "+&x"(sum[0][0]), "+&x"(sum[0][1]), "+&x"(sum[0][2]), "+&x"(sum[1][0]),
                       "+&x"(sum[1][1]), "+&x"(sum[1][2]), "+&x"(sum[2][0]), "+&x"(sum[2][1]),
                       "+&x"(sum[2][2]), "+&x"(sum[3][0]), "+&x"(sum[3][1]),
                       "+&x"(sum[3][2]), [weight] "=&x"(weight)
                     : [in0] "x"(in[0]), [in1] "x"(in[1]), [in2] "x"(in[2]), [weights] "r"(weights));
#undef OB_CHANNEL
    }
#else
    static constexpr bool DOT_BYTES_4X3 = false;
#endif

    // Two products of 16-bit numbers in each lane, added to a 32-bit sum.
    using Sum16 = I;
    static OB_INLINE Sum16 initial16(int32_t value) { return set_cells(value); }
    static OB_INLINE Sum16 dot16(Sum16 sum, I in, I weight) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(in, weight));
    }
    static OB_INLINE I total16(Sum16 sum) { return sum; }
    static OB_INLINE I even_bytes(I cells) { return _mm256_and_si256(cells, set_cells(0x00ff00ff)); }
    static OB_INLINE I odd_bytes(I cells) { return _mm256_srli_epi16(cells, 8); }
    static OB_INLINE I add16(I a, I b) { return _mm256_add_epi16(a, b); }
    static OB_INLINE I sub16(I a, I b) { return _mm256_sub_epi16(a, b); }
    template <int BITS>
    static OB_INLINE I shift_left16(I value) {
        return _mm256_slli_epi16(value, BITS);
    }
    static OB_INLINE I add_cells(I a, I b) { return _mm256_add_epi32(a, b); }
    static OB_INLINE I multiply_cells(I a, I b) { return _mm256_mullo_epi32(a, b); }
    template <int BITS>
    static OB_INLINE I shift_left(I value) {
        return _mm256_slli_epi32(value, BITS);
    }
    template <int BITS>
    static OB_INLINE I shift_right(I value) {
        return _mm256_srai_epi32(value, BITS);
    }
};

}  // namespace
}  // namespace ob
