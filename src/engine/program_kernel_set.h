// The operations of programs on single samples, for one set of instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_set.h"

namespace ob {

// Operations on every sample x of a feature map by itself, with up to two parameters a and b of its channel.
enum class Unary : int32_t {
    Copy = 0,
    Slope = 1,     // x < 0 ? x * a : x
    Clip = 2,      // min(max(x, a), b)
    Add = 3,       // x + a
    Multiply = 4,  // x * a
    Sigmoid = 5,   // 1 / (1 + exp(-x))
    Tanh = 6,
    Silu = 7,         // x / (1 + exp(-x))
    HardSigmoid = 8,  // min(max(x * a + b, 0), 1)
    HardSwish = 9,    // x * min(max(x + 3, 0), 6) / 6
    Gelu = 10,        // x * (1 + erf(x / sqrt 2)) / 2
    GeluTanh = 11,    // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
    From = 12,        // a - x
    Absolute = 13,
    Last = Absolute,
};

// Operations on two feature maps.
enum class Binary : int32_t { Add = 0, Subtract = 1, Multiply = 2, Maximum = 3, Last = Maximum };

// On `count` samples of one channel; the result may take the place of an operand.
struct ProgramKernels {
    void (*unary)(Unary operation, const float *from, float a, float b, size_t count, float *to);
    void (*binary)(Binary operation, const float *first, const float *second, size_t count, float *to);
};

// The fastest of these kernels that run on every processor that runs the set `kernels`.
ProgramKernels program_kernels_for(const KernelSet &kernels);

}  // namespace ob
