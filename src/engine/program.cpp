// The layout of a program, little-endian, nothing between the fields and nothing after them:
//
//   8 bytes "OBPROG\0\2"
//   int32 channels, output channels, scale, block, border, number of nodes
//   each node: int32 kind, lag, border, number of inputs, number of its own; each input: int32 value, first,
//     count;
//     convolution: int32 output channels, groups, rows, columns, dilation of rows and of columns, pad at the
//       top and on the left; float32 weight[out * in / groups * rows * columns], bias[out], slope[out]
//     unshuffle and shuffle: int32 factor
//     int32 number of steps; each step: int32 operation, first operand;
//       unary: float32 a[channels], b[channels]
//       binary, whose operations are FIRST_BINARY and the next ones: int32 second operand
//       operands: 0 is what the node computed, k the result of step k - 1, -1 - k input k
//   int32 value, first, count of the output
#include "program.h"

#include <algorithm>

#include "reader.h"

namespace ob {
namespace {

constexpr int32_t MAX_NODES = 4096, MAX_INPUTS = 1024, MAX_CHANNELS = 4096;
// Of the result over its value, and over the picture; rows of a value for each block.
constexpr int32_t MAX_PROGRAM_SCALE = 32, MAX_OUTPUT_SCALE = 8, MAX_BLOCK = 16, MAX_RATE = 64;
constexpr int32_t FIRST_BINARY = 64;
constexpr int32_t MAX_ROWS = 31, MAX_LAG = 1 << 14;
// Columns that a convolution reads on one side: no more than the margins of a plane hold.
constexpr int32_t MAX_SIDE = MAX_PHASES * (MARGIN - 1);
// Rows of channels that all values keep: at 1,000 columns, 1 GiB.
constexpr int64_t MAX_KEPT_ROWS = 1 << 18;

constexpr ReaderMessages MESSAGES = {
    "these bytes are not a program of this version",    "the program is truncated",
    "the program is damaged: a number is out of range", "the program is damaged: a number is not finite",
    "the program is damaged: a weight is not finite",   "the program is damaged: data follows its end",
};

// The channels of an operand must exist, in a value that is computed before.
Operand read_operand(Reader &reader, const Program &program) {
    Operand operand;
    operand.value = reader.integer(0, int64_t(program.nodes.size()));
    const int32_t channels = program.channels_of(operand.value);
    operand.first = reader.integer(0, channels - 1);
    operand.count = reader.integer(1, channels - operand.first);
    return operand;
}

// The sizes are checked before any weight is read; every group becomes a layer of its own.
void read_convolution(Reader &reader, ProgramNode &node) {
    const int32_t in = node.inputs[0].count;
    node.channels = reader.integer(1, MAX_CHANNELS);
    node.groups = reader.integer(1, std::min(in, node.channels));
    node.rows = reader.integer(1, MAX_ROWS);
    node.columns = reader.integer(1, MAX_COLUMNS);
    node.dilation_rows = reader.integer(1, MAX_SIDE);
    node.dilation_columns = reader.integer(1, MAX_SIDE);
    node.pad_top = reader.integer(0, (node.rows - 1) * node.dilation_rows);
    node.pad_left = reader.integer(0, (node.columns - 1) * node.dilation_columns);
    if (node.left() > MAX_SIDE || node.right() > MAX_SIDE)
        return reader.fail("the program is damaged: a convolution reads too many columns");
    if (in % node.groups || node.channels % node.groups)
        return reader.fail("the program is damaged: groups do not divide the channels");
    for (int32_t k = 1; k < node.own_inputs; k++)
        if (node.inputs[size_t(k)].count != node.channels)
            return reader.fail("the program is damaged: a sum of different numbers of channels");
    Layer layer;
    layer.in = in / node.groups;
    layer.out = node.channels / node.groups;
    layer.rows = node.rows;
    layer.columns = node.columns;
    const uint64_t taps = uint64_t(layer.in) * uint64_t(node.rows) * uint64_t(node.columns);
    for (int32_t g = 0; g < node.groups && !reader.error(); g++) {
        layer.weight = reader.numbers<float>(uint64_t(layer.out) * taps);
        node.layers.push_back(layer);
    }
    for (Layer &each : node.layers) each.bias = reader.numbers<float>(uint64_t(layer.out));
    for (Layer &each : node.layers) each.slope = reader.numbers<float>(uint64_t(layer.out));
}

void read_gather(Reader &reader, ProgramNode &node) {
    int64_t channels = 0;
    for (int32_t k = 0; k < node.own_inputs; k++) channels += node.inputs[size_t(k)].count;
    if (channels > MAX_CHANNELS) return reader.fail("the program is damaged: too many channels");
    node.channels = int32_t(channels);
}

// Example: 12 channels of rate 1 are shuffled by 2 to 3 channels of rate 2.
void read_shuffle(Reader &reader, ProgramNode &node) {
    if (node.own_inputs != 1) return reader.fail("the program is damaged: the number of inputs");
    node.factor = reader.integer(2, MAX_PHASES);
    const int32_t area = node.factor * node.factor, channels = node.inputs[0].count;
    const bool unshuffles = node.kind == NodeKind::Unshuffle;
    if (unshuffles ? node.rate % node.factor : channels % area)
        return reader.fail("the program is damaged: a factor does not divide what it should");
    if (unshuffles ? channels * area > MAX_CHANNELS : node.rate * node.factor > MAX_RATE)
        return reader.fail("the program is damaged: too many channels, or too large a rate");
    node.channels = unshuffles ? channels * area : channels / area;
    node.rate = unshuffles ? node.rate / node.factor : node.rate * node.factor;
}

// A node's own inputs have one rate, and the inputs of its steps have that of its output.
bool has_equal_rates(const Program &program, const ProgramNode &node) {
    const int32_t input_rate = program.rate_of(node.inputs[0].value);
    for (size_t k = 0; k < node.inputs.size(); k++) {
        const int32_t rate = program.rate_of(node.inputs[k].value);
        if (rate != (k < size_t(node.own_inputs) ? input_rate : node.rate)) return false;
    }
    return true;
}

// Step k may read what the node and the steps before it computed, and inputs of as many channels or of one.
StepOperand read_step_operand(Reader &reader, const Program &program, const ProgramNode &node) {
    const int32_t number = reader.integer(-int64_t(node.inputs.size()), int64_t(node.steps.size()));
    if (number >= 0) return {false, number};
    const StepOperand operand{true, -1 - number};
    const Operand &input = node.inputs[size_t(operand.index)];
    if (!reader.error() && input.count != 1 && input.count != node.channels)
        reader.fail("the program is damaged: an operation on different numbers of channels");
    if (!reader.error() && program.rate_of(input.value) != node.rate)
        reader.fail("the program is damaged: an operation on values of different rates");
    return operand;
}

void read_steps(Reader &reader, const Program &program, ProgramNode &node) {
    const int32_t count = reader.integer(node.kind == NodeKind::Elementwise ? 1 : 0, MAX_STEPS);
    for (int32_t k = 0; k < count && !reader.error(); k++) {
        Step step;
        const int32_t operation = reader.integer(0, FIRST_BINARY + int32_t(Binary::Last));
        step.is_binary = operation >= FIRST_BINARY;
        if (!step.is_binary && operation > int32_t(Unary::Last))
            return reader.fail("the program is damaged: an unknown operation");
        step.first = read_step_operand(reader, program, node);
        if (step.is_binary) {
            step.binary = Binary(operation - FIRST_BINARY);
            step.second = read_step_operand(reader, program, node);
        } else {
            step.unary = Unary(operation);
            step.a = reader.numbers<float>(uint64_t(node.channels));
            step.b = reader.numbers<float>(uint64_t(node.channels));
        }
        node.steps.push_back(step);
    }
}

int32_t divided_up(int32_t number, int32_t by) { return (number + by - 1) / by; }

// The lag of a node's input `k`, in rows of its output, with the rows that it reads below a pixel.
// Example: an input of lag 3. A 3x3 kernel with one row of padding: 4. An unshuffle by 2: 2, because its row
// y reads the rows 2 y and 2 y + 1. A shuffle by 2: 6.
int32_t lag_of_input(const Program &program, const ProgramNode &node, size_t k) {
    const int32_t lag = program.lag_of(node.inputs[k].value);
    if (k >= size_t(node.own_inputs)) return lag;
    if (node.kind == NodeKind::Unshuffle) return divided_up(lag, node.factor);
    if (node.kind == NodeKind::Shuffle) return lag * node.factor;
    // Only the first input of a convolution is read around a pixel.
    return lag + (k ? 0 : node.below());
}

// A node runs as soon as the last row that it reads is there, or later.
bool reads_rows_in_time(const Program &program, const ProgramNode &node) {
    for (size_t k = 0; k < node.inputs.size(); k++)
        if (node.lag < lag_of_input(program, node, k)) return false;
    return true;
}

ProgramNode read_node(Reader &reader, const Program &program) {
    ProgramNode node;
    node.kind = NodeKind(reader.integer(0, int32_t(NodeKind::Last)));
    node.lag = reader.integer(0, MAX_LAG);
    node.border = Border(reader.integer(0, int32_t(Border::Last)));
    const int32_t inputs = reader.integer(1, MAX_INPUTS);
    node.own_inputs = reader.integer(1, node.kind == NodeKind::Elementwise ? 1 : inputs);
    for (int32_t k = 0; k < inputs && !reader.error(); k++)
        node.inputs.push_back(read_operand(reader, program));
    if (reader.error()) return node;
    node.rate = program.rate_of(node.inputs[0].value);
    switch (node.kind) {
        case NodeKind::Convolution: read_convolution(reader, node); break;
        case NodeKind::Elementwise: node.channels = node.inputs[0].count; break;
        case NodeKind::Gather: read_gather(reader, node); break;
        case NodeKind::Unshuffle:
        case NodeKind::Shuffle: read_shuffle(reader, node); break;
    }
    if (!reader.error() && !has_equal_rates(program, node))
        reader.fail("the program is damaged: an operation on values of different rates");
    if (!reader.error()) read_steps(reader, program, node);
    if (!reader.error() && !reads_rows_in_time(program, node))
        reader.fail("the program is damaged: a node runs before the rows that it reads are computed");
    return node;
}

}  // namespace

// Example: a result of lag 3 at rate 2 and blocks of 4 rows: 3 rows are 6 rows of the picture.
int32_t Program::lag() const { return divided_up(lag_of(output.value) * block, rate_of(output.value)); }

// Example, one block of one row at a time: a value of lag 1 is read by a 3x3 convolution of lag 2, which in
// the step that computes its row y reads the rows y - 1 to y + 1, of which y + 1 is the newest: 3 rows. A sum
// of lag 4 that reads row y needs the rows y to y + 3: 4 rows. Each block more at a time adds `rate` rows.
std::vector<int32_t> Program::depths(int32_t blocks) const {
    std::vector<int32_t> depths(nodes.size() + 1, 1);
    // lag: of the oldest row of the value that a reader still needs.
    const auto keep = [&](int32_t value, int32_t lag) {
        int32_t &depth = depths[size_t(value)];
        depth = std::max(depth, lag - lag_of(value) + rate_of(value) * blocks);
    };
    for (const ProgramNode &node : nodes)
        for (size_t k = 0; k < node.inputs.size(); k++) {
            int32_t lag = node.lag + (k ? 0 : node.above());
            if (k == 0 && node.kind == NodeKind::Unshuffle) lag = node.lag * node.factor;
            if (k == 0 && node.kind == NodeKind::Shuffle) lag = divided_up(node.lag, node.factor);
            keep(node.inputs[k].value, lag);
        }
    keep(output.value, lag_of(output.value));
    return depths;
}

const char *parse_program(const uint8_t *bytes, size_t size, Program &program) {
    Reader reader(bytes, size, MESSAGES);
    reader.magic(PROGRAM_SIGNATURE);
    program.channels = reader.integer(1, 4);
    program.output_channels = reader.integer(program.channels, program.channels);
    program.scale = reader.integer(1, MAX_PROGRAM_SCALE);
    program.block = reader.integer(1, MAX_BLOCK);
    program.border = Border(reader.integer(0, int32_t(Border::Last)));
    const int32_t nodes = reader.integer(0, MAX_NODES);
    for (int32_t k = 0; k < nodes && !reader.error(); k++)
        program.nodes.push_back(read_node(reader, program));
    if (reader.error()) return reader.error();
    program.output = read_operand(reader, program);
    if (program.output.count != program.output_channels * program.scale * program.scale)
        reader.fail("the program is damaged: the number of channels of its result");
    const int32_t rows = program.rate_of(program.output.value) * program.scale;
    if (rows % program.block || rows > MAX_OUTPUT_SCALE * program.block)
        reader.fail("the program is damaged: the size of its result");
    reader.end();
    if (reader.error()) return reader.error();
    int64_t kept = 0;
    const std::vector<int32_t> depths = program.depths(program.blocks_at_once());
    for (int32_t v = 0; v <= nodes; v++)  // a row of a higher rate has more columns
        kept += int64_t(depths[size_t(v)]) * program.channels_of(v) *
                divided_up(program.rate_of(v), program.block);
    return kept <= MAX_KEPT_ROWS ? nullptr : "the program keeps too many rows of feature maps";
}

}  // namespace ob
