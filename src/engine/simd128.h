// WebAssembly SIMD without its relaxed operations: four lanes. Floats are computed as in the portable set, so
// both give the same bits; integers have a dot product of 16-bit numbers, saturating packs and a rounding.
#pragma once

#include <wasm_simd128.h>

#include "portable.h"

namespace ob {
namespace {

struct Simd128 : Portable {
    static OB_INLINE I from(v128_t value) { return (I)value; }
    static OB_INLINE v128_t bits(I value) { return (v128_t)value; }
    static OB_INLINE v128_t bits(F value) { return (v128_t)value; }

    // f < 0 ? f * slope : f, by a mask of the sign; NaN stays as it is.
    static OB_INLINE F prelu(F f, F slope) {
        const v128_t below = wasm_f32x4_lt(bits(f), wasm_f32x4_const_splat(0));
        return (F)wasm_v128_bitselect(bits(f * slope), bits(f), below);
    }
    // NaN becomes the smallest value, as pmin and pmax keep their first operand unless the second is less or
    // greater.
    static OB_INLINE F clamp(F f) {
        const v128_t least = wasm_f32x4_const_splat(-1024), most = wasm_f32x4_const_splat(1024);
        return (F)wasm_f32x4_pmin(most, wasm_f32x4_pmax(least, bits(f)));
    }
    // As in the portable set: values are clamped, and rounded by an addition.
    static OB_INLINE I round(F value) { return (I)(clamp(value) + set(12582912.0f)) - set_cells(0x4b400000); }
    // Example: see `store` in kernels.h. Values of more than 16 bits saturate twice.
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        const v128_t zero = wasm_i16x8_splat(int16_t(zero_point));
        const v128_t low = wasm_i16x8_add_sat(wasm_i16x8_narrow_i32x4(bits(q[0]), bits(q[1])), zero);
        const v128_t high = wasm_i16x8_add_sat(wasm_i16x8_narrow_i32x4(bits(q[2]), bits(q[3])), zero);
        const v128_t bytes = wasm_u8x16_narrow_i16x8(low, high);
        return from(wasm_i8x16_shuffle(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    }

    // Two products of 16-bit numbers in each lane, added to a 32-bit sum.
    static OB_INLINE Sum16 dot16(Sum16 sum, I in, I weight) {
        return sum + from(wasm_i32x4_dot_i16x8(bits(in), bits(weight)));
    }
    static OB_INLINE I odd_bytes(I cells) { return from(wasm_u16x8_shr(bits(cells), 8)); }
};

}  // namespace
}  // namespace ob
