// A program: operations on rows of feature maps, parsed and checked completely from untrusted bytes.
//
// Value 0 is the picture, value k the output of node k - 1. All values have the picture's height and width.
// A result of `scale` times that size has its pixels in channels: channel (c * scale + dy) * scale + dx holds
// the pixels (scale * y + dy, scale * x + dx) of channel c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "description.h"
#include "kernel_set.h"
#include "program_kernel_set.h"

namespace ob {

constexpr char PROGRAM_SIGNATURE[9] = "OBPROG\0\1";

// Channels [first, first + count) of a value.
struct Operand {
    int32_t value = 0, first = 0, count = 0;
};

// What lies beyond the sides of a value: zeros, or its pixels at the edge.
enum class Border : int32_t { Zero = 0, Edge = 1, Last = Edge };

enum class NodeKind : int32_t { Convolution = 0, Unary = 1, Binary = 2, Gather = 3, Last = Gather };

// Convolution: of `inputs[0]`, then f < 0 ? f * slope : f, then the sum with every other input.
// Unary: `unary` of `inputs[0]` with the parameters a and b of every channel.
// Binary: `binary` of `inputs[0]` and `inputs[1]`, which may have one channel that is used for all.
// Gather: the channels of all inputs, one after the other.
struct ProgramNode {
    NodeKind kind = NodeKind::Gather;
    int32_t lag = 0;  // rows behind the picture
    Border border = Border::Zero;
    std::vector<Operand> inputs;
    int32_t channels = 0;  // of the output

    // Convolution. Output pixel (y, x) reads the pixels (y - pad_top + k * dilation_rows, ...).
    int32_t groups = 1, rows = 1, columns = 1, dilation_rows = 1, dilation_columns = 1;
    int32_t pad_top = 0, pad_left = 0;
    std::vector<Layer> layers;  // one for each group

    Unary unary = Unary::Copy;
    std::vector<float> a, b;
    Binary binary = Binary::Add;

    // Rows and columns that the output reads around a pixel; 0 for all kinds but convolutions.
    int32_t above() const { return pad_top; }
    int32_t below() const { return (rows - 1) * dilation_rows - pad_top; }
    int32_t left() const { return pad_left; }
    int32_t right() const { return (columns - 1) * dilation_columns - pad_left; }
};

struct Program {
    int32_t channels = 1, output_channels = 1, scale = 1;
    Border border = Border::Zero;  // of the picture
    std::vector<ProgramNode> nodes;
    Operand output;

    int32_t channels_of(int32_t value) const { return value ? nodes[size_t(value) - 1].channels : channels; }
    int32_t lag_of(int32_t value) const { return value ? nodes[size_t(value) - 1].lag : 0; }
    Border border_of(int32_t value) const { return value ? nodes[size_t(value) - 1].border : border; }
    int32_t lag() const { return lag_of(output.value); }
    // The number of rows of each value that are kept: all that a node or the result still reads.
    std::vector<int32_t> depths() const;
};

// Reads a program. Returns null, or what is wrong in one line, which is valid forever.
const char *parse_program(const uint8_t *bytes, size_t size, Program &program);

}  // namespace ob
