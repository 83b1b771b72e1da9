#include "strip.h"

#include <algorithm>
#include <cstring>

#include "strip_state.h"

namespace ob {
namespace {

// Pixels beyond a row's end that must be zero because a kernel may read them: the radius of the widest
// kernel, and the up to 4 pixels of a Winograd tile that begins inside the row.
constexpr int PIXELS_READ_BEYOND_END = MAX_COLUMNS / 2 + 4;

// A cell of four bytes that stand for 0 in a layer's output. Example: zero point 10 gives 0x0a0a0a0a.
int32_t zero_cell(const Layer &layer) { return int32_t(0x01010101u * uint32_t(layer.output.zero_point)); }

}  // namespace

FloatRing Strip::State::make_float_ring(int of_planes, int depth, int64_t of_columns) {
    FloatRing ring;
    ring.planes = of_planes;
    ring.depth = depth;
    ring.width = size_t(round_up(of_columns, 16)) + 4 * MARGIN;
    ring.values = buffer_of<float>(uint64_t(of_planes) * uint64_t(depth) * ring.width);
    return ring;
}

Strip::State::State(const Network &of_network, const ob_format &of_picture, Interval wanted_columns,
                    Interval wanted_rows)
    : network(of_network),
      description(of_network.description),
      kernels(*of_network.kernels),
      format(of_picture),
      columns(wanted_columns),
      rows(wanted_rows) {
    int reduces = description.reduces();
    height = round_up(format.height, reduces);
    width = round_up(format.width, reduces);
    buffer = needed_columns(network, columns, width);
    source_rows = needed_rows(network, rows, height);
    picture_channels = format.colour == OB_OWN ? description.channels : format.colour == OB_Y_OF_RGB ? 3 : 1;
    chroma_planes = format.colour == OB_Y_OF_RGB ? 2 : 0;
    allocate();
}

// Worked example: a luma network for x2, three 3x3 layers (head, one block, tail), fp32, AVX2 (8 lanes), for
// columns 0 to 100 and rows 0 to 50 of a picture of 100 x 50:
//   buffer  [0, 100)             columns that are read: all, because the strip is as wide as the picture
//   cells   round_up(25, 8) = 32 cells of a plane; each of the 4 phases holds every 4th pixel, 25 of the row
//   stride  80                   cells from plane to plane: 32 + 2 * 16, an odd number of lines of 16
//   lags    1, 2, 3              head, block and tail: the sum of the row radii so far
//   lag     3                    row y of the result is computed in step y + 3 (the bicubic residual needs
//                                only row y + 2 of the picture)
//   head    its input ring holds 3 rows of 1 channel. Its output of 16 channels is transformed for Winograd
//           immediately, so its output ring holds 1 row of 16 * 4 planes, its ring of transformed rows 3
//   tail    a ring of lag - 3 + 1 = 1 row of 4 * 4 planes
void Strip::State::allocate() {
    int64_t span = buffer.size();
    cells = size_t(round_up((span + network.phases - 1) / network.phases, kernels.lanes));
    stride = plane_stride(cells);
    // Cells of a phase beyond the row's end that whole vectors overwrite and kernels read: clear_edges sets
    // them to zero. Example: 101 pixels in 4 phases: phase 0 has 26 cells, the others 25.
    for (int64_t p = 0; p < network.phases; p++) {
        size_t first = size_t((span - p + network.phases - 1) / network.phases);
        edges[p] = {first,
                    std::min(cells, first + size_t(PIXELS_READ_BEYOND_END) / size_t(network.phases) + 1)};
    }
    schedule_layers();
    for (size_t k = 0; k < layer_rows.size() && complete; k++) allocate_layer(k);
    if (complete) allocate_picture_rows();
}

// Sets the rows that every layer computes, and by how many steps each layer and the result lag behind the
// input.
// Example: three 3x3 layers for rows [20, 40) of a picture of 100 rows: the tail computes rows [20, 40), the
// block [19, 41) and the head [18, 42), from rows [17, 43) of the picture.
void Strip::State::schedule_layers() {
    layer_rows.resize(network.layers.size());
    Interval need = needed_of_tail(description, rows, height);
    for (size_t k = layer_rows.size(); k-- > 0;) {
        layer_rows[k].rows = need;
        int radius = network.layers[k].layer->row_radius();
        need = clipped({need.begin - radius, need.end + radius}, height);
    }
    int sum_of_radii = 0;
    for (size_t k = 0; k < layer_rows.size(); k++)
        layer_rows[k].lag = sum_of_radii += network.layers[k].layer->row_radius();
    // Row y of the result is computed as soon as the last row that it depends on is available. If the network
    // reduces by s, row r of the result is made of the input rows s r to s r + s - 1, and y is s r.
    Interval halo = resampling_halo(description, chroma_planes > 0);
    int reduces = description.reduces();
    int pad = description.reduction.present && !description.reduction.average ? description.reduction.pad : 0;
    lag = std::max(network.lag + reduces - 1 + pad, std::max(int(halo.end), reduces - 1));
}

// Allocates the rings of one layer, with as many rows as the next layer, the result and the skips that start
// at this layer read in one step.
void Strip::State::allocate_layer(size_t k) {
    const PackedLayer &packed = network.layers[k];
    LayerRows &kept = layer_rows[k];
    const bool last = k + 1 == layer_rows.size(), next_winograd = !last && network.layers[k + 1].winograd;
    const uint64_t row_size =
        uint64_t(packed.out / per_cell(packed.out_cell)) * uint64_t(network.phases) * stride;
    // A ring holds the rows that one step reads. The next layer reads as many rows as its kernel has. A skip
    // from this layer (lag a) to a later one (lag b) adds the row that this layer has computed b - a steps
    // ago, so b - a + 1 rows are kept. Example: a = 1 and b = 4: 4 rows.
    int depth = 1, skip_depth = 0;
    if (!last && !next_winograd) depth = network.layers[k + 1].layer->rows;
    if (last && description.reduces() == 1) depth = lag - kept.lag + 1;
    for (size_t j = k + 1; j < layer_rows.size(); j++)
        for (int32_t source : network.layers[j].layer->sources)
            if (size_t(source) == k) skip_depth = std::max(skip_depth, layer_rows[j].lag - kept.lag + 1);
    if (skip_depth && packed.layer->keeps_raw)
        kept.raw = make_ring(skip_depth, row_size);
    else
        depth = std::max(depth, skip_depth);
    kept.out = make_ring(depth, row_size);
    if (next_winograd) kept.transformed = make_ring(3, transformed_size(network.layers[k + 1]));
    if (!complete) return;
    if (!packed.winograd || packed.in_cell == Cell::Int8) allocate_zeros(k);
    if (packed.out_cell == Cell::Int8)
        std::fill_n(kept.out.cells.data(), size_t(depth) * kept.out.row_size, zero_cell(*packed.layer));
}

// The number of cells of a transformed row that a layer reads.
uint64_t Strip::State::transformed_size(const PackedLayer &layer) const {
    const int halves =
        layer.arithmetic == Arithmetic::Int16 ? 2 : 1;  // a cell of 4 bytes becomes 2 cells of 16-bit numbers
    return uint64_t(layer.channel_groups * halves * frequencies_of(network.phases)) * cells;
}

// Allocates the row that a layer reads above and below the picture. It holds 0 as the layer's input encodes
// it (int8: the zero point), transformed if the layer runs by Winograd. Float layers that run by Winograd
// need none: for them, a null pointer stands for a row of zeros (see Winograd::row).
void Strip::State::allocate_zeros(size_t k) {
    const PackedLayer &packed = network.layers[k];
    const uint64_t size = uint64_t(packed.channel_groups) * uint64_t(network.phases) * stride;
    Buffer<int32_t> zeros = buffer_of<int32_t>(size);
    if (!complete) return;
    const bool quantized = packed.in_cell == Cell::Int8;
    std::fill_n(zeros.data(), size_t(size), quantized ? zero_cell(description.layers[k - 1]) : 0);
    if (packed.winograd) {
        layer_rows[k].zeros = buffer_of<int32_t>(transformed_size(packed));
        if (!complete) return;
        kernels.transform(packed.in_cell, zeros.data() + MARGIN, stride, packed.channel_groups, cells,
                          layer_rows[k].zeros.data());
    } else {
        layer_rows[k].zeros = std::move(zeros);
    }
}

// Allocates the rows of the picture that the head and the resampling read, and one row for each operation
// after the tail.
void Strip::State::allocate_picture_rows() {
    int64_t span = buffer.size();
    Interval halo = resampling_halo(description, chroma_planes > 0);
    head_rows = make_ring(network.layers[0].layer->rows,
                          uint64_t(description.channels) * uint64_t(network.phases) * stride);
    int depth = lag + 1 - int(halo.begin);
    planes = make_float_ring(description.channels + chroma_planes, depth, span);
    const PackedLayer &last = network.layers.back();
    tail = buffer_of<float>(uint64_t(last.out) * (size_t(round_up(span, 64)) + 2 * MARGIN));
    int reduces = description.reduces();
    if (reduces > 1) tail_rows = make_float_ring(last.layer->out, 2 * lag + reduces + 2, span);
    int widest = 0;
    for (const PackedLayer &layer : network.layers)
        if (layer.winograd) widest = std::max(widest, layer.out);
    scratch = buffer_of<int32_t>(winograd_scratch(widest, kernels.lanes));
    output_width = size_t(round_up(span, 64)) * size_t(description.enlarges()) + 64;
    output = buffer_of<float>(uint64_t(output_width) * 3);
    phase_width = size_t(round_up(span, 64)) + 64;
    phase_rows = buffer_of<float>(uint64_t(phase_width) * uint64_t(description.enlarges()));
    line = buffer_of<float>(planes.width + 128);
}

// Converts row y of the picture and stores it in the rings.
void Strip::State::read_row(const Samples &source, int64_t first_row, int64_t y) {
    // Rows that pad the picture to a multiple of the scale repeat its last row.
    int64_t from = std::min(y, format.height - 1) - first_row;
    size_t sample = bytes_of_sample(format.source);
    int64_t count = std::min(buffer.end, format.width) - buffer.begin;
    PictureRow row;
    row.base =
        static_cast<const char *>(source.base) + sample * (from * source.row + buffer.begin * source.pixel);
    row.type = format.source;
    row.pixel = source.pixel;
    row.channel = source.channel;
    float *rows_of[3] = {};
    int all = description.channels + chroma_planes;
    for (int c = 0; c < all; c++) rows_of[c] = planes.row(c, y);
    for (int c = 0; c < picture_channels; c++) kernels.read(row, c, size_t(count), rows_of[c]);
    if (format.colour == OB_Y_OF_RGB) kernels.to_ycbcr(rows_of[0], rows_of[1], rows_of[2], size_t(count));
    if (format.colour == OB_Y_OF_GREY)
        kernels.scale_and_shift(rows_of[0], 219.0f / 255, 16.0f / 255, size_t(count));
    if (format.colour == OB_RGB_OF_GREY)
        for (int c = 1; c < 3; c++) std::memcpy(rows_of[c], rows_of[0], size_t(count) * sizeof(float));
    for (int c = 0; c < all; c++) {
        // The picture is padded on its right to a multiple of the network's scale.
        for (int64_t x = count; x < buffer.size(); x++) rows_of[c][x] = rows_of[c][count - 1];
        fill_margins(c, y);
    }
    for (int c = 0; c < description.channels; c++) {
        int32_t *to = head_rows.row(y) + size_t(c) * network.phases * stride + MARGIN;
        if (network.phases == 1)
            std::memcpy(to, rows_of[c], size_t(buffer.size()) * sizeof(float));
        else
            kernels.split_phases(rows_of[c], size_t(buffer.size()), network.phases,
                                 reinterpret_cast<float *>(to), stride);
    }
}

// Repeats the edge pixels in the row's margins, so that resampling reads a picture with replicated edges.
void Strip::State::fill_margins(int plane, int64_t y) {
    float *row = planes.row(plane, y);
    int64_t span = buffer.size();
    for (int k = 1; k <= MARGIN; k++) {
        row[-k] = row[0];
        row[span - 1 + k] = row[span - 1];
    }
}

// Whole vectors write beyond the end of row y. This sets those cells back to the layer's zero (int8: the zero
// point). Example: a row of 10 pixels in four phases (see phases in kernel_set.h): phase 0 holds the pixels
// 0, 4 and 8, phase 2 the pixels 2 and 6. Cell 2 of phase 2 would be pixel 10, which must be read as zero.
void Strip::State::clear_edges(Ring &ring, int64_t y, int channels, Cell cell, int32_t zero) {
    const int phases = network.phases;
    size_t groups = size_t(channels / per_cell(cell));
    int32_t *plane = ring.row(y) + MARGIN;
    for (size_t g = 0; g < groups; g++)
        for (int p = 0; p < phases; p++, plane += stride)
            for (size_t k = edges[p].first; k < edges[p].second; k++) plane[k] = zero;
}

// Fills in what follows the convolution of row y: scales, activation, output rows and skips. Outputs of the
// head and of layers with skips may exceed 32-bit integers, so they are limited before they are rounded; for
// all other layers, check_sums (description.cpp) refuses networks with such outputs.
void Strip::State::set_epilogue(size_t index, int64_t y, Epilogue &e, FeatureRow *skips) {
    const PackedLayer &packed = network.layers[index];
    const Layer &layer = *packed.layer;
    LayerRows &kept = layer_rows[index];
    auto row_of = [&](Ring &ring, const QuantParams &params, Cell cell) {
        FeatureRow t;
        t.base = ring.row(y) + MARGIN;
        t.stride = stride;
        t.scale = params.scale;
        t.inverse = params.inverse;
        t.zero_point = params.zero_point;
        t.kind = cell;
        return t;
    };
    e.multiplier = packed.multiplier.data();
    e.slope = packed.slope.data();
    e.sloped = packed.sloped;
    e.clamped = packed.out_cell == Cell::Int8 && (index == 0 || !layer.sources.empty());
    e.phases = network.phases;
    e.out = row_of(kept.out, layer.output, packed.out_cell);
    if (layer.keeps_raw) {
        e.keeps_raw = true;
        e.raw = row_of(kept.raw, layer.raw, packed.out_cell);
    }
    e.skips = skips;
    for (int32_t source : layer.sources) {
        const Layer &from = description.layers[size_t(source)];
        Ring &ring = from.keeps_raw ? layer_rows[size_t(source)].raw : layer_rows[size_t(source)].out;
        skips[e.skip_count++] = row_of(ring, from.keeps_raw ? from.raw : from.output, packed.out_cell);
    }
}

void Strip::State::run_layer(size_t index, int64_t y) {
    const PackedLayer &packed = network.layers[index];
    const Layer &layer = *packed.layer;
    LayerRows &kept = layer_rows[index];
    std::vector<FeatureRow> skips(layer.sources.size());
    int radius = layer.row_radius();
    auto inside = [&](int64_t row) { return row >= 0 && row < height; };
    if (packed.winograd) {
        Winograd w;
        w.arithmetic = packed.arithmetic;
        w.channel_groups = packed.channel_groups * (packed.arithmetic == Arithmetic::Int16 ? 2 : 1);
        w.out = packed.out;
        // Rows outside the picture: the transformed row of the zero point (int8), or null, which stands for a
        // row of zeros (float; see Winograd::row).
        for (int r = 0; r < 3; r++)
            w.row[r] =
                inside(y + r - 1) ? layer_rows[index - 1].transformed.row(y + r - 1) : kept.zeros.data();
        w.weights = packed.weights.data();
        w.bias = packed.bias.data();
        w.initial_sums = packed.initial_sums.data();
        w.scratch = scratch.data();
        w.cells = cells;
        set_epilogue(index, y, w.epilogue, skips.data());
        kernels.winograd(w);
    } else {
        const int32_t *source[MAX_COLUMNS];
        Ring &from = index ? layer_rows[index - 1].out : head_rows;
        for (int r = 0; r < layer.rows; r++)
            source[r] = (inside(y + r - radius) ? from.row(y + r - radius) : kept.zeros.data()) + MARGIN;
        Convolution c;
        c.arithmetic = packed.arithmetic;
        c.out = packed.out;
        c.channel_groups = packed.channel_groups;
        c.rows = layer.rows;
        c.columns = layer.columns;
        c.phases = network.phases;
        c.row = source;
        c.stride = stride;
        set_taps(c, 1, layer.column_radius());
        c.weights = packed.weights.data();
        c.initial_sums = packed.initial_sums.data();
        c.cells = cells;
        if (packed.tiles.steps) c.tiles = &packed.tiles;
        set_epilogue(index, y, c.epilogue, skips.data());
        kernels.convolve(c);
    }
    if (index + 1 == layer_rows.size()) return;
    int32_t zero = packed.out_cell == Cell::Int8 ? zero_cell(layer) : 0;
    clear_edges(kept.out, y, packed.out, packed.out_cell, zero);
    if (kept.transformed.depth)
        kernels.transform(packed.out_cell, kept.out.row(y) + MARGIN, stride,
                          packed.out / per_cell(packed.out_cell), cells, kept.transformed.row(y));
}

// Stores row y of the tail's output for the reduction in later steps: pixels in order, zeros beyond the ends.
void Strip::State::store_tail_row(int64_t y) {
    const size_t span = size_t(buffer.size());
    for (int o = 0; o < network.layers.back().layer->out; o++) {
        const float *from = reinterpret_cast<const float *>(layer_rows.back().out.row(y) + MARGIN) +
                            size_t(o) * network.phases * stride;
        float *to = tail_rows.row(o, y);
        if (network.phases == 1)
            std::memcpy(to, from, span * sizeof(float));
        else
            kernels.join_phases(from, stride, network.phases, span, to);
        std::memset(to - MARGIN, 0, MARGIN * sizeof(float));
        std::memset(to + span, 0, MARGIN * sizeof(float));
    }
}

Strip::Strip(const Network &network, const ob_format &format, Interval columns, Interval rows)
    : state_(new State(network, format, columns, rows)) {}
Strip::~Strip() = default;
Strip::Strip(Strip &&) noexcept = default;

bool Strip::complete() const { return state_->complete; }

int64_t Strip::steps() const { return state_->rows.end + state_->lag - state_->source_rows.begin; }

// Example: layers with the lags 1, 2 and 3, in a strip that reads from row 0. In step 5, it reads row 5 of
// the picture; the head computes row 4, the block row 3 and the tail row 2; and row 2 of the result is
// written.
void Strip::step(const Samples &source, int64_t first_source_row, const Samples &target,
                 int64_t first_target_row) {
    State &s = *state_;
    int64_t now = s.source_rows.begin + s.step++;
    if (now < s.source_rows.end) s.read_row(source, first_source_row, now);
    bool reduces = s.description.reduces() > 1;
    for (size_t k = 0; k < s.layer_rows.size(); k++) {
        // In order: layer k reads rows that layer k - 1 has computed in this step and the steps before.
        int64_t y = now - s.layer_rows[k].lag;
        if (y < s.layer_rows[k].rows.begin || y >= s.layer_rows[k].rows.end) continue;
        s.run_layer(k, y);
        if (reduces && k + 1 == s.layer_rows.size()) s.store_tail_row(y);
    }
    int64_t y = now - s.lag;
    if (y < s.rows.begin || y >= s.rows.end) return;
    if (!reduces) return s.emit_rows(y, target, first_target_row);
    if (y % s.description.scale == 0) s.emit_reduced(y, target, first_target_row);
}

}  // namespace ob
