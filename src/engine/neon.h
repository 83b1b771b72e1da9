// NEON of 64-bit ARM, with the dot product of bytes where the processor has it.
#pragma once

#include <arm_neon.h>

#include "kernels.h"

namespace ob {
namespace {

template <bool DOT>
struct Neon {
    static constexpr int W = 4, MAX_BLOCK = 8;
    static constexpr bool BFLOAT16 = false, BYTE_DOT = DOT;
    using F = float32x4_t;
    using I = int32x4_t;

    static OB_INLINE float as_float(int32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static OB_INLINE F set(float value) { return vdupq_n_f32(value); }
    static OB_INLINE F load(const float *at) { return vld1q_f32(at); }
    static OB_INLINE void store(float *at, F value) { vst1q_f32(at, value); }
    static OB_INLINE F add(F a, F b) { return vaddq_f32(a, b); }
    static OB_INLINE F sub(F a, F b) { return vsubq_f32(a, b); }
    static OB_INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
    static OB_INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    static OB_INLINE F multiply_then_add(F a, F b, F c) { return add(mul(a, b), c); }
    static OB_INLINE F prelu(F f, F slope) { return vbslq_f32(vcltzq_f32(f), vmulq_f32(f, slope), f); }
    static OB_INLINE F clamp(F f) { return f; }  // rounding saturates

    static OB_INLINE I set_cells(int32_t value) { return vdupq_n_s32(value); }
    static OB_INLINE I load_cells(const int32_t *at) { return vld1q_s32(at); }
    static OB_INLINE void store_cells(int32_t *at, I value) { vst1q_s32(at, value); }
    static OB_INLINE I sub_cells(I a, I b) { return vsubq_s32(a, b); }
    static OB_INLINE F to_float(I value) { return vcvtq_f32_s32(value); }
    static OB_INLINE I round(F value) { return vcvtnq_s32_f32(value); }
    static OB_INLINE I byte_of(I cells, int which) {
        uint32x4_t moved = vshlq_u32(vreinterpretq_u32_s32(cells), vdupq_n_s32(-8 * which));
        return vreinterpretq_s32_u32(vandq_u32(moved, vdupq_n_u32(255)));
    }
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        const int16x8_t zero = vdupq_n_s16(int16_t(zero_point));
        int16x8_t low = vqaddq_s16(vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1])), zero);
        int16x8_t high = vqaddq_s16(vcombine_s16(vqmovn_s32(q[2]), vqmovn_s32(q[3])), zero);
        uint8x16_t bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
        static const uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
        return vreinterpretq_s32_u8(vqtbl1q_u8(bytes, vld1q_u8(order)));
    }
    static OB_INLINE F lower_bfloat16(I cells) { return vreinterpretq_f32_s32(vshlq_n_s32(cells, 16)); }
    static OB_INLINE F upper_bfloat16(I cells) {
        return vreinterpretq_f32_s32(vandq_s32(cells, vdupq_n_s32(int32_t(0xffff0000u))));
    }
    static OB_INLINE uint32x4_t round_bfloat16(F value) {
        uint32x4_t bits = vreinterpretq_u32_f32(value);
        uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        return vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    }
    static OB_INLINE I pack_bfloat16(F low, F high) {
        uint32x4_t upper = vandq_u32(round_bfloat16(high), vdupq_n_u32(0xffff0000u));
        return vreinterpretq_s32_u32(vorrq_u32(vshrq_n_u32(round_bfloat16(low), 16), upper));
    }
    static OB_INLINE F dot_bfloat16(F sum, I a, I b) {
        return fma(upper_bfloat16(a), upper_bfloat16(b), fma(lower_bfloat16(a), lower_bfloat16(b), sum));
    }

    // Inputs become signed by subtracting 128, so 128 times the sum of its weights is added for every weight
    // cell. Example: input 200 and weight 3: (200 - 128) * 3 + 128 * 3 = 600 = 200 * 3.
    struct Weight {
        int8x16_t bytes;
        I correction;
    };
    static OB_INLINE I byte_input(I cells) {
        return vreinterpretq_s32_u8(veorq_u8(vreinterpretq_u8_s32(cells), vdupq_n_u8(0x80)));
    }
    static OB_INLINE Weight byte_weight(int32_t bytes) {
        uint32_t b = uint32_t(bytes);
        int32_t sum = int8_t(b) + int8_t(b >> 8) + int8_t(b >> 16) + int8_t(b >> 24);
        return {vreinterpretq_s8_s32(vdupq_n_s32(bytes)), vdupq_n_s32(128 * sum)};
    }
    static OB_INLINE I dot_bytes(I sum, I in, const Weight &weight) {
        int8x16_t a = vreinterpretq_s8_s32(in);
        sum = vaddq_s32(sum, weight.correction);
#if defined(__ARM_FEATURE_DOTPROD)
        sum = vdotq_s32(sum, a, weight.bytes);
#endif
        return sum;
    }

    // Two products of 16-bit numbers in each lane, added to a 32-bit sum. NEON adds a product a lane: the
    // sums of the lower and the upper half of the lanes are kept apart, interleaved by channel, and added in
    // pairs at the end.
    struct Sum16 {
        I low, high;
    };
    static OB_INLINE Sum16 initial16(int32_t value) {
        const int32_t first[4] = {value, 0, value, 0};
        return {vld1q_s32(first), vld1q_s32(first)};
    }
    static OB_INLINE Sum16 dot16(const Sum16 &sum, I in, I weight) {
        const int16x8_t a = vreinterpretq_s16_s32(in), b = vreinterpretq_s16_s32(weight);
        return {vmlal_s16(sum.low, vget_low_s16(a), vget_low_s16(b)), vmlal_high_s16(sum.high, a, b)};
    }
    static OB_INLINE I total16(const Sum16 &sum) { return vpaddq_s32(sum.low, sum.high); }
    static OB_INLINE I even_bytes(I cells) { return vandq_s32(cells, vdupq_n_s32(0x00ff00ff)); }
    static OB_INLINE I odd_bytes(I cells) {
        return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(cells), 8));
    }
    static OB_INLINE I add16(I a, I b) {
        return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
    }
    static OB_INLINE I sub16(I a, I b) {
        return vreinterpretq_s32_s16(vsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
    }
    template <int BITS>
    static OB_INLINE I shift_left16(I value) {
        return vreinterpretq_s32_s16(vshlq_n_s16(vreinterpretq_s16_s32(value), BITS));
    }
    static OB_INLINE I add_cells(I a, I b) { return vaddq_s32(a, b); }
    static OB_INLINE I multiply_cells(I a, I b) { return vmulq_s32(a, b); }
    template <int BITS>
    static OB_INLINE I shift_left(I value) {
        return vshlq_n_s32(value, BITS);
    }
    template <int BITS>
    static OB_INLINE I shift_right(I value) {
        return vshrq_n_s32(value, BITS);
    }
};

}  // namespace
}  // namespace ob
