#include "strip.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ob {
namespace {

// Columns beyond a row's end that a kernel may read, as zeros, and those of a tile that is begun.
constexpr int WIDEST_REACH = MOST_COLUMNS / 2 + 4;

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
int64_t round_down(int64_t value, int64_t to) { return value / to * to; }

// ---- packing ---------------------------------------------------------------------------------------------------

int per_cell(Cell cell) { return cell == Cell::Float32 ? 1 : cell == Cell::BFloat16 ? 2 : 4; }

uint16_t to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float weight_at(const Layer &layer, int o, int i, int r, int l) {
    return layer.weight[((size_t(o) * layer.in + i) * layer.rows + r) * layer.columns + l];
}

// The weights of output o for the channels of group g, as one cell.
int32_t weight_cell(const Packed &packed, int o, int g, int r, int l) {
    const Layer &layer = *packed.layer;
    int each = per_cell(packed.in_cell);
    uint32_t cell = 0;
    if (o >= layer.out) return 0;
    for (int k = 0; k < each; k++) {
        int i = g * each + k;
        if (i >= layer.in) continue;
        if (each == 1) {
            float value = weight_at(layer, o, i, r, l);
            std::memcpy(&cell, &value, 4);
        } else if (each == 2) {
            cell |= uint32_t(to_bfloat16(weight_at(layer, o, i, r, l))) << (16 * k);
        } else {
            int8_t value = layer.integer_weight[((size_t(o) * layer.in + i) * layer.rows + r) * layer.columns + l];
            cell |= uint32_t(uint8_t(value)) << (8 * k);
        }
    }
    return int32_t(cell);
}

void pack_direct(Packed &packed, int widest) {
    const Layer &layer = *packed.layer;
    packed.weights = Buffer<int32_t>(size_t(packed.out) * layer.rows * packed.groups * layer.columns);
    int32_t *to = packed.weights.data();
    for (int first = 0; first < packed.out;) {
        int width = block_of(packed.out - first, widest);
        for (int r = 0; r < layer.rows; r++)
            for (int g = 0; g < packed.groups; g++)
                for (int l = 0; l < layer.columns; l++)
                    for (int o = 0; o < width; o++) *to++ = weight_cell(packed, first + o, g, r, l);
        first += width;
    }
}

// The weights of a row of three taps for F(tile, 3), in double precision and rounded once.
void winograd_weights(const double (&g)[3], int tile, float (&u)[MOST_FREQUENCIES]) {
    if (tile == 2) {
        u[0] = float(g[0]);
        u[1] = float((g[0] + g[1] + g[2]) / 2);
        u[2] = float((g[0] - g[1] + g[2]) / 2);
        u[3] = float(g[2]);
        return;
    }
    u[0] = float(g[0] / 4);
    u[1] = float(-(g[0] + g[1] + g[2]) / 6);
    u[2] = float(-(g[0] - g[1] + g[2]) / 6);
    u[3] = float(g[0] / 24 + g[1] / 12 + g[2] / 6);
    u[4] = float(g[0] / 24 - g[1] / 12 + g[2] / 6);
    u[5] = float(g[2]);
}

// The weights of output o for the channels of group g at every frequency, as cells.
void winograd_cells(const Packed &packed, int tile, int o, int g, int r, uint32_t (&cells)[MOST_FREQUENCIES]) {
    const Layer &layer = *packed.layer;
    int each = per_cell(packed.in_cell);
    std::fill_n(cells, MOST_FREQUENCIES, 0u);
    for (int k = 0; k < each && g * each + k < layer.in && o < layer.out; k++) {
        double taps[3];
        float u[MOST_FREQUENCIES];
        for (int l = 0; l < 3; l++) taps[l] = weight_at(layer, o, g * each + k, r, l);
        winograd_weights(taps, tile, u);
        for (int f = 0; f < frequencies_of(tile); f++) {
            if (each == 1)
                std::memcpy(&cells[f], &u[f], 4);
            else
                cells[f] |= uint32_t(to_bfloat16(u[f])) << (16 * k);
        }
    }
}

void pack_winograd(Packed &packed, int tile, int widest) {
    const size_t rows = 3, groups = size_t(packed.groups), frequencies = size_t(frequencies_of(tile));
    packed.weights = Buffer<int32_t>(size_t(packed.out) * frequencies * rows * groups);
    int32_t *to = packed.weights.data();
    for (int first = 0; first < packed.out;) {
        const size_t width = size_t(block_of(packed.out - first, widest));
        for (size_t r = 0; r < rows; r++)
            for (size_t g = 0; g < groups; g++)
                for (size_t o = 0; o < width; o++) {
                    uint32_t cells[MOST_FREQUENCIES];
                    winograd_cells(packed, tile, first + int(o), int(g), int(r), cells);
                    for (size_t f = 0; f < frequencies; f++)
                        to[((f * rows + r) * groups + g) * width + o] = int32_t(cells[f]);
                }
        to += width * frequencies * rows * groups;
        first += int(width);
    }
}

// Measured: below these widths the transforms cost more than they save.
bool fits_winograd(const Layer &layer) {
    return layer.rows == 3 && layer.columns == 3 && layer.in >= 8 && layer.out >= 4;
}

Packed pack(const Description &network, size_t index, int phases, int widest) {
    const Layer &layer = network.layers[index];
    bool head = index == 0, tail = index + 1 == network.layers.size();
    Cell hidden = network.precision == Precision::Int8       ? Cell::Int8
                  : network.precision == Precision::BFloat16 ? Cell::BFloat16
                                                             : Cell::Float32;
    Packed packed;
    packed.layer = &layer;
    packed.in_cell = head ? Cell::Float32 : hidden;
    packed.out_cell = tail ? Cell::Float32 : hidden;
    packed.arithmetic = layer.integer                              ? Arithmetic::Int8
                        : packed.in_cell == Cell::BFloat16         ? Arithmetic::BFloat16
                        : network.precision == Precision::Int8     ? Arithmetic::Strict
                                                                   : Arithmetic::Fused;
    packed.winograd = !head && network.precision != Precision::Int8 && fits_winograd(layer);
    packed.groups = int(round_up(layer.in, per_cell(packed.in_cell)) / per_cell(packed.in_cell));
    packed.out = int(round_up(layer.out, per_cell(packed.out_cell)));
    if (packed.winograd)
        pack_winograd(packed, phases, widest);
    else
        pack_direct(packed, widest);
    packed.start = Buffer<int32_t>(packed.out);
    for (int o = 0; o < layer.out; o++) {
        if (layer.integer)
            packed.start[o] = layer.start[o];
        else
            std::memcpy(&packed.start[o], &layer.bias[o], 4);
    }
    packed.bias = layer.bias;
    packed.bias.resize(size_t(packed.out), 0.0f);
    packed.multiplier = layer.multiplier;
    packed.multiplier.resize(packed.out, 0.0f);
    packed.slope = layer.slope;
    packed.slope.resize(packed.out, 1.0f);
    packed.sloped = std::any_of(layer.slope.begin(), layer.slope.end(), [](float s) { return s != 1.0f; });
    return packed;
}

}  // namespace

Network::Network(Description &&given, const KernelSet *set) : description(std::move(given)), kernels(set) {
    phases = description.precision == Precision::Float32 ? 4 : description.precision == Precision::BFloat16 ? 2 : 1;
    for (size_t k = 0; k < description.layers.size(); k++) {
        layers.push_back(pack(description, k, phases, set->widest));
        lag += description.layers[k].row_radius();
    }
}

// ---- geometry --------------------------------------------------------------------------------------------------

namespace {

// How far the resizings look around an input position, before and after.
Range resampling_reach(const Description &network, bool chroma) {
    Range reach;
    auto widen = [&](const Resampler &r) {
        reach.begin = std::min<int64_t>(reach.begin, -r.before);
        reach.end = std::max<int64_t>(reach.end, r.after());
    };
    if (network.has_residual) widen(network.residual);
    if (chroma) widen(network.chroma);
    return reach;
}

Range clipped(Range range, int64_t size) { return {std::max<int64_t>(range.begin, 0), std::min(range.end, size)}; }

// Columns [begin, end) of the tail's rows that those columns of the result need.
Range reduced_reach(const Description &network, Range wanted, int64_t size) {
    int pad = network.reduction.present && !network.reduction.average ? network.reduction.pad : 0;
    return clipped({wanted.begin - pad, wanted.end + pad}, size);
}

}  // namespace

Range needed_columns(const Network &network, Range wanted, int64_t width) {
    Range need = reduced_reach(network.description, wanted, width);
    for (size_t k = network.layers.size(); k-- > 0;) {
        int radius = network.layers[k].layer->column_radius();
        if (network.layers[k].winograd)
            need = {round_down(need.begin, network.phases), round_up(need.end, network.phases)};
        need = clipped({need.begin - radius, need.end + radius}, width);
    }
    Range reach = resampling_reach(network.description, true);
    need.begin = std::min(need.begin, std::max<int64_t>(0, wanted.begin + reach.begin));
    need.end = std::max(need.end, std::min(width, wanted.end + reach.end));
    need.begin = round_down(need.begin, 4 * network.description.reduces());
    return need;
}

Range needed_rows(const Network &network, Range wanted, int64_t height) {
    Range need = reduced_reach(network.description, wanted, height);
    need = {need.begin - network.lag, need.end + network.lag};
    Range reach = resampling_reach(network.description, true);
    need.begin = std::min(need.begin, wanted.begin + reach.begin);
    need.end = std::max(need.end, wanted.end + reach.end);
    return clipped(need, height);
}

// ---- a strip's state -------------------------------------------------------------------------------------------

namespace {

// Rows of cells, the last `depth` of them.
struct Ring {
    Buffer<int32_t> cells;
    int depth = 0;
    size_t row_size = 0;
    int32_t *row(int64_t y) const { return cells.data() + size_t(y % depth) * row_size; }
};

Ring make_ring(int depth, size_t row_size) {
    Ring ring;
    ring.depth = depth;
    ring.row_size = row_size;
    if (row_size > SIZE_MAX / 16 / size_t(depth)) throw std::bad_alloc();
    ring.cells = Buffer<int32_t>(size_t(depth) * row_size);
    return ring;
}

// Rows of plain floats with a margin on both sides, by plane and row.
struct FloatRing {
    Buffer<float> values;
    int planes = 0, depth = 0;
    size_t width = 0;  // margins included
    float *row(int plane, int64_t y) const {
        return values.data() + (size_t(plane) * depth + size_t(y % depth)) * width + MARGIN;
    }
};

FloatRing make_float_ring(int planes, int depth, int64_t columns) {
    FloatRing ring;
    ring.planes = planes;
    ring.depth = depth;
    ring.width = size_t(round_up(columns, 16)) + 4 * MARGIN;
    if (ring.width > SIZE_MAX / 16 / size_t(planes * depth)) throw std::bad_alloc();
    ring.values = Buffer<float>(size_t(planes) * depth * ring.width);
    return ring;
}

// One layer at work.
struct Stage {
    Range rows;           // that it makes
    int lag = 0;          // behind the input
    Ring out;             // what the next layer reads, unless `transformed` is
    Ring raw;             // before the skips, where somebody reads it
    Ring transformed;     // for a next layer that runs by Winograd
    Buffer<int32_t> zeros;  // a row of the input's zero
};

}  // namespace

struct Strip::State {
    const Network &network;
    const Description &description;
    const KernelSet &kernels;
    ob_format format;
    int64_t height, width;      // of the filled picture
    Range columns, rows;        // of the result, in the input's pixels
    Range buffer, source_rows;  // columns and rows that are read
    int64_t step = 0;
    int lag = 0;                // of the result behind the input
    int picture_channels, interpolated;  // planes of chroma
    size_t cells = 0, stride = 0;  // of a plane
    std::pair<size_t, size_t> edges[MOST_PHASES];  // of a plane of each phase: cells beyond the row's end
    std::vector<Stage> stages;
    Ring head_rows;             // the network's channels as the head reads them
    FloatRing planes;           // the network's channels, and chroma, edges repeated in the margins
    FloatRing tail_rows;        // of networks that reduce
    Buffer<float> tail, scratch, output, phase_rows, line;
    size_t output_width = 0;    // floats of a row of `output`
    size_t phase_width = 0;     // floats of a row of `phase_rows`

    State(const Network &network, const ob_format &format, Range columns, Range rows);
    void allocate();
    void take(const Samples &source, int64_t first_row, int64_t y);
    void fill_margins(int plane, int64_t y);
    void run_layer(size_t index, int64_t y);
    void set_epilogue(size_t index, int64_t y, Epilogue &epilogue, Target *skips);
    void clear_edges(Ring &ring, int64_t y, int channels, Cell cell, int32_t zero);
    void emit(int64_t y, const Samples &target, int64_t first_row);
    void emit_rows(int64_t y, const Samples &target, int64_t first_row);
    void emit_reduced(int64_t y, const Samples &target, int64_t first_row);
    void resize_plane(const Resampler &resampler, int plane, int64_t y, int phase, const float *(&rows)[MOST_PHASES]);
    void write_row(int64_t row, float *const *channels, const Samples &target, int64_t first_row);
};

Strip::State::State(const Network &net, const ob_format &form, Range wanted_columns, Range wanted_rows)
    : network(net), description(net.description), kernels(*net.kernels), format(form), columns(wanted_columns),
      rows(wanted_rows) {
    int reduces = description.reduces();
    height = round_up(format.height, reduces);
    width = round_up(format.width, reduces);
    buffer = needed_columns(network, columns, width);
    source_rows = needed_rows(network, rows, height);
    picture_channels = format.colour == OB_OWN       ? description.channels
                       : format.colour == OB_Y_OF_RGB ? 3
                                                      : 1;
    interpolated = format.colour == OB_Y_OF_RGB ? 2 : 0;
    allocate();
}

void Strip::State::allocate() {
    const int lanes = kernels.lanes;
    int64_t span = buffer.size();
    cells = size_t(round_up((span + network.phases - 1) / network.phases, lanes));
    stride = size_t(round_up(int64_t(cells), 16)) + 2 * MARGIN;
    for (int64_t p = 0; p < network.phases; p++) {
        size_t first = size_t((span - p + network.phases - 1) / network.phases);
        edges[p] = {first, std::min(cells, first + size_t(WIDEST_REACH) / size_t(network.phases) + 1)};
    }
    size_t layers = network.layers.size();
    stages.resize(layers);
    // Rows that each layer makes: what the later ones need of it.
    Range need = reduced_reach(description, rows, height);
    for (size_t k = layers; k-- > 0;) {
        stages[k].rows = need;
        int radius = network.layers[k].layer->row_radius();
        need = clipped({need.begin - radius, need.end + radius}, height);
    }
    int behind = 0;
    for (size_t k = 0; k < layers; k++) stages[k].lag = behind += network.layers[k].layer->row_radius();
    // The result's row y (of the input, the first of a cell) is made when the rows that it needs are there.
    Range reach = resampling_reach(description, interpolated > 0);
    int reduces = description.reduces();
    int pad = description.reduction.present && !description.reduction.average ? description.reduction.pad : 0;
    lag = std::max(network.lag + reduces - 1 + pad, std::max(int(reach.end), reduces - 1));
    for (size_t k = 0; k < layers; k++) {
        const Packed &packed = network.layers[k];
        Stage &stage = stages[k];
        int each = per_cell(packed.out_cell);
        size_t planes_out = size_t(packed.out) / each * network.phases;
        int depth = 1, raw_depth = 1;
        bool next_winograd = k + 1 < layers && network.layers[k + 1].winograd;
        if (k + 1 < layers && !next_winograd) depth = network.layers[k + 1].layer->rows;
        if (k + 1 == layers && reduces == 1) depth = lag - stage.lag + 1;
        bool source = false;
        for (size_t j = k + 1; j < layers; j++)
            for (int32_t s : network.layers[j].layer->sources)
                if (size_t(s) == k) {
                    source = true;
                    raw_depth = std::max(raw_depth, stages[j].lag - stage.lag + 1);
                }
        if (source && packed.layer->keeps_raw)
            stage.raw = make_ring(raw_depth, planes_out * stride);
        else if (source)
            depth = std::max(depth, raw_depth);
        stage.out = make_ring(depth, planes_out * stride);
        if (next_winograd) stage.transformed = make_ring(3, size_t(packed.out / each * frequencies_of(network.phases)) * cells);
        // What lies beyond the picture's border: the input's zero.
        int32_t zero = 0;
        if (k > 0 && packed.in_cell == Cell::Int8) zero = int32_t(0x01010101u * uint32_t(description.layers[k - 1].output.zero_point));
        if (!packed.winograd) {
            stage.zeros = Buffer<int32_t>(size_t(packed.groups) * network.phases * stride);
            std::fill_n(stage.zeros.data(), size_t(packed.groups) * network.phases * stride, zero);
        }
        if (packed.out_cell == Cell::Int8) {
            std::fill_n(stage.out.cells.data(), size_t(stage.out.depth) * stage.out.row_size,
                        int32_t(0x01010101u * uint32_t(packed.layer->output.zero_point)));
        }
    }
    head_rows = make_ring(network.layers[0].layer->rows, size_t(description.channels) * network.phases * stride);

    int kept = lag + 1 - int(reach.begin);
    planes = make_float_ring(description.channels + interpolated, kept, span);
    const Packed &last = network.layers.back();
    tail = Buffer<float>(size_t(last.out) * (size_t(round_up(span, 64)) + 2 * MARGIN));
    if (reduces > 1) tail_rows = make_float_ring(last.layer->out, 2 * lag + reduces + 2, span);
    scratch = Buffer<float>(size_t(MOST_FREQUENCIES) * 8 * 4 * 16);
    output_width = size_t(round_up(span, 64)) * size_t(description.enlarges()) + 64;
    output = Buffer<float>(output_width * 3);
    phase_width = size_t(round_up(span, 64)) + 64;
    phase_rows = Buffer<float>(phase_width * size_t(description.enlarges()));
    line = Buffer<float>(planes.width + 128);
}

// Row y of the picture into the rings.
void Strip::State::take(const Samples &source, int64_t first_row, int64_t y) {
    int64_t from = std::min(y, format.height - 1) - first_row;
    size_t sample = format.source == OB_UINT8 ? 1 : format.source == OB_UINT16 ? 2 : 4;
    int64_t count = std::min(buffer.end, format.width) - buffer.begin;
    PictureRow row;
    row.base = static_cast<const char *>(source.base) + sample * (from * source.row + buffer.begin * source.pixel);
    row.type = format.source;
    row.pixel = source.pixel;
    row.channel = source.channel;
    float *own[3] = {};
    int all = description.channels + interpolated;
    for (int c = 0; c < all; c++) own[c] = planes.row(c, y);
    for (int c = 0; c < picture_channels; c++) kernels.read(row, c, size_t(count), own[c]);
    if (format.colour == OB_Y_OF_RGB) kernels.to_ycbcr(own[0], own[1], own[2], size_t(count));
    if (format.colour == OB_Y_OF_GREY) kernels.scale_and_shift(own[0], 219.0f / 255, 16.0f / 255, size_t(count));
    if (format.colour == OB_RGB_OF_GREY)
        for (int c = 1; c < 3; c++) std::memcpy(own[c], own[0], size_t(count) * sizeof(float));
    for (int c = 0; c < all; c++) {
        // The picture filled on its right to the network's multiple.
        for (int64_t x = count; x < buffer.size(); x++) own[c][x] = own[c][count - 1];
        fill_margins(c, y);
    }
    for (int c = 0; c < description.channels; c++) {
        int32_t *to = head_rows.row(y) + size_t(c) * network.phases * stride + MARGIN;
        if (network.phases == 1)
            std::memcpy(to, own[c], size_t(buffer.size()) * sizeof(float));
        else
            kernels.split_phases(own[c], size_t(buffer.size()), network.phases, reinterpret_cast<float *>(to), stride);
    }
}

// Edges repeated beyond the row's ends, as the resizings see a picture's border.
void Strip::State::fill_margins(int plane, int64_t y) {
    float *row = planes.row(plane, y);
    int64_t span = buffer.size();
    for (int k = 1; k <= MARGIN; k++) {
        row[-k] = row[0];
        row[span - 1 + k] = row[span - 1];
    }
}

// Cells beyond the end of row y, which vectors wrote over, back to the layer's zero.
void Strip::State::clear_edges(Ring &ring, int64_t y, int channels, Cell cell, int32_t zero) {
    const int phases = network.phases;
    size_t groups = size_t(channels / per_cell(cell));
    int32_t *plane = ring.row(y) + MARGIN;
    for (size_t g = 0; g < groups; g++)
        for (int p = 0; p < phases; p++, plane += stride)
            for (size_t k = edges[p].first; k < edges[p].second; k++) plane[k] = zero;
}

void Strip::State::set_epilogue(size_t index, int64_t y, Epilogue &e, Target *skips) {
    const Packed &packed = network.layers[index];
    const Layer &layer = *packed.layer;
    Stage &stage = stages[index];
    auto target = [&](Ring &ring, const Grid &grid, Cell cell) {
        Target t;
        t.base = ring.row(y) + MARGIN;
        t.stride = stride;
        t.scale = grid.scale;
        t.inverse = grid.inverse;
        t.zero_point = grid.zero_point;
        t.kind = cell;
        return t;
    };
    e.multiplier = packed.multiplier.data();
    e.slope = packed.slope.data();
    e.sloped = packed.sloped;
    e.clamped = packed.out_cell == Cell::Int8 && (index == 0 || !layer.sources.empty());
    e.phases = network.phases;
    e.out = target(stage.out, layer.output, packed.out_cell);
    if (layer.keeps_raw) {
        e.keeps_raw = true;
        e.raw = target(stage.raw, layer.raw, packed.out_cell);
    }
    e.skips = skips;
    for (int32_t source : layer.sources) {
        const Layer &from = description.layers[size_t(source)];
        Ring &ring = from.keeps_raw ? stages[size_t(source)].raw : stages[size_t(source)].out;
        skips[e.skip_count++] = target(ring, from.keeps_raw ? from.raw : from.output, packed.out_cell);
    }
}

void Strip::State::run_layer(size_t index, int64_t y) {
    const Packed &packed = network.layers[index];
    const Layer &layer = *packed.layer;
    Stage &stage = stages[index];
    std::vector<Target> skips(layer.sources.size());
    int radius = layer.row_radius();
    auto inside = [&](int64_t row) { return row >= 0 && row < height; };
    if (packed.winograd) {
        Winograd w;
        w.arithmetic = packed.arithmetic;
        w.groups = packed.groups;
        w.out = packed.out;
        for (int r = 0; r < 3; r++)
            w.row[r] = inside(y + r - 1) ? stages[index - 1].transformed.row(y + r - 1) : nullptr;
        w.weights = packed.weights.data();
        w.bias = packed.bias.data();
        w.scratch = scratch.data();
        w.cells = cells;
        set_epilogue(index, y, w.epilogue, skips.data());
        kernels.winograd(w);
    } else {
        const int32_t *source[MOST_COLUMNS];
        Ring &from = index ? stages[index - 1].out : head_rows;
        for (int r = 0; r < layer.rows; r++)
            source[r] = (inside(y + r - radius) ? from.row(y + r - radius) : stage.zeros.data()) + MARGIN;
        Convolution c;
        c.arithmetic = packed.arithmetic;
        c.out = packed.out;
        c.groups = packed.groups;
        c.rows = layer.rows;
        c.columns = layer.columns;
        c.phases = network.phases;
        c.row = source;
        c.stride = stride;
        for (int p = 0; p < network.phases; p++)
            for (int l = 0; l < layer.columns; l++) {
                int x = p + l - layer.column_radius(), phase = ((x % network.phases) + network.phases) % network.phases;
                c.tap[p][l] = ptrdiff_t(phase) * ptrdiff_t(stride) + (x - phase) / network.phases;
            }
        c.weights = packed.weights.data();
        c.start = packed.start.data();
        c.cells = cells;
        set_epilogue(index, y, c.epilogue, skips.data());
        kernels.convolve(c);
    }
    if (index + 1 == stages.size()) return;
    int32_t zero = packed.out_cell == Cell::Int8 ? int32_t(0x01010101u * uint32_t(layer.output.zero_point)) : 0;
    clear_edges(stage.out, y, packed.out, packed.out_cell, zero);
    if (stage.transformed.depth)
        kernels.transform(packed.out_cell, stage.out.row(y) + MARGIN, stride, packed.out / per_cell(packed.out_cell), cells,
                          stage.transformed.row(y));
}

// Row y of the input, resized along its columns and rows, for phase `phase` of the result's rows: a row for every
// phase of the result's columns, in `phase_rows`.
void Strip::State::resize_plane(const Resampler &resampler, int plane, int64_t y, int phase,
                                const float *(&rows)[MOST_PHASES]) {
    const float *source[64];
    for (int k = 0; k < resampler.taps; k++) {
        int64_t row = std::clamp<int64_t>(y + k - resampler.before, 0, height - 1);
        source[k] = planes.row(plane, row) - MARGIN;
    }
    float *sum = line.data();
    kernels.weighted(source, resampler.weight.data() + size_t(phase) * resampler.taps, resampler.taps,
                     size_t(buffer.size()) + 2 * MARGIN, sum);
    const float *first = sum + MARGIN + (columns.begin - buffer.begin) - resampler.before;
    for (int p = 0; p < resampler.phases; p++) rows[p] = phase_rows.data() + size_t(p) * phase_width;
    if (resampler.stride > 1)
        kernels.reduce(first, resampler.weight.data(), resampler.stride, resampler.taps,
                       size_t(columns.size() / resampler.stride), phase_rows.data());
    else
        kernels.enlarge(first, resampler.weight.data(), resampler.phases, resampler.taps, size_t(columns.size()),
                        phase_rows.data(), phase_width);
}

// A row of the result in the network's channels (and chroma) -> the picture's samples.
void Strip::State::write_row(int64_t row, float *const *channels, const Samples &target, int64_t first_row) {
    int64_t enlarges = description.enlarges(), reduces = description.reduces();
    int64_t begin = columns.begin * enlarges / reduces, end = columns.end * enlarges / reduces;
    size_t count = size_t(end - begin);
    if (format.colour == OB_Y_OF_RGB) kernels.to_rgb(channels[0], channels[1], channels[2], count);
    if (format.colour == OB_Y_OF_GREY) kernels.scale_and_shift(channels[0], 255.0f / 219, -16.0f / 219, count);
    if (format.colour == OB_RGB_OF_GREY) {
        kernels.luma(channels[0], channels[1], channels[2], channels[0], count);
        kernels.scale_and_shift(channels[0], 255.0f / 219, -16.0f / 219, count);
    }
    size_t sample = format.target == OB_UINT8 ? 1 : format.target == OB_UINT16 ? 2 : 4;
    char *to = static_cast<char *>(target.base) + sample * ((row - first_row) * target.row + begin * target.pixel);
    kernels.write(channels, picture_channels, format.target, count, to, ptrdiff_t(target.pixel), ptrdiff_t(target.channel));
}

// Rows of the result of networks that enlarge or keep the size, from row y of the input.
void Strip::State::emit_rows(int64_t y, const Samples &target, int64_t first_row) {
    int scale = description.enlarges(), channels = description.channels;
    size_t count = size_t(columns.size());
    // The tail's row in the order of the pixels.
    const Stage &last = stages.back();
    size_t tail_stride = size_t(round_up(buffer.size(), 64)) + 2 * MARGIN;
    const float *features[4 * 4 * 3];
    int64_t skipped = columns.begin - buffer.begin;
    for (int o = 0; o < network.layers.back().layer->out; o++) {
        const float *from = reinterpret_cast<const float *>(last.out.row(y) + MARGIN) + size_t(o) * network.phases * stride;
        if (network.phases == 1) {
            features[o] = from + skipped;
        } else {
            float *to = tail.data() + size_t(o) * tail_stride;
            kernels.join_phases(from, stride, network.phases, size_t(buffer.size()), to);
            features[o] = to + skipped;
        }
    }
    for (int dy = 0; dy < scale; dy++) {
        float *own[3];
        const float *resized[MOST_PHASES];
        for (int c = 0; c < 3; c++) own[c] = output.data() + size_t(c) * output_width;
        for (int c = 0; c < channels; c++) {
            if (description.has_residual) resize_plane(description.residual, c, y, dy, resized);
            kernels.interleave(features + (c * scale + dy) * scale, description.has_residual ? resized : nullptr, scale,
                               count, own[c]);
        }
        for (int c = 0; c < interpolated; c++) {
            resize_plane(description.chroma, channels + c, y, dy, resized);
            kernels.interleave(resized, nullptr, scale, count, own[channels + c]);
        }
        write_row(y * scale + dy, own, target, first_row);
    }
}

// A row of the result of networks that reduce; y is the first row of the input that it stands for.
void Strip::State::emit_reduced(int64_t y, const Samples &target, int64_t first_row) {
    const Reduction &reduction = description.reduction;
    int scale = description.scale, channels = description.channels;
    size_t count = size_t(columns.size() / scale);
    int64_t skipped = columns.begin - buffer.begin;
    float *own[3];
    const float *resized[MOST_PHASES];
    for (int c = 0; c < 3; c++) own[c] = output.data() + size_t(c) * output_width;
    for (int c = 0; c < channels; c++) {
        float *to = own[c];
        if (reduction.average) {
            std::memset(to, 0, count * sizeof(float));
            for (int r = 0; r < scale; r++)
                for (int l = 0; l < scale; l++) {
                    const float *from = tail_rows.row(c, y + r) + skipped + l;
                    for (size_t x = 0; x < count; x++) to[x] += from[x * size_t(scale)];
                }
            for (size_t x = 0; x < count; x++) to[x] /= float(scale * scale);
        } else {
            std::fill_n(to, count, reduction.bias[size_t(c)]);
            for (int i = 0; i < reduction.in; i++)
                for (int r = 0; r < reduction.kernel; r++) {
                    int64_t row = y + r - reduction.pad;
                    if (row < 0 || row >= height) continue;
                    const float *from = tail_rows.row(i, row) + skipped - reduction.pad;
                    const float *weight = reduction.weight.data() + ((size_t(c) * reduction.in + i) * reduction.kernel + r) * reduction.kernel;
                    for (int l = 0; l < reduction.kernel; l++)
                        for (size_t x = 0; x < count; x++) to[x] += weight[l] * from[x * size_t(scale) + size_t(l)];
                }
        }
        if (description.has_residual) {
            const float *own_row = to;
            resize_plane(description.residual, c, y, 0, resized);
            kernels.interleave(&own_row, resized, 1, count, to);
        }
    }
    for (int c = 0; c < interpolated; c++) {
        resize_plane(description.chroma, channels + c, y, 0, resized);
        kernels.interleave(resized, nullptr, 1, count, own[channels + c]);
    }
    int64_t row = y / scale;
    write_row(row, own, target, first_row);
}

Strip::Strip(const Network &network, const ob_format &format, Range columns, Range rows)
    : state_(new State(network, format, columns, rows)) {}
Strip::~Strip() = default;
Strip::Strip(Strip &&) noexcept = default;

int64_t Strip::steps() const { return state_->rows.end + state_->lag - state_->source_rows.begin; }

int64_t Strip::next_source_row() const {
    int64_t row = state_->source_rows.begin + state_->step;
    return row < state_->source_rows.end ? std::min(row, state_->format.height - 1) : -1;
}

void Strip::step(const Samples &source, int64_t first_source_row, const Samples &target, int64_t first_target_row) {
    State &s = *state_;
    int64_t now = s.source_rows.begin + s.step++;
    if (now < s.source_rows.end) s.take(source, first_source_row, now);
    bool reduces = s.description.reduces() > 1;
    for (size_t k = 0; k < s.stages.size(); k++) {
        int64_t y = now - s.stages[k].lag;
        if (y < s.stages[k].rows.begin || y >= s.stages[k].rows.end) continue;
        s.run_layer(k, y);
        if (reduces && k + 1 == s.stages.size()) {
            const Layer &layer = *s.network.layers[k].layer;
            for (int o = 0; o < layer.out; o++) {
                const float *from = reinterpret_cast<const float *>(s.stages[k].out.row(y) + MARGIN) + size_t(o) * s.network.phases * s.stride;
                float *to = s.tail_rows.row(o, y);
                if (s.network.phases == 1)
                    std::memcpy(to, from, size_t(s.buffer.size()) * sizeof(float));
                else
                    s.kernels.join_phases(from, s.stride, s.network.phases, size_t(s.buffer.size()), to);
                std::memset(to - MARGIN, 0, MARGIN * sizeof(float));
                std::memset(to + s.buffer.size(), 0, MARGIN * sizeof(float));
            }
        }
    }
    int64_t y = now - s.lag;
    if (y < s.rows.begin || y >= s.rows.end) return;
    if (!reduces) return s.emit_rows(y, target, first_target_row);
    if (y % s.description.scale == 0) s.emit_reduced(y, target, first_target_row);
}

}  // namespace ob
