#include "program_strip.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "strip_state.h"

namespace ob {
namespace {

constexpr int PHASES = MAX_PHASES;    // of the rows of all values
constexpr size_t STEP_SAMPLES = 256;  // of a channel that run through all steps of a node together

// A 3x3 convolution of one group that reads zeros beyond the picture, padded by one pixel on every side.
bool runs_by_winograd(const ProgramNode &node, Border border) {
    return node.kind == NodeKind::Convolution && node.groups == 1 && border == Border::Zero &&
           node.dilation_rows == 1 && node.dilation_columns == 1 && node.pad_top == 1 && node.pad_left == 1 &&
           is_faster_by_winograd(node.layers[0]);
}

}  // namespace

PackedProgram::PackedProgram(Program &&given, const KernelSet *set)
    : program(std::move(given)),
      kernels(set),
      on_samples(program_kernels_for(*set)),
      layers(program.nodes.size()),
      depths(program.depths(program.blocks_at_once())) {
    for (size_t k = 0; k < program.nodes.size(); k++) {
        const ProgramNode &node = program.nodes[k];
        if (node.kind != NodeKind::Convolution) continue;
        const bool winograd = runs_by_winograd(node, program.border_of(node.inputs[0].value));
        for (const Layer &layer : node.layers) {
            layers[k].push_back(pack_float(layer, winograd, *set));
            complete = complete && layers[k].back().weights.data() && layers[k].back().initial_sums.data();
        }
    }
}

// The blocks begin at a multiple of four, so that the columns of every value do.
// Example: a picture of rate 2 is needed in [98, 202), a value of rate 1 in [50, 100): the blocks [48, 101).
Interval RequiredRegions::all_columns(const Program &program) const {
    Interval all;
    for (size_t v = 0; v < columns.size(); v++) {
        if (columns[v].size() <= 0) continue;
        const int64_t rate = program.rate_of(int32_t(v));
        const Interval blocks{columns[v].begin / rate, (columns[v].end + rate - 1) / rate};
        if (all.size() <= 0) all = blocks;
        all = {std::min(all.begin, blocks.begin), std::max(all.end, blocks.end)};
    }
    return {round_down(all.begin, PHASES), all.end};
}

namespace {

// What a node reads of an input for an interval of its output, before it is clipped to the picture.
// Example: rows [3, 5) of a 3x3 convolution: [2, 6). Of an unshuffle by 2: [6, 10). Of a shuffle by 2:
// [1, 3).
Interval read_by(const ProgramNode &node, Interval of, int32_t before, int32_t after) {
    const int64_t factor = node.factor;
    if (node.kind == NodeKind::Unshuffle) return {of.begin * factor, of.end * factor};
    if (node.kind == NodeKind::Shuffle) return {of.begin / factor, (of.end + factor - 1) / factor};
    return {of.begin - before, of.end + after};
}

void widen(Interval &interval, Interval by) {
    if (interval.size() <= 0) interval = by;
    interval = {std::min(interval.begin, by.begin), std::max(interval.end, by.end)};
}

}  // namespace

RequiredRegions required_regions(const PackedProgram &packed, Interval columns, Interval rows, int64_t width,
                                 int64_t height) {
    const Program &program = packed.program;
    RequiredRegions regions;
    regions.rows.resize(program.nodes.size() + 1);
    regions.columns.resize(program.nodes.size() + 1);
    const auto at_rate = [&](Interval pixels, int64_t rate) {
        return Interval{pixels.begin / program.block * rate, pixels.end / program.block * rate};
    };
    const size_t result = size_t(program.output.value);
    regions.rows[result] = at_rate(rows, program.rate_of(program.output.value));
    regions.columns[result] = at_rate(columns, program.rate_of(program.output.value));
    for (size_t k = program.nodes.size(); k-- > 0;) {
        const ProgramNode &node = program.nodes[k];
        const Interval own_rows = regions.rows[k + 1], own_columns = regions.columns[k + 1];
        if (own_rows.size() <= 0) continue;  // nothing reads it
        for (size_t i = 0; i < node.inputs.size(); i++) {
            const size_t value = size_t(node.inputs[i].value);
            if (i) {
                widen(regions.rows[value], own_rows);
                widen(regions.columns[value], own_columns);
                continue;
            }
            const int64_t rate = program.rate_of(int32_t(value));
            Interval need = own_columns;
            if (!packed.layers[k].empty() && packed.layers[k][0].winograd)
                need = {round_down(need.begin, PHASES), round_up(need.end, PHASES)};
            widen(regions.rows[value],
                  clipped(read_by(node, own_rows, node.above(), node.below()), height * rate));
            widen(regions.columns[value],
                  clipped(read_by(node, need, node.left(), node.right()), width * rate));
        }
    }
    return regions;
}

// The rows of one value.
struct ValueRows {
    Ring ring;
    Interval needed;  // rows that are computed
    int channels = 0, rate = 1;
    int64_t lag = 0;
    int64_t begin = 0, span = 0, height = 0;  // columns that are computed; rows in all
    size_t cells = 0, stride = 0;             // of a plane
    int32_t beyond = 0;                       // columns that convolutions read on either side
    Border border = Border::Zero;
};

struct ProgramStrip::State : Allocator {
    const PackedProgram &packed;
    const Program &program;
    const KernelSet &kernels;
    ob_format format;
    Interval columns, rows;  // of the result, in the picture's pixels, in whole blocks
    Interval buffer;         // blocks of columns that are computed
    int64_t first_block = 0, steps_done = 0;
    std::vector<ValueRows> values;
    Ring transformed;                      // transformed rows of the input of the Winograd node that runs
    int64_t next_transformed = 0;          // the first row that is not transformed yet
    Buffer<int32_t> zeros, scratch;        // zeros: a row of the largest value
    Buffer<float> line, shuffled, output;  // rows of pixels
    Buffer<float> step_results;            // STEP_SAMPLES of every step
    size_t line_size = 0;

    State(const PackedProgram &packed, const ob_format &format, Interval columns, Interval rows);
    void set_values();
    void allocate();

    int32_t *plane(const Operand &operand, int64_t y, int channel) const;
    const float *floats(const Operand &operand, int64_t y, int channel) const;
    void run_blocks(Interval blocks, const Samples &target, int64_t first_target_row);
    void take(const Samples &source, int64_t first_source_row, int64_t y);
    void finish_row(size_t value, int64_t y);
    void fill_with_edges(const ValueRows &of, int32_t *plane);
    void run(size_t index, int64_t y);
    void convolve(size_t index, int64_t y);
    void winograd(size_t index, int64_t y);
    void set_epilogue(size_t index, int64_t y, int group, Epilogue &epilogue, FeatureRow *sums);
    const float *plane_of(const ProgramNode &node, size_t value, StepOperand operand, int64_t y,
                          int channel) const;
    void run_steps(const ProgramNode &node, size_t value, int64_t y);
    void gather(const ProgramNode &node, size_t value, int64_t y);
    void unshuffle(const ProgramNode &node, size_t value, int64_t y);
    void shuffle(const ProgramNode &node, size_t value, int64_t y);
    void emit(int64_t y, const Samples &target, int64_t first_target_row);
    void write_row(int64_t row, const float *const *channels, const Samples &target,
                   int64_t first_target_row);
};

ProgramStrip::State::State(const PackedProgram &of, const ob_format &result_format, Interval wanted_columns,
                           Interval wanted_rows)
    : packed(of), program(of.program), kernels(*of.kernels), format(result_format) {
    columns = {wanted_columns.begin, round_up(wanted_columns.end, program.block)};
    rows = {wanted_rows.begin, round_up(wanted_rows.end, program.block)};
    set_values();
    // The first step is that in which the first value computes its first row.
    first_block = rows.begin / program.block;
    for (const ValueRows &value : values)
        if (value.needed.size() > 0)
            first_block = std::min(first_block, (value.needed.begin + value.lag) / value.rate);
    allocate();
}

void ProgramStrip::State::set_values() {
    const int64_t width = round_up(format.width, program.block) / program.block;
    const int64_t height = round_up(format.height, program.block) / program.block;
    const RequiredRegions regions = required_regions(packed, columns, rows, width, height);
    buffer = regions.all_columns(program);
    values.resize(program.nodes.size() + 1);
    for (size_t v = 0; v < values.size(); v++) {
        ValueRows &value = values[v];
        value.needed = regions.rows[v];
        value.channels = program.channels_of(int32_t(v));
        value.rate = program.rate_of(int32_t(v));
        value.lag = program.lag_of(int32_t(v));
        value.border = program.border_of(int32_t(v));
        value.begin = buffer.begin * value.rate;
        value.span = buffer.size() * value.rate;
        value.height = height * value.rate;
        value.cells = size_t(round_up((value.span + PHASES - 1) / PHASES, kernels.lanes));
        value.stride = plane_stride(value.cells);
    }
    for (const ProgramNode &node : program.nodes) {
        int32_t &beyond = values[size_t(node.inputs[0].value)].beyond;
        beyond = std::max({beyond, node.left(), node.right()});
    }
}

// Worked example: a picture of 100 columns, AVX2 (8 lanes), a value of 16 channels and the picture's rate
// that a 3x3 convolution reads:
//   cells   round_up(25, 8) = 32 cells of a plane; each of the 4 phases holds every 4th pixel
//   stride  32 + 2 * 16 = 64 cells, made an odd number of lines of 16: 80 from plane to plane
//   ring    4 rows at once and 2 more of 16 * 4 planes
//   transformed   3 rows of 16 * 6 * 32 cells, shared by all nodes that run by Winograd: each node transforms
//           two rows of its last run again, but far fewer rows are kept
void ProgramStrip::State::allocate() {
    uint64_t largest = 0, largest_transformed = 0;
    for (size_t v = 0; v < values.size() && complete; v++) {
        const uint64_t row_size = uint64_t(values[v].channels) * PHASES * values[v].stride;
        largest = std::max(largest, row_size);
        values[v].ring = make_ring(packed.depths[v], row_size);
    }
    int widest = 0;
    for (size_t k = 0; k < program.nodes.size() && complete; k++) {
        if (packed.layers[k].empty() || !packed.layers[k][0].winograd) continue;
        const Operand &input = program.nodes[k].inputs[0];
        widest = std::max(widest, packed.layers[k][0].out);
        largest_transformed = std::max(largest_transformed,
                                       uint64_t(input.count) * frequencies_of(PHASES) * values[k + 1].cells);
    }
    if (complete && largest_transformed) transformed = make_ring(3, largest_transformed);
    if (!complete) return;
    zeros = buffer_of<int32_t>(largest);
    scratch = buffer_of<int32_t>(winograd_scratch(widest, kernels.lanes));
    step_results = buffer_of<float>(STEP_SAMPLES * (MAX_STEPS + 1));
    const int64_t span = std::max(values[0].span, values[size_t(program.output.value)].span);
    line_size = size_t(round_up(span, 64)) + 64;
    line = buffer_of<float>(line_size);
    shuffled = buffer_of<float>(uint64_t(line_size) * uint64_t(program.scale));
    output =
        buffer_of<float>(uint64_t(line_size) * uint64_t(program.scale) * uint64_t(program.output_channels));
}

// Plane 0 (phase 0), cell 0 of a channel of an operand.
int32_t *ProgramStrip::State::plane(const Operand &operand, int64_t y, int channel) const {
    assert(channel >= 0 && channel < operand.count);
    const ValueRows &value = values[size_t(operand.value)];
    return value.ring.row(y) + size_t(operand.first + channel) * PHASES * value.stride + MARGIN;
}

const float *ProgramStrip::State::floats(const Operand &operand, int64_t y, int channel) const {
    return reinterpret_cast<const float *>(plane(operand, y, channel));
}

// Converts row y of the picture into value 0. Beyond the picture, its last row and column are repeated.
void ProgramStrip::State::take(const Samples &source, int64_t first_source_row, int64_t y) {
    const ValueRows &value = values[0];
    if (y >= format.height) {
        std::memcpy(value.ring.row(y), value.ring.row(y - 1), value.ring.row_size * sizeof(int32_t));
        return;
    }
    const size_t sample = bytes_of_sample(format.source);
    const size_t count = size_t(std::min(value.span, format.width - value.begin));
    PictureRow row;
    row.base = static_cast<const char *>(source.base) +
               ptrdiff_t(sample) * ((y - first_source_row) * source.row + value.begin * source.pixel);
    row.type = format.source;
    row.pixel = source.pixel;
    row.channel = source.channel;
    for (int c = 0; c < program.channels; c++) {
        kernels.read(row, c, count, line.data());
        std::fill(line.data() + count, line.data() + value.span, line[count - 1]);
        float *to = reinterpret_cast<float *>(plane({0, 0, program.channels}, y, c));
        kernels.split_phases(line.data(), size_t(value.span), PHASES, to, value.stride);
    }
    finish_row(0, y);
}

// Sets what lies beyond the row's ends, where whole vectors of cells were computed: zeros, or the edges.
// Example: a row of 10 pixels: phase 0 holds the pixels 0, 4 and 8, phase 2 the pixels 2 and 6. Its cell 2
// would be pixel 10; it becomes 0, or pixel 9.
void ProgramStrip::State::finish_row(size_t index, int64_t y) {
    const ValueRows &value = values[index];
    if (!value.beyond) return;
    int32_t *at = value.ring.row(y) + MARGIN;
    for (int c = 0; c < value.channels; c++, at += PHASES * value.stride) {
        if (value.border == Border::Edge) {
            fill_with_edges(value, at);
            continue;
        }
        for (int64_t p = 0; p < PHASES; p++) {
            const size_t first = size_t((value.span - p + PHASES - 1) / PHASES);
            // A tile that runs by Winograd reads up to its own end.
            const size_t end = std::min(value.cells, first + size_t(value.beyond) / PHASES + 2);
            for (size_t k = first; k < end; k++) at[size_t(p) * value.stride + k] = 0;
        }
    }
}

// Example: a row of 6 pixels, 2 beyond: pixels -2 and -1 (phases 2 and 3, cell -1) become pixel 0, and pixels
// 6 and 7 (phases 2 and 3, cell 1) become pixel 5.
void ProgramStrip::State::fill_with_edges(const ValueRows &value, int32_t *of) {
    const int64_t span = value.span;
    const auto pixel = [&](int64_t x) -> int32_t & {
        const int64_t phase = ((x % PHASES) + PHASES) % PHASES;
        return of[phase * int64_t(value.stride) + (x - phase) / PHASES];
    };
    for (int64_t k = 1; k <= value.beyond; k++) {
        pixel(-k) = pixel(0);
        pixel(span - 1 + k) = pixel(span - 1);
    }
}

void ProgramStrip::State::set_epilogue(size_t index, int64_t y, int group, Epilogue &e, FeatureRow *sums) {
    const ProgramNode &node = program.nodes[index];
    const PackedLayer &layer = packed.layers[index][size_t(group)];
    const auto row = [&](const Operand &operand) {
        FeatureRow r;
        r.base = plane(operand, y, group * layer.out);
        r.stride = values[index + 1].stride;
        return r;
    };
    e.slope = layer.slope.data();
    e.sloped = layer.sloped;
    e.phases = PHASES;
    e.out = row({int32_t(index) + 1, 0, node.channels});
    e.skips = sums;
    for (int32_t k = 1; k < node.own_inputs; k++) sums[e.skip_count++] = row(node.inputs[size_t(k)]);
}

// Rows beyond the picture are rows of zeros, or the row at its edge.
void ProgramStrip::State::convolve(size_t index, int64_t y) {
    const ProgramNode &node = program.nodes[index];
    const Operand &input = node.inputs[0];
    const ValueRows &from = values[size_t(input.value)];
    const bool edges = from.border == Border::Edge;
    std::vector<FeatureRow> sums(node.inputs.size());
    for (int g = 0; g < node.groups; g++) {
        const PackedLayer &layer = packed.layers[index][size_t(g)];
        const int32_t *row[MAX_COLUMNS];
        static_assert(MAX_COLUMNS >= 31, "as many rows as columns");
        for (int r = 0; r < node.rows; r++) {
            const int64_t wanted = y - node.pad_top + int64_t(r) * node.dilation_rows;
            const int64_t inside = std::min(std::max<int64_t>(wanted, 0), from.height - 1);
            row[r] = edges || wanted == inside ? plane(input, inside, g * layer.channel_groups)
                                               : zeros.data() + MARGIN;
        }
        Convolution c;
        c.out = layer.out;
        c.channel_groups = layer.channel_groups;
        c.rows = node.rows;
        c.columns = node.columns;
        c.phases = PHASES;
        c.row = row;
        c.stride = from.stride;
        set_taps(c, node.dilation_columns, node.pad_left);
        c.weights = layer.weights.data();
        c.initial_sums = layer.initial_sums.data();
        c.cells = from.cells;
        set_epilogue(index, y, g, c.epilogue, sums.data());
        kernels.convolve(c);
    }
}

// Transforms the rows of the input up to y + 1 that are not transformed yet, then computes row y.
void ProgramStrip::State::winograd(size_t index, int64_t y) {
    const ProgramNode &node = program.nodes[index];
    const PackedLayer &layer = packed.layers[index][0];
    const Operand &input = node.inputs[0];
    const ValueRows &from = values[size_t(input.value)];
    std::vector<FeatureRow> sums(node.inputs.size());
    for (int64_t &next = next_transformed; next <= std::min(y + 1, from.height - 1); next++)
        kernels.transform(Cell::Float32, plane(input, next, 0), from.stride, input.count, from.cells,
                          transformed.row(next));
    Winograd w;
    w.channel_groups = layer.channel_groups;
    w.out = layer.out;
    for (int r = 0; r < 3; r++) {
        const int64_t read = y + r - 1;
        w.row[r] = read >= 0 && read < from.height ? transformed.row(read) : nullptr;
    }
    w.weights = layer.weights.data();
    w.bias = layer.bias.data();
    w.scratch = scratch.data();
    w.cells = from.cells;
    set_epilogue(index, y, 0, w.epilogue, sums.data());
    kernels.winograd(w);
}

// The samples of a step's operand from plane 0 of a channel on; null for the result of a step before.
const float *ProgramStrip::State::plane_of(const ProgramNode &node, size_t value, StepOperand operand,
                                           int64_t y, int channel) const {
    if (operand.is_input || (operand.index == 0 && node.kind == NodeKind::Elementwise)) {
        const Operand &input = node.inputs[size_t(operand.is_input ? operand.index : 0)];
        return floats(input, y, input.count == 1 ? 0 : channel);
    }
    return operand.index == 0 ? floats({int32_t(value), 0, node.channels}, y, channel) : nullptr;
}

// Applies the steps of a node to row y of its output: some samples of a channel through all steps, so that
// what they compute on the way stays in the first-level cache.
// Example: x * sigmoid(x) of a convolution are the steps 1 = sigmoid of 0 and 2 = 0 times 1. Step 1 writes
// into `step_results`, step 2 over the convolution's output.
void ProgramStrip::State::run_steps(const ProgramNode &node, size_t value, int64_t y) {
    const float *first[MAX_STEPS], *second[MAX_STEPS];
    const size_t count = node.steps.size(), cells = values[value].cells, stride = values[value].stride;
    for (int c = 0; c < node.channels; c++) {
        float *to = reinterpret_cast<float *>(plane({int32_t(value), 0, node.channels}, y, c));
        for (size_t k = 0; k < count; k++) {
            first[k] = plane_of(node, value, node.steps[k].first, y, c);
            second[k] = node.steps[k].is_binary ? plane_of(node, value, node.steps[k].second, y, c) : nullptr;
        }
        for (size_t p = 0; p < PHASES; p++)
            for (size_t cell = 0; cell < cells; cell += STEP_SAMPLES) {
                const size_t at = p * stride + cell, samples = std::min(STEP_SAMPLES, cells - cell);
                const auto operand = [&](const float *of, StepOperand source) {
                    return of ? of + at : step_results.data() + size_t(source.index) * STEP_SAMPLES;
                };
                for (size_t k = 0; k < count; k++) {
                    const Step &step = node.steps[k];
                    float *result = k + 1 == count ? to + at : step_results.data() + (k + 1) * STEP_SAMPLES;
                    if (step.is_binary)
                        packed.on_samples.binary(step.binary, operand(first[k], step.first),
                                                 operand(second[k], step.second), samples, result);
                    else
                        packed.on_samples.unary(step.unary, operand(first[k], step.first), step.a[size_t(c)],
                                                step.b[size_t(c)], samples, result);
                }
            }
    }
}

void ProgramStrip::State::gather(const ProgramNode &node, size_t value, int64_t y) {
    const size_t cells = values[value].cells, stride = values[value].stride;
    int channel = 0;
    for (int32_t k = 0; k < node.own_inputs; k++) {
        const Operand &input = node.inputs[size_t(k)];
        int32_t *to = plane({int32_t(value), channel, input.count}, y, 0);
        const int32_t *from = plane(input, y, 0);
        // Without the margins, which depend on the border of the value.
        for (size_t p = 0; p < size_t(input.count) * PHASES; p++)
            std::memcpy(to + p * stride, from + p * stride, cells * sizeof(int32_t));
        channel += input.count;
    }
}

// Pixel x of the input is pixel x / factor of the output. Cell t of phase p of the output holds pixel
// 4 t + p, which reads the pixels factor * (4 t + p) + dx, in cell factor * t + (factor * p + dx) / 4.
// Example, factor 2: phase 1, dx = 1: the pixels 3, 11, 19, ... of phase 3, that is every second cell.
void ProgramStrip::State::unshuffle(const ProgramNode &node, size_t value, int64_t y) {
    const ValueRows &from = values[size_t(node.inputs[0].value)], &to = values[value];
    const int factor = node.factor;
    const size_t count = size_t((to.span + PHASES - 1) / PHASES);
    for (int channel = 0; channel < node.channels; channel++) {
        const int dx = channel % factor, dy = channel / factor % factor;
        const int32_t *in = plane(node.inputs[0], factor * y + dy, channel / (factor * factor));
        int32_t *out = plane({int32_t(value), 0, node.channels}, y, channel);
        for (int p = 0; p < PHASES; p++) {
            const int x = factor * p + dx;
            const int32_t *first = in + size_t(x % PHASES) * from.stride + x / PHASES;
            for (size_t t = 0; t < count; t++) out[size_t(p) * to.stride + t] = first[size_t(factor) * t];
        }
    }
}

// The reverse of `unshuffle`: row y of the output is the sub-row y % factor of row y / factor of the input.
void ProgramStrip::State::shuffle(const ProgramNode &node, size_t value, int64_t y) {
    const ValueRows &from = values[size_t(node.inputs[0].value)], &to = values[value];
    const int factor = node.factor, dy = int(y % factor);
    for (int channel = 0; channel < node.channels; channel++) {
        int32_t *out = plane({int32_t(value), 0, node.channels}, y, channel);
        for (int dx = 0; dx < factor; dx++) {
            const int32_t *in = plane(node.inputs[0], y / factor, (channel * factor + dy) * factor + dx);
            for (int p = 0; p < PHASES; p++) {
                const int x = factor * p + dx;
                const size_t count = size_t((from.span - p + PHASES - 1) / PHASES);  // pixels that exist
                int32_t *first = out + size_t(x % PHASES) * to.stride + x / PHASES;
                for (size_t t = 0; t < count; t++)
                    first[size_t(factor) * t] = in[size_t(p) * from.stride + t];
            }
        }
    }
}

// Computes row y of a node's output.
void ProgramStrip::State::run(size_t index, int64_t y) {
    const ProgramNode &node = program.nodes[index];
    switch (node.kind) {
        case NodeKind::Convolution:
            if (packed.layers[index][0].winograd)
                winograd(index, y);
            else
                convolve(index, y);
            break;
        case NodeKind::Elementwise: break;
        case NodeKind::Gather: gather(node, index + 1, y); break;
        case NodeKind::Unshuffle: unshuffle(node, index + 1, y); break;
        case NodeKind::Shuffle: shuffle(node, index + 1, y); break;
    }
    if (!node.steps.empty()) run_steps(node, index + 1, y);
    finish_row(index + 1, y);
}

// Writes the `scale` rows of the result that row y of the output holds in its channels.
void ProgramStrip::State::emit(int64_t y, const Samples &target, int64_t first_target_row) {
    const int scale = program.scale;
    const ValueRows &from = values[size_t(program.output.value)];
    const size_t skipped = size_t(columns.begin / program.block * from.rate - from.begin);
    for (int dy = 0; dy < scale; dy++) {
        const float *channels[4];
        for (int c = 0; c < program.output_channels; c++) {
            float *to = output.data() + size_t(c) * line_size * size_t(scale);
            for (int dx = 0; dx < scale; dx++) {
                float *pixels = shuffled.data() + size_t(dx) * line_size;
                kernels.join_phases(floats(program.output, y, (c * scale + dy) * scale + dx), from.stride,
                                    PHASES, size_t(from.span), pixels);
                for (int64_t x = 0; x < from.span; x++) to[x * scale + dx] = pixels[x];
            }
            channels[c] = to + skipped * size_t(scale);
        }
        write_row(y * scale + dy, channels, target, first_target_row);
    }
}

// Writes a row of the result, unless it belongs to rows that were added to the picture.
void ProgramStrip::State::write_row(int64_t row, const float *const *channels, const Samples &target,
                                    int64_t first_target_row) {
    const int64_t scale = program.output_scale();
    if (row >= format.height * scale) return;
    const int64_t end = std::min(columns.end, format.width);
    const size_t sample = bytes_of_sample(format.target);
    char *base =
        static_cast<char *>(target.base) +
        ptrdiff_t(sample) * ((row - first_target_row) * target.row + columns.begin * scale * target.pixel);
    kernels.write(channels, program.output_channels, format.target, size_t((end - columns.begin) * scale),
                  base, target.pixel, target.channel);
}

ProgramStrip::ProgramStrip(const PackedProgram &packed, const ob_format &format, Interval columns,
                           Interval rows)
    : state_(new State(packed, format, columns, rows)) {}
ProgramStrip::~ProgramStrip() = default;
ProgramStrip::ProgramStrip(ProgramStrip &&) noexcept = default;

bool ProgramStrip::complete() const { return state_->complete; }

// Example: blocks of 2 rows, the output of rate 1 and lag 3. Its rows [0, 10) are complete after the blocks 0
// to 12, that is after 26 rows.
int64_t ProgramStrip::steps() const {
    const State &s = *state_;
    const ValueRows &result = s.values[size_t(s.program.output.value)];
    const int64_t blocks = (result.needed.end + result.lag + result.rate - 1) / result.rate;
    return (blocks - s.first_block) * s.program.block;
}

void ProgramStrip::step(const Samples &source, int64_t first_source_row, const Samples &target,
                        int64_t first_target_row) {
    State &s = *state_;
    const int64_t y = s.first_block * s.program.block + s.steps_done++;
    if (y >= s.values[0].needed.begin && y < s.values[0].needed.end) s.take(source, first_source_row, y);
    const int64_t together = s.packed.rows_at_once();
    if (s.steps_done % together && s.steps_done < steps()) return;
    const int64_t first = (s.steps_done - 1) / together * together;
    s.run_blocks({s.first_block + first / s.program.block, s.first_block + s.steps_done / s.program.block},
                 target, first_target_row);
}

// Computes the rows of every value that some blocks of the picture allow, node after node.
// Example: nodes of the lags 1, 2 and 3, blocks of one row. For block 5, the first node computes row 4, the
// second row 3, the third row 2, which is written. For the blocks 6 and 7, the first node computes rows 5 and
// 6, and so on: its weights are read from memory only once.
void ProgramStrip::State::run_blocks(Interval blocks, const Samples &target, int64_t first_target_row) {
    const auto due = [&](const ValueRows &value) {
        return Interval{std::max(value.needed.begin, blocks.begin * value.rate - value.lag),
                        std::min(value.needed.end, blocks.end * value.rate - value.lag)};
    };
    for (size_t k = 0; k < program.nodes.size(); k++) {
        const Interval computed = due(values[k + 1]);
        next_transformed = std::max<int64_t>(0, computed.begin - 1);
        for (int64_t y = computed.begin; y < computed.end; y++) run(k, y);
    }
    // Nodes may need more rows of the output than are wanted of the result.
    const ValueRows &result = values[size_t(program.output.value)];
    const Interval computed = due(result);
    const int64_t begin = std::max(computed.begin, rows.begin / program.block * result.rate);
    const int64_t end = std::min(computed.end, rows.end / program.block * result.rate);
    for (int64_t y = begin; y < end; y++) emit(y, target, first_target_row);
}

}  // namespace ob
