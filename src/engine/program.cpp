// The layout of a program, little-endian, nothing between the fields and nothing after them:
//
//   8 bytes "OBPROG\0\1"
//   int32 channels, output channels, scale, border, number of nodes
//   each node: int32 kind, lag, border, number of inputs; each input: int32 value, first, count;
//     convolution: int32 output channels, groups, rows, columns, dilation of rows and of columns, pad at the
//       top and on the left; float32 weight[out * in / groups * rows * columns], bias[out], slope[out]
//     unary: int32 operation; float32 a[channels], b[channels]
//     binary: int32 operation
//   int32 value, first, count of the output
#include "program.h"

#include <algorithm>

#include "reader.h"

namespace ob {
namespace {

constexpr int32_t MAX_NODES = 4096, MAX_INPUTS = 1024, MAX_CHANNELS = 4096, MAX_PROGRAM_SCALE = 8;
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
    for (size_t k = 1; k < node.inputs.size(); k++)
        if (node.inputs[k].count != node.channels)
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

void read_unary(Reader &reader, ProgramNode &node) {
    if (node.inputs.size() != 1) return reader.fail("the program is damaged: the number of inputs");
    node.channels = node.inputs[0].count;
    node.unary = Unary(reader.integer(0, int32_t(Unary::Last)));
    node.a = reader.numbers<float>(uint64_t(node.channels));
    node.b = reader.numbers<float>(uint64_t(node.channels));
}

void read_binary(Reader &reader, ProgramNode &node) {
    if (node.inputs.size() != 2) return reader.fail("the program is damaged: the number of inputs");
    node.channels = node.inputs[0].count;
    node.binary = Binary(reader.integer(0, int32_t(Binary::Last)));
    if (node.inputs[1].count != node.channels && node.inputs[1].count != 1)
        reader.fail("the program is damaged: an operation on different numbers of channels");
}

void read_gather(Reader &reader, ProgramNode &node) {
    int64_t channels = 0;
    for (const Operand &input : node.inputs) channels += input.count;
    if (channels > MAX_CHANNELS) return reader.fail("the program is damaged: too many channels");
    node.channels = int32_t(channels);
}

// A node runs as soon as the last row that it reads is there, or later.
// Example: inputs of the lags 2 and 3, a 3x3 kernel with one row of padding: the lag is at least 4.
bool reads_rows_in_time(const Program &program, const ProgramNode &node) {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](const Operand &input) {
        // Only the first input of a convolution is read around a pixel.
        const bool around = node.kind == NodeKind::Convolution && &input == node.inputs.data();
        return node.lag >= program.lag_of(input.value) + (around ? node.below() : 0);
    });
}

ProgramNode read_node(Reader &reader, const Program &program) {
    ProgramNode node;
    node.kind = NodeKind(reader.integer(0, int32_t(NodeKind::Last)));
    node.lag = reader.integer(0, MAX_LAG);
    node.border = Border(reader.integer(0, int32_t(Border::Last)));
    const int32_t inputs = reader.integer(1, MAX_INPUTS);
    for (int32_t k = 0; k < inputs && !reader.error(); k++)
        node.inputs.push_back(read_operand(reader, program));
    if (reader.error()) return node;
    switch (node.kind) {
        case NodeKind::Convolution: read_convolution(reader, node); break;
        case NodeKind::Unary: read_unary(reader, node); break;
        case NodeKind::Binary: read_binary(reader, node); break;
        case NodeKind::Gather: read_gather(reader, node); break;
    }
    if (!reader.error() && !reads_rows_in_time(program, node))
        reader.fail("the program is damaged: a node runs before the rows that it reads are computed");
    return node;
}

}  // namespace

// Example: a value of lag 1 is read by a 3x3 convolution of lag 2, which in the step that computes its row y
// reads the rows y - 1 to y + 1, of which y + 1 is the newest: 3 rows. A sum of lag 4 that reads row y needs
// the rows y to y + 3: 4 rows.
std::vector<int32_t> Program::depths() const {
    std::vector<int32_t> depths(nodes.size() + 1, 1);
    const auto keep = [&](const Operand &input, int32_t lag, int32_t above) {
        int32_t &depth = depths[size_t(input.value)];
        depth = std::max(depth, lag - lag_of(input.value) + above + 1);
    };
    for (const ProgramNode &node : nodes)
        for (size_t k = 0; k < node.inputs.size(); k++) keep(node.inputs[k], node.lag, k ? 0 : node.above());
    keep(output, lag(), 0);
    return depths;
}

const char *parse_program(const uint8_t *bytes, size_t size, Program &program) {
    Reader reader(bytes, size, MESSAGES);
    reader.magic(PROGRAM_SIGNATURE);
    program.channels = reader.integer(1, 4);
    program.output_channels = reader.integer(program.channels, program.channels);
    program.scale = reader.integer(1, MAX_PROGRAM_SCALE);
    program.border = Border(reader.integer(0, int32_t(Border::Last)));
    const int32_t nodes = reader.integer(0, MAX_NODES);
    for (int32_t k = 0; k < nodes && !reader.error(); k++)
        program.nodes.push_back(read_node(reader, program));
    if (reader.error()) return reader.error();
    program.output = read_operand(reader, program);
    if (program.output.count != program.output_channels * program.scale * program.scale)
        reader.fail("the program is damaged: the number of channels of its result");
    reader.end();
    if (reader.error()) return reader.error();
    int64_t kept = 0;
    const std::vector<int32_t> depths = program.depths();
    for (size_t k = 0; k < depths.size(); k++) kept += int64_t(depths[k]) * program.channels_of(int32_t(k));
    return kept <= MAX_KEPT_ROWS ? nullptr : "the program keeps too many rows of feature maps";
}

}  // namespace ob
