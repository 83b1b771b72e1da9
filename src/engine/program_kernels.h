// Operations of programs on every sample by itself. Included by program_kernels_*.cpp alone.
//
// Lanes: sample x of a row is lane x modulo the width of the vectors: these are plain loops without branches,
// left to the compiler's vectorizer. No operation is contracted (-ffp-contract=off), so every instruction set
// computes the same bits.
#pragma once

#include <cassert>
#include <cmath>
#include <cstring>

#include "program_kernel_set.h"

#define OB_INLINE inline __attribute__((always_inline))

// No sample of the result is read for another sample: vectors may be stored over what was read.
#if defined(__clang__)
#define OB_SAMPLES _Pragma("clang loop vectorize(assume_safety)")
#else
#define OB_SAMPLES _Pragma("GCC ivdep")
#endif

namespace ob {
namespace {

// The bits of a float as an integer, and back.
OB_INLINE int32_t bits_of(float value) {
    int32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
OB_INLINE float float_of(int32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// `size`, which is positive, with the sign of x.
OB_INLINE float with_sign_of(float x, float size) {
    return float_of(bits_of(size) | (bits_of(x) & int32_t(0x80000000u)));
}
OB_INLINE float magnitude_of(float x) { return float_of(bits_of(x) & 0x7fffffff); }

// The largest |x| that counts: exp(-x) for larger x is 0, also after a product with x.
constexpr float MAX_EXPONENT = 140.0f;

// exp(x) = (1 + excess) * 2^whole.
struct Power {
    float excess;
    int32_t whole;
};

// exp(x) for -MAX_EXPONENT <= x <= 0.
// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) = 1 + (r + r^2 q(r)) by a polynomial of degree 6 with the least
// largest relative error, 1.3e-8. It is summed in pairs, which depend on each other less.
// Example: x = -1: n = -1, r = -0.3068528, excess = -0.2642411, and (1 - 0.2642411) / 2 = 0.3678794.
OB_INLINE Power power_of(float x) {
    constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: an addition rounds to a whole number
    const float n = (x * 1.44269504f + TO_INTEGER) - TO_INTEGER;
    // ln 2 in two parts, of which the first has 9 bits, so that its product with n is exact.
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f, square = r * r;
    const float low = 0.499999981f + 0.166665434f * r;
    const float high = (0.0416672007f + 0.00836654713f * r) + 0.00138825164f * square;
    return {r + square * (low + square * high), int32_t(n)};
}

// 2^exponent for -126 <= exponent <= 127.
OB_INLINE float power_of_two(int32_t exponent) { return float_of((127 + exponent) << 23); }

// value / (1 + exp(-x)) for a finite value, to 2 ulp. With e = exp(-|x|) it is value / (1 + e) for x >= 0 and
// value * e / (1 + e) below. The rounding errors of both parts are computed, too, and their share is added to
// the quotient; 1 / (1 + e) is near enough to 1 - e / 2 for that. The last power of two of e is multiplied at
// the end, so that a result below 2^-126 is rounded once. NaN, for which no comparison is true, is computed
// as -MAX_EXPONENT. Example: value 1, x = -1: e = 0.3678794, and 0.3678794 / 1.3678794 = 0.2689414.
OB_INLINE float logistic(float value, float x) {
    const float size = magnitude_of(x);
    const bool negative = x < 0;
    const Power power = power_of(size < MAX_EXPONENT ? -size : -MAX_EXPONENT);
    const int32_t half = power.whole >> 1;
    const float one = power_of_two(half), two = power_of_two(power.whole - half);
    const float e = (1.0f + power.excess) * one * two, below = 1.0f + e, share = 1.0f - 0.5f * e;
    const float part = value * power.excess, product = value + part;
    const float lost_above = negative ? (part - (product - value)) * one * share : 0.0f;
    const float lost_below = (e - (below - 1.0f)) * share;
    const float quotient = (negative ? product * one : value) / below;
    return (quotient + (lost_above - quotient * lost_below)) * (negative ? two : 1.0f);
}

// 1 / (1 + exp(-x)). Example: x = -1: 0.2689414.
OB_INLINE float sigmoid_of(float x) {
    const float value = logistic(1.0f, x);
    return x == x ? value : x;
}

// x / (1 + exp(-x)). Example: x = -1: -0.2689414.
OB_INLINE float silu_of(float x) {
    const float value = logistic(x < -MAX_EXPONENT ? -MAX_EXPONENT : x, x);
    return x < MAX_EXPONENT ? value : x;  // infinity and NaN are themselves
}

// tanh, to 1.5 ulp: near 0 an odd polynomial (of Cephes' tanhf), elsewhere 1 - 2 e / (1 + e) with
// e = exp(-2 |x|). |x| is cut to 10, where the result is 1. NaN takes the polynomial.
// Example: x = 1: e = 0.1353353, and 1 - 2 e / (1 + e) = 0.7615942.
OB_INLINE float tanh_of(float x) {
    const float size = magnitude_of(x), square = x * x, fourth = square * square;
    const Power power = power_of(-2.0f * (size < 10.0f ? size : 10.0f));
    const float e = (1.0f + power.excess) * power_of_two(power.whole);
    const float far = 1.0f - 2.0f * e / (1.0f + e);
    const float low = -3.33332819422e-1f + 1.33314422036e-1f * square;
    const float high = (-5.37397155531e-2f + 2.06390887954e-2f * square) + -5.70498872745e-3f * fourth;
    const float near = x + x * square * (low + fourth * high);
    return size >= 0.625f ? with_sign_of(x, far) : near;
}

// exp(x) for -745 <= x <= 0 in double precision, to about 1e-15, for the functions below.
OB_INLINE double exp_of_negative(double x) {
    x = x > -700.0 ? x : -700.0;
    constexpr double TO_INTEGER = 6755399441055744.0;  // 1.5 * 2^52
    const double shifted = x * 1.4426950408889634 + TO_INTEGER;
    const double n = shifted - TO_INTEGER;
    const double r = (x - n * 0.69314718036912382) - n * 1.9082149292705877e-10;
    double q = 1.0 / 39916800;
    q = q * r + 1.0 / 3628800;
    q = q * r + 1.0 / 362880;
    q = q * r + 1.0 / 40320;
    q = q * r + 1.0 / 5040;
    q = q * r + 1.0 / 720;
    q = q * r + 1.0 / 120;
    q = q * r + 1.0 / 24;
    q = q * r + 1.0 / 6;
    q = q * r + 0.5;
    const double e = 1.0 + (r + r * r * q);
    // The last bits of `shifted` are n, in two's complement. They are unsigned, because the shift drops the
    // upper ones.
    uint64_t bits;
    std::memcpy(&bits, &shifted, 8);
    const uint64_t scale_bits = (bits + 1023) << 52;
    double scale;
    std::memcpy(&scale, &scale_bits, 8);
    return e * scale;
}

// x (1 + tanh(u)) / 2 = x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), in double precision,
// because the difference 1 + tanh(u) cancels below 0. Example: x = -1: u = -0.8335630, so -1 / (1 +
// exp(1.6671260)) = -0.1588080.
OB_INLINE float gelu_tanh_of(float value) {
    const double x = double(value);
    const double twice = 1.5957691216057308 * (x + 0.044715 * x * x * x);
    const double e = exp_of_negative(twice < 0 ? twice : -twice);
    return float((twice < 0 ? x * e : x) / (1.0 + e));
}

// The function of every sample of a row; `to` may be `from`.
template <class Function>
OB_INLINE void each(const float *from, size_t count, float *to, Function function) {
    OB_SAMPLES for (size_t x = 0; x < count; x++) to[x] = function(from[x]);
}

// x (1 + erf(x / sqrt 2)) / 2 = x erfc(-x / sqrt 2) / 2, in the C library's double precision, one by one.
// Example: x = -1: -erfc(0.7071068) / 2 = -0.1586553.
OB_INLINE float gelu_of(float value) {
    const double x = double(value);
    return float(0.5 * x * std::erfc(-0.7071067811865476 * x));
}

OB_INLINE float clipped_to(float x, float least, float most) {
    x = x < least ? least : x;
    return x > most ? most : x;
}

// Example: Slope with a = 0.25 makes -2, 3 into -0.5, 3.
inline void unary(Unary operation, const float *from, float a, float b, size_t count, float *to) {
    assert(from && to);
    switch (operation) {
        case Unary::Copy: return each(from, count, to, [](float x) { return x; });
        case Unary::Slope: return each(from, count, to, [a](float x) { return x < 0 ? x * a : x; });
        case Unary::Clip: return each(from, count, to, [a, b](float x) { return clipped_to(x, a, b); });
        case Unary::Add: return each(from, count, to, [a](float x) { return x + a; });
        case Unary::Multiply: return each(from, count, to, [a](float x) { return x * a; });
        case Unary::Sigmoid: return each(from, count, to, [](float x) { return sigmoid_of(x); });
        case Unary::Tanh: return each(from, count, to, [](float x) { return tanh_of(x); });
        case Unary::Silu: return each(from, count, to, [](float x) { return silu_of(x); });
        case Unary::HardSigmoid:
            return each(from, count, to, [a, b](float x) { return clipped_to(x * a + b, 0, 1); });
        case Unary::HardSwish:
            return each(from, count, to, [](float x) { return x * clipped_to(x + 3.0f, 0, 6) / 6.0f; });
        case Unary::Gelu: return each(from, count, to, [](float x) { return gelu_of(x); });
        case Unary::GeluTanh: return each(from, count, to, [](float x) { return gelu_tanh_of(x); });
        case Unary::From: return each(from, count, to, [a](float x) { return a - x; });
        case Unary::Absolute: return each(from, count, to, [](float x) { return x < 0 ? -x : x; });
    }
}

// Example: Subtract of 1, 5 and 3, 2 is -2, 3.
inline void binary(Binary operation, const float *first, const float *second, size_t count, float *to) {
    assert(first && second && to);
    switch (operation) {
        case Binary::Add: OB_SAMPLES for (size_t x = 0; x < count; x++) to[x] = first[x] + second[x]; return;
        case Binary::Subtract:
            OB_SAMPLES for (size_t x = 0; x < count; x++) to[x] = first[x] - second[x];
            return;
        case Binary::Multiply:
            OB_SAMPLES for (size_t x = 0; x < count; x++) to[x] = first[x] * second[x];
            return;
        case Binary::Maximum:
            OB_SAMPLES for (size_t x = 0; x < count; x++) to[x] = first[x] < second[x] ? second[x] : first[x];
            return;
    }
}

constexpr ProgramKernels PROGRAM_KERNELS{unary, binary};

}  // namespace
}  // namespace ob
