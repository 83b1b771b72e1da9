// A program: operations on rows of feature maps, parsed and checked completely from untrusted bytes.
//
// Value 0 is the picture, value k the output of node k - 1. The picture consists of blocks of `block` x
// `block` pixels; where it does not, its last row and column are repeated. Every value has `rate` x `rate`
// pixels for each block; that of the picture is `block`. A result of `scale` times the size of its value has
// its pixels in channels: channel (c * scale + dy) * scale + dx holds the pixels (scale * y + dy, scale * x +
// dx) of channel c.
//
// Example: a picture is unshuffled by 2, convolved and shuffled by 4 for the result. The block is 2, the
// rates of the picture and the convolution are 2 and 1, the scale is 4, and the result has twice the
// picture's size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "description.h"
#include "kernel_set.h"
#include "program_kernel_set.h"

namespace ob {

constexpr char PROGRAM_SIGNATURE[9] = "OBPROG\0\2";

// Channels [first, first + count) of a value.
struct Operand {
    int32_t value = 0, first = 0, count = 0;
};

// What lies beyond the sides of a value: zeros, or its pixels at the edge.
enum class Border : int32_t { Zero = 0, Edge = 1, Last = Edge };

enum class NodeKind : int32_t {
    Convolution = 0,
    Elementwise = 1,
    Gather = 2,
    Unshuffle = 3,
    Shuffle = 4,
    Last = Shuffle
};

constexpr int32_t MAX_STEPS = 16;  // of a node

// What a step reads: a result of the same node, or one of its inputs.
// Example: {false, 0} is what the node itself computed, {false, 1} the result of its first step, {true, 1}
// its second input.
struct StepOperand {
    bool is_input = false;
    int32_t index = 0;
};

// An operation on every sample by itself: `unary` of `first`, or `binary` of `first` and `second`. An input
// of one channel is used for all.
struct Step {
    bool is_binary = false;
    Unary unary = Unary::Copy;
    Binary binary = Binary::Add;
    StepOperand first, second;
    std::vector<float> a, b;  // parameters of every channel, of a unary operation
};

// What a node computes of its own inputs:
// Convolution: of the first one, then f < 0 ? f * slope : f, then the sum with the others.
// Elementwise: its only one, as it is.
// Gather: the channels of all, one after the other.
// Unshuffle: channel (c * factor + dy) * factor + dx holds the pixels (factor * y + dy, factor * x + dx) of
//   channel c, so that the rate is divided by the factor. Shuffle: the reverse.
// Then its steps, which may read its other inputs too; the last one computes the output.
struct ProgramNode {
    NodeKind kind = NodeKind::Gather;
    int32_t lag = 0;   // rows by which the output is behind after a block has been read
    int32_t rate = 1;  // rows of the output for each block
    Border border = Border::Zero;
    std::vector<Operand> inputs;
    int32_t own_inputs = 1;  // the others are read by steps only
    int32_t channels = 0;    // of the output
    int32_t factor = 1;      // of an unshuffle or shuffle
    std::vector<Step> steps;

    // Convolution. Output pixel (y, x) reads the pixels (y - pad_top + k * dilation_rows, ...).
    int32_t groups = 1, rows = 1, columns = 1, dilation_rows = 1, dilation_columns = 1;
    int32_t pad_top = 0, pad_left = 0;
    std::vector<Layer> layers;  // one for each group

    // Rows and columns that the output reads around a pixel; 0 for all kinds but convolutions.
    int32_t above() const { return pad_top; }
    int32_t below() const { return (rows - 1) * dilation_rows - pad_top; }
    int32_t left() const { return pad_left; }
    int32_t right() const { return (columns - 1) * dilation_columns - pad_left; }
};

// Rows of the picture for which every node computes its rows together: its weights are read once for all of
// them, and as many more rows of every value are kept.
constexpr int32_t ROWS_AT_ONCE = 4;

struct Program {
    int32_t channels = 1, output_channels = 1, scale = 1, block = 1;
    Border border = Border::Zero;  // of the picture
    std::vector<ProgramNode> nodes;
    Operand output;

    int32_t channels_of(int32_t value) const { return value ? nodes[size_t(value) - 1].channels : channels; }
    int32_t lag_of(int32_t value) const { return value ? nodes[size_t(value) - 1].lag : 0; }
    int32_t rate_of(int32_t value) const { return value ? nodes[size_t(value) - 1].rate : block; }
    Border border_of(int32_t value) const { return value ? nodes[size_t(value) - 1].border : border; }
    // Of the result: rows for each row of the picture, and rows of the picture that a row lags behind.
    int32_t output_scale() const { return rate_of(output.value) * scale / block; }
    int32_t lag() const;
    // Blocks of the picture for which every node computes its rows together.
    int32_t blocks_at_once() const { return block < ROWS_AT_ONCE ? ROWS_AT_ONCE / block : 1; }
    // The number of rows of each value that are kept: all that a node or the result still reads, when every
    // node computes the rows of so many blocks before the next one.
    std::vector<int32_t> depths(int32_t blocks) const;
};

// Reads a program. Returns null, or what is wrong: one line in static storage.
const char *parse_program(const uint8_t *bytes, size_t size, Program &program);

}  // namespace ob
