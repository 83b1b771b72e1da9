#include "program_strip.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "strip_state.h"

namespace ob {
namespace {

constexpr int PHASES = MAX_PHASES;  // of the rows of all values

// A 3x3 convolution of one group that reads zeros beyond the picture, with all its padding in the middle.
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
      depths(program.depths()) {
    for (size_t k = 0; k < program.nodes.size(); k++) {
        const ProgramNode &node = program.nodes[k];
        if (node.kind != NodeKind::Convolution) continue;
        const bool winograd = runs_by_winograd(node, program.border_of(node.inputs[0].value));
        for (const Layer &layer : node.layers) {
            layers[k].push_back(pack_float(layer, winograd, *set));
            complete = complete && layers[k].back().weights.data() && layers[k].back().start.data();
        }
    }
}

Interval ProgramReach::all_columns() const {
    Interval all = columns[0];
    for (const Interval &each : columns) {
        if (each.size() <= 0) continue;
        if (all.size() <= 0) all = each;
        all = {std::min(all.begin, each.begin), std::max(all.end, each.end)};
    }
    return {round_down(all.begin, PHASES), all.end};
}

ProgramReach reach_of(const PackedProgram &packed, Interval columns, Interval rows, int64_t width,
                      int64_t height) {
    const Program &program = packed.program;
    ProgramReach reach;
    reach.rows.resize(program.nodes.size() + 1);
    reach.columns.resize(program.nodes.size() + 1);
    const auto widen = [](Interval &interval, Interval by) {
        interval = interval.size() > 0
                       ? Interval{std::min(interval.begin, by.begin), std::max(interval.end, by.end)}
                       : by;
    };
    reach.rows[size_t(program.output.value)] = rows;
    reach.columns[size_t(program.output.value)] = columns;
    for (size_t k = program.nodes.size(); k-- > 0;) {
        const ProgramNode &node = program.nodes[k];
        const Interval own_rows = reach.rows[k + 1], own_columns = reach.columns[k + 1];
        if (own_rows.size() <= 0) continue;  // nothing reads it
        for (size_t i = 0; i < node.inputs.size(); i++) {
            const size_t value = size_t(node.inputs[i].value);
            if (i || node.kind != NodeKind::Convolution) {
                widen(reach.rows[value], own_rows);
                widen(reach.columns[value], own_columns);
                continue;
            }
            Interval need = own_columns;
            if (packed.layers[k][0].winograd)
                need = {round_down(need.begin, PHASES), round_up(need.end, PHASES)};
            widen(reach.rows[value],
                  clipped({own_rows.begin - node.above(), own_rows.end + node.below()}, height));
            widen(reach.columns[value], clipped({need.begin - node.left(), need.end + node.right()}, width));
        }
    }
    return reach;
}

// The rows of one value.
struct ValueRows {
    Ring ring;
    Interval needed;  // rows that are computed
    int channels = 0;
    int32_t beyond = 0;  // columns that convolutions read on either side
    Border border = Border::Zero;
};

struct ProgramStrip::State : Allocator {
    const PackedProgram &packed;
    const Program &program;
    const KernelSet &kernels;
    ob_format format;
    Interval columns, rows;  // of the result, in the picture's pixels
    Interval buffer;         // columns that are computed
    int64_t step = 0, first_row = 0;
    size_t cells = 0, stride = 0;  // of a plane
    std::vector<ValueRows> values;
    std::vector<Ring> transformed;          // of every node that runs by Winograd
    std::vector<int64_t> next_transformed;  // the first row of its input that is not transformed yet
    Buffer<int32_t> zeros, scratch;         // zeros: a row of the widest value
    Buffer<float> line, shuffled, output;   // rows of pixels
    size_t line_size = 0;

    State(const PackedProgram &packed, const ob_format &format, Interval columns, Interval rows);
    void allocate();

    int32_t *plane(const Operand &operand, int64_t y, int channel) const;
    const float *floats(const Operand &operand, int64_t y, int channel) const;
    void take(const Samples &source, int64_t first_source_row, int64_t y);
    void finish_row(size_t value, int64_t y);
    void fill_with_edges(int32_t *plane, int beyond);
    void run(size_t index, int64_t y);
    void convolve(size_t index, int64_t y);
    void winograd(size_t index, int64_t y);
    void set_epilogue(size_t index, int64_t y, int group, Epilogue &epilogue, FeatureRow *sums);
    void unary(const ProgramNode &node, size_t value, int64_t y);
    void binary(const ProgramNode &node, size_t value, int64_t y);
    void gather(const ProgramNode &node, size_t value, int64_t y);
    void emit(int64_t y, const Samples &target, int64_t first_target_row);
};

ProgramStrip::State::State(const PackedProgram &of, const ob_format &form, Interval wanted_columns,
                           Interval wanted_rows)
    : packed(of),
      program(of.program),
      kernels(*of.kernels),
      format(form),
      columns(wanted_columns),
      rows(wanted_rows) {
    const ProgramReach reach = reach_of(packed, columns, rows, format.width, format.height);
    buffer = reach.all_columns();
    values.resize(program.nodes.size() + 1);
    for (size_t v = 0; v < values.size(); v++) {
        values[v].needed = reach.rows[v];
        values[v].channels = program.channels_of(int32_t(v));
        values[v].border = program.border_of(int32_t(v));
    }
    for (const ProgramNode &node : program.nodes) {
        int32_t &beyond = values[size_t(node.inputs[0].value)].beyond;
        beyond = std::max({beyond, node.left(), node.right()});
    }
    // The first step is that in which the first value computes its first row.
    first_row = rows.begin + program.lag();
    for (size_t v = 0; v < values.size(); v++)
        if (values[v].needed.size() > 0)
            first_row = std::min(first_row, values[v].needed.begin + program.lag_of(int32_t(v)));
    first_row = std::min(first_row, rows.begin);
    allocate();
}

// Worked example: a picture of 100 columns, AVX2 (8 lanes), a value of 16 channels that a 3x3 convolution
// reads:
//   cells   round_up(25, 8) = 32 cells of a plane; each of the 4 phases holds every 4th pixel
//   stride  32 + 2 * 16 = 64 cells from plane to plane: a margin of 16 on both sides
//   ring    3 rows of 16 * 4 planes; where the convolution runs by Winograd, 3 transformed rows of its input
//           of 16 * 6 * 32 cells, too
void ProgramStrip::State::allocate() {
    const int64_t span = buffer.size();
    cells = size_t(round_up((span + PHASES - 1) / PHASES, kernels.lanes));
    stride = size_t(round_up(int64_t(cells), 16)) + 2 * MARGIN;
    const auto row_size = [&](int channels) { return uint64_t(channels) * PHASES * stride; };
    int widest = 1;
    for (size_t v = 0; v < values.size() && complete; v++) {
        widest = std::max(widest, values[v].channels);
        values[v].ring = make_ring(packed.depths[v], row_size(values[v].channels));
    }
    transformed.resize(program.nodes.size());
    next_transformed.assign(program.nodes.size(), 0);
    for (size_t k = 0; k < program.nodes.size() && complete; k++) {
        if (packed.layers[k].empty() || !packed.layers[k][0].winograd) continue;
        const Operand &input = program.nodes[k].inputs[0];
        transformed[k] = make_ring(3, uint64_t(input.count) * frequencies_of(PHASES) * cells);
        next_transformed[k] = std::max<int64_t>(0, values[k + 1].needed.begin - 1);
    }
    if (!complete) return;
    zeros = buffer_of<int32_t>(row_size(widest));
    scratch = buffer_of<int32_t>(size_t(MAX_FREQUENCIES) * 8 * 4 * 16);
    line_size = size_t(round_up(span, 64)) + 64;
    line = buffer_of<float>(line_size);
    shuffled = buffer_of<float>(uint64_t(line_size) * uint64_t(program.scale));
    output =
        buffer_of<float>(uint64_t(line_size) * uint64_t(program.scale) * uint64_t(program.output_channels));
}

// Plane 0 (phase 0), cell 0 of a channel of an operand.
int32_t *ProgramStrip::State::plane(const Operand &operand, int64_t y, int channel) const {
    assert(channel >= 0 && channel < operand.count);
    return values[size_t(operand.value)].ring.row(y) + size_t(operand.first + channel) * PHASES * stride +
           MARGIN;
}

const float *ProgramStrip::State::floats(const Operand &operand, int64_t y, int channel) const {
    return reinterpret_cast<const float *>(plane(operand, y, channel));
}

// Converts row y of the picture into value 0.
void ProgramStrip::State::take(const Samples &source, int64_t first_source_row, int64_t y) {
    const size_t sample = format.source == OB_UINT8 ? 1 : format.source == OB_UINT16 ? 2 : 4;
    const size_t count = size_t(buffer.size());
    PictureRow row;
    row.base = static_cast<const char *>(source.base) +
               ptrdiff_t(sample) * ((y - first_source_row) * source.row + buffer.begin * source.pixel);
    row.type = format.source;
    row.pixel = source.pixel;
    row.channel = source.channel;
    for (int c = 0; c < program.channels; c++) {
        kernels.read(row, c, count, line.data());
        float *to = reinterpret_cast<float *>(plane({0, 0, program.channels}, y, c));
        kernels.split_phases(line.data(), count, PHASES, to, stride);
    }
    finish_row(0, y);
}

// Sets what lies beyond the row's ends, where whole vectors of cells were computed: zeros, or the edges.
// Example: a row of 10 pixels: phase 0 holds the pixels 0, 4 and 8, phase 2 the pixels 2 and 6. Its cell 2
// would be pixel 10; it becomes 0, or pixel 9.
void ProgramStrip::State::finish_row(size_t value, int64_t y) {
    const ValueRows &rows_of = values[value];
    if (!rows_of.beyond) return;
    const int64_t span = buffer.size();
    int32_t *at = rows_of.ring.row(y) + MARGIN;
    for (int c = 0; c < rows_of.channels; c++, at += PHASES * stride) {
        if (rows_of.border == Border::Edge) {
            fill_with_edges(at, rows_of.beyond);
            continue;
        }
        for (int64_t p = 0; p < PHASES; p++) {
            const size_t first = size_t((span - p + PHASES - 1) / PHASES);
            // A tile that runs by Winograd reads up to its own end.
            const size_t end = std::min(cells, first + size_t(rows_of.beyond) / PHASES + 2);
            for (size_t k = first; k < end; k++) at[size_t(p) * stride + k] = 0;
        }
    }
}

// Example: a row of 6 pixels, 2 beyond: pixels -2 and -1 (phases 2 and 3, cell -1) become pixel 0, and pixels
// 6 and 7 (phases 2 and 3, cell 1) become pixel 5.
void ProgramStrip::State::fill_with_edges(int32_t *of, int beyond) {
    const int64_t span = buffer.size();
    const auto pixel = [&](int64_t x) -> int32_t & {
        const int64_t phase = ((x % PHASES) + PHASES) % PHASES;
        return of[phase * int64_t(stride) + (x - phase) / PHASES];
    };
    for (int64_t k = 1; k <= beyond; k++) {
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
        r.stride = stride;
        return r;
    };
    e.slope = layer.slope.data();
    e.sloped = layer.sloped;
    e.phases = PHASES;
    e.out = row({int32_t(index) + 1, 0, node.channels});
    e.skips = sums;
    for (size_t k = 1; k < node.inputs.size(); k++) sums[e.skip_count++] = row(node.inputs[k]);
}

// Rows beyond the picture are rows of zeros, or the row at its edge.
void ProgramStrip::State::convolve(size_t index, int64_t y) {
    const ProgramNode &node = program.nodes[index];
    const Operand &input = node.inputs[0];
    const bool edges = program.border_of(input.value) == Border::Edge;
    std::vector<FeatureRow> sums(node.inputs.size());
    for (int g = 0; g < node.groups; g++) {
        const PackedLayer &layer = packed.layers[index][size_t(g)];
        const int32_t *row[MAX_COLUMNS];
        static_assert(MAX_COLUMNS >= 31, "as many rows as columns");
        for (int r = 0; r < node.rows; r++) {
            const int64_t wanted = y - node.pad_top + int64_t(r) * node.dilation_rows;
            const int64_t inside = std::min(std::max<int64_t>(wanted, 0), format.height - 1);
            row[r] =
                edges || wanted == inside ? plane(input, inside, g * layer.groups) : zeros.data() + MARGIN;
        }
        Convolution c;
        c.out = layer.out;
        c.groups = layer.groups;
        c.rows = node.rows;
        c.columns = node.columns;
        c.phases = PHASES;
        c.row = row;
        c.stride = stride;
        // As in Strip::State::run_layer, with dilation. Example: dilation 2, three columns, pad 2: for phase
        // 1, column 0 reads pixel 4 t + 1 - 2, which is in phase 3 of the cell before.
        for (int p = 0; p < PHASES; p++)
            for (int l = 0; l < node.columns; l++) {
                const int x = p + l * node.dilation_columns - node.pad_left;
                const int phase = ((x % PHASES) + PHASES) % PHASES;
                c.tap[p][l] = ptrdiff_t(phase) * ptrdiff_t(stride) + (x - phase) / PHASES;
            }
        c.weights = layer.weights.data();
        c.start = layer.start.data();
        c.cells = cells;
        set_epilogue(index, y, g, c.epilogue, sums.data());
        kernels.convolve(c);
    }
}

// Transforms the rows of the input that have been computed since the last row, then computes row y.
void ProgramStrip::State::winograd(size_t index, int64_t y) {
    const ProgramNode &node = program.nodes[index];
    const PackedLayer &layer = packed.layers[index][0];
    const Operand &input = node.inputs[0];
    std::vector<FeatureRow> sums(node.inputs.size());
    for (int64_t &next = next_transformed[index]; next <= std::min(y + 1, format.height - 1); next++)
        kernels.transform(Cell::Float32, plane(input, next, 0), stride, input.count, cells,
                          transformed[index].row(next));
    Winograd w;
    w.groups = layer.groups;
    w.out = layer.out;
    for (int r = 0; r < 3; r++) {
        const int64_t from = y + r - 1;
        w.row[r] = from >= 0 && from < format.height ? transformed[index].row(from) : nullptr;
    }
    w.weights = layer.weights.data();
    w.bias = layer.bias.data();
    w.scratch = scratch.data();
    w.cells = cells;
    set_epilogue(index, y, 0, w.epilogue, sums.data());
    kernels.winograd(w);
}

void ProgramStrip::State::unary(const ProgramNode &node, size_t value, int64_t y) {
    for (int c = 0; c < node.channels; c++) {
        const float *from = floats(node.inputs[0], y, c);
        float *to = reinterpret_cast<float *>(plane({int32_t(value), 0, node.channels}, y, c));
        for (int p = 0; p < PHASES; p++)
            packed.on_samples.unary(node.unary, from + size_t(p) * stride, node.a[size_t(c)],
                                    node.b[size_t(c)], cells, to + size_t(p) * stride);
    }
}

void ProgramStrip::State::binary(const ProgramNode &node, size_t value, int64_t y) {
    const bool one = node.inputs[1].count == 1;
    for (int c = 0; c < node.channels; c++) {
        const float *first = floats(node.inputs[0], y, c), *second = floats(node.inputs[1], y, one ? 0 : c);
        float *to = reinterpret_cast<float *>(plane({int32_t(value), 0, node.channels}, y, c));
        for (int p = 0; p < PHASES; p++)
            packed.on_samples.binary(node.binary, first + size_t(p) * stride, second + size_t(p) * stride,
                                     cells, to + size_t(p) * stride);
    }
}

void ProgramStrip::State::gather(const ProgramNode &node, size_t value, int64_t y) {
    int channel = 0;
    for (const Operand &input : node.inputs) {
        int32_t *to = plane({int32_t(value), channel, input.count}, y, 0);
        const int32_t *from = plane(input, y, 0);
        // Without the margins, which depend on the border of the value.
        for (size_t p = 0; p < size_t(input.count) * PHASES; p++)
            std::memcpy(to + p * stride, from + p * stride, cells * sizeof(int32_t));
        channel += input.count;
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
        case NodeKind::Unary: unary(node, index + 1, y); break;
        case NodeKind::Binary: binary(node, index + 1, y); break;
        case NodeKind::Gather: gather(node, index + 1, y); break;
    }
    finish_row(index + 1, y);
}

// Writes the `scale` rows of the result that row y of the output holds in its channels.
void ProgramStrip::State::emit(int64_t y, const Samples &target, int64_t first_target_row) {
    const int scale = program.scale;
    const size_t skipped = size_t(columns.begin - buffer.begin), span = size_t(buffer.size());
    const size_t count = size_t(columns.size()) * size_t(scale);
    const size_t sample = format.target == OB_UINT8 ? 1 : format.target == OB_UINT16 ? 2 : 4;
    for (int dy = 0; dy < scale; dy++) {
        const float *channels[4];
        for (int c = 0; c < program.output_channels; c++) {
            float *to = output.data() + size_t(c) * line_size * size_t(scale);
            for (int dx = 0; dx < scale; dx++) {
                float *pixels = shuffled.data() + size_t(dx) * line_size;
                kernels.join_phases(floats(program.output, y, (c * scale + dy) * scale + dx), stride, PHASES,
                                    span, pixels);
                for (size_t x = 0; x < span; x++) to[x * size_t(scale) + size_t(dx)] = pixels[x];
            }
            channels[c] = to + skipped * size_t(scale);
        }
        char *base = static_cast<char *>(target.base) +
                     ptrdiff_t(sample) * ((y * scale + dy - first_target_row) * target.row +
                                          columns.begin * scale * target.pixel);
        kernels.write(channels, program.output_channels, format.target, count, base, target.pixel,
                      target.channel);
    }
}

ProgramStrip::ProgramStrip(const PackedProgram &packed, const ob_format &format, Interval columns,
                           Interval rows)
    : state_(new State(packed, format, columns, rows)) {}
ProgramStrip::~ProgramStrip() = default;
ProgramStrip::ProgramStrip(ProgramStrip &&) noexcept = default;

bool ProgramStrip::complete() const { return state_->complete; }

int64_t ProgramStrip::steps() const { return state_->rows.end + state_->program.lag() - state_->first_row; }

// Example: nodes of the lags 1, 2 and 3, rows from 0 on. In step 5, row 5 of the picture is read, the first
// node computes row 4, the second row 3, the third row 2, which is written.
void ProgramStrip::step(const Samples &source, int64_t first_source_row, const Samples &target,
                        int64_t first_target_row) {
    State &s = *state_;
    const int64_t now = s.first_row + s.step++;
    const auto is_due = [&](size_t value, int64_t y) {
        return y >= s.values[value].needed.begin && y < s.values[value].needed.end;
    };
    if (is_due(0, now)) s.take(source, first_source_row, now);
    for (size_t k = 0; k < s.program.nodes.size(); k++) {
        const int64_t y = now - s.program.nodes[k].lag;
        if (is_due(k + 1, y)) s.run(k, y);
    }
    const int64_t y = now - s.program.lag();
    if (y >= s.rows.begin && y < s.rows.end) s.emit(y, target, first_target_row);
}

}  // namespace ob
