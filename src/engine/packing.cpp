#include "packing.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "geometry.h"

namespace ob {
namespace {

constexpr int MAX_TILE_ROWS = 7;  // of kernels that run by products of tiles

// Rounded to nearest, ties to even. Example: 0x3f808000 lies in the middle between 0x3f80 and 0x3f81. The bit
// above the tie is 0, so 0x7fff is added: 0x3f80ffff, whose upper half is 0x3f80.
uint16_t to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float weight_at(const Layer &layer, int o, int i, int r, int l) {
    return layer.weight[((size_t(o) * layer.in + i) * layer.rows + r) * layer.columns + l];
}

// The weights of output o for the channels of group g, as one cell. (A group is the set of 1, 2 or 4 channels
// that share a cell.)
// Example, 8 bits: the weights 1, -2, 0, 3 of channels 0 to 3 are the cell 0x0300fe01. Channels and outputs
// beyond the layer's own have the weight 0.
int32_t weight_cell(const PackedLayer &packed, int o, int g, int r, int l) {
    const Layer &layer = *packed.layer;
    int channels_per_cell = per_cell(packed.in_cell);
    uint32_t cell = 0;
    if (o >= layer.out) return 0;
    for (int k = 0; k < channels_per_cell; k++) {
        int i = g * channels_per_cell + k;
        if (i >= layer.in) continue;
        if (channels_per_cell == 1) {
            float value = weight_at(layer, o, i, r, l);
            std::memcpy(&cell, &value, 4);
        } else if (channels_per_cell == 2) {
            cell |= uint32_t(to_bfloat16(weight_at(layer, o, i, r, l))) << (16 * k);
        } else {
            int8_t value =
                layer.integer_weight[((size_t(o) * layer.in + i) * layer.rows + r) * layer.columns + l];
            cell |= uint32_t(uint8_t(value)) << (8 * k);
        }
    }
    return int32_t(cell);
}

// Two cells of 16-bit weights from one cell of 8-bit weights: channels 0 and 2, channels 1 and 3.
// Example: 0x0300fe01 (weights 1, -2, 0, 3) becomes 0x00000001 (1, 0) and 0x0003fffe (-2, 3).
void split_weights(int32_t cell, int32_t *to) {
    for (int half = 0; half < 2; half++) {
        const int low = int8_t(uint32_t(cell) >> (8 * half)),
                  high = int8_t(uint32_t(cell) >> (8 * half + 16));
        to[half] = int32_t(uint32_t(uint16_t(low)) | uint32_t(uint16_t(high)) << 16);
    }
}

// Packs the weights in the order in which the direct kernel (direct_microkernel in kernels.h) reads them:
// block of at most max_block output channels, row of the kernel, group, column, output channel of the block.
// Example: 12 outputs in blocks of 8 and 4, a 3x3 kernel and 2 groups: 3 * 2 * 3 * 8 = 144 cells of the first
// block, then 72 of the second.
void pack_direct(PackedLayer &packed, const KernelSet &set) {
    const Layer &layer = *packed.layer;
    const bool split = layer.integer && !set.byte_dot;
    const size_t cells_per_weight = split ? 2 : 1;
    packed.weights =
        Buffer<int32_t>(uint64_t(cells_per_weight) * uint64_t(packed.out) * uint64_t(layer.rows) *
                        uint64_t(packed.channel_groups) * uint64_t(layer.columns));
    int32_t *to = packed.weights.data();
    if (!to) return;
    for (int first = 0; first < packed.out;) {
        int width = block_of(packed.out - first, set.max_block);
        for (int r = 0; r < layer.rows; r++)
            for (int g = 0; g < packed.channel_groups; g++)
                for (int l = 0; l < layer.columns; l++)
                    for (int o = 0; o < width; o++, to += cells_per_weight) {
                        const int32_t cell = weight_cell(packed, first + o, g, r, l);
                        if (split)
                            split_weights(cell, to);
                        else
                            *to = cell;
                    }
        first += width;
    }
}

// Packs the weights a second time, for products of tiles: for every rotation of the kernel's rows, block of
// 16 output channels, column and step, a tile of 16 output channels by `depth` planes (see TileWeights).
// Example: int8, 3 rows of 7 groups, rotation 1: plane 0 is group 0 of the kernel's row 1, plane 20 is group
// 6 of its row 0; step 1 begins with plane 10, which step 0 has read already and whose weights are zero
// there.
void pack_tiles(PackedLayer &packed) {
    const Layer &layer = *packed.layer;
    const bool by_row = packed.arithmetic != Arithmetic::Int8;
    const int groups = packed.channel_groups, planes = by_row ? groups : layer.rows * groups;
    const int sequence_steps = (planes + TILE_SIZE - 1) / TILE_SIZE, rotations = by_row ? 1 : layer.rows;
    const int blocks = (packed.out + TILE_SIZE - 1) / TILE_SIZE;
    TileWeights &tiles = packed.tiles;
    tiles.row_steps = by_row ? sequence_steps : 0;
    tiles.steps = by_row ? layer.rows * sequence_steps : sequence_steps;
    tiles.depth = (planes + sequence_steps - 1) / sequence_steps;
    packed.tile_weights = Buffer<int32_t>(uint64_t(rotations) * uint64_t(blocks) * uint64_t(layer.columns) *
                                          uint64_t(tiles.steps) * TILE_SIZE * TILE_SIZE);
    packed.tile_initial_sums = Buffer<int32_t>(uint64_t(blocks) * TILE_SIZE * TILE_SIZE);
    tiles.weights = packed.tile_weights.data();
    tiles.initial_sums = packed.tile_initial_sums.data();
    int32_t *to = packed.tile_weights.data();
    if (!to || !packed.tile_initial_sums.data()) return;
    for (int o = 0; o < packed.out; o++)
        std::fill_n(packed.tile_initial_sums.data() + size_t(o) * TILE_SIZE, TILE_SIZE,
                    packed.initial_sums[o]);
    for (int rotation = 0; rotation < rotations; rotation++)
        for (int block = 0; block < blocks; block++)
            for (int l = 0; l < layer.columns; l++)
                for (int s = 0; s < tiles.steps; s++)
                    for (int o = 0; o < TILE_SIZE; o++, to += TILE_SIZE)
                        for (int k = 0; k < tiles.depth; k++) {
                            const int plane = tiles.first_plane(s, planes) + k;
                            const int row =
                                by_row ? s / sequence_steps : (plane / groups + rotation) % layer.rows;
                            if (plane >= s % sequence_steps * tiles.depth)
                                to[k] = weight_cell(packed, block * TILE_SIZE + o, plane % groups, row, l);
                        }
}

// The weights of a row of three taps for F(tile_size, 3), computed in double precision and rounded to float32
// (and from there to bfloat16, where cells are bfloat16). Example: with a tile of 4, the taps 1, 2, 3 give
// 1/4, -1, -1/3, 17/24, 3/8, 3; for F(2, 3) they give 1, 3, 1 and 3.
void winograd_weights(const double (&g)[3], int tile_size, float (&u)[MAX_FREQUENCIES]) {
    if (tile_size == 2) {
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
void winograd_cells(const PackedLayer &packed, int tile_size, int o, int g, int r,
                    uint32_t (&cells)[MAX_FREQUENCIES]) {
    const Layer &layer = *packed.layer;
    int channels_per_cell = per_cell(packed.in_cell);
    std::fill_n(cells, MAX_FREQUENCIES, 0u);
    for (int k = 0; k < channels_per_cell && g * channels_per_cell + k < layer.in && o < layer.out; k++) {
        double taps[3];
        float u[MAX_FREQUENCIES];
        for (int l = 0; l < 3; l++) taps[l] = weight_at(layer, o, g * channels_per_cell + k, r, l);
        winograd_weights(taps, tile_size, u);
        for (int f = 0; f < frequencies_of(tile_size); f++) {
            if (channels_per_cell == 1)
                std::memcpy(&cells[f], &u[f], 4);
            else
                cells[f] |= uint32_t(to_bfloat16(u[f])) << (16 * k);
        }
    }
}

// Packs the weights in the order in which winograd_sums (kernels.h) reads them: block of output channels,
// frequency, row of the kernel, group, output channel of the block. All frequencies of a cell are packed
// together, hence the strided stores.
void pack_winograd(PackedLayer &packed, int tile_size, int max_block) {
    const size_t rows = 3, groups = size_t(packed.channel_groups),
                 frequencies = size_t(frequencies_of(tile_size));
    packed.weights = Buffer<int32_t>(uint64_t(packed.out) * frequencies * rows * groups);
    int32_t *to = packed.weights.data();
    if (!to) return;
    for (int first = 0; first < packed.out;) {
        const size_t width = size_t(block_of(packed.out - first, max_block));
        for (size_t r = 0; r < rows; r++)
            for (size_t g = 0; g < groups; g++)
                for (size_t o = 0; o < width; o++) {
                    uint32_t cells[MAX_FREQUENCIES];
                    winograd_cells(packed, tile_size, first + int(o), int(g), int(r), cells);
                    for (size_t f = 0; f < frequencies; f++)
                        to[((f * rows + r) * groups + g) * width + o] = int32_t(cells[f]);
                }
        to += width * frequencies * rows * groups;
        first += int(width);
    }
}

// WINOGRAD_SCALE times the weights of a row of three taps for F(4, 3): integers of magnitude at most
// 24 * 128 = 3072, which fit 16 bits. Example: taps 1, 2, 3 give 6, -24, -8, 17, 9, 72.
void integer_winograd_weights(const int (&g)[3], int (&u)[6]) {
    u[0] = 6 * g[0];
    u[1] = -4 * (g[0] + g[1] + g[2]);
    u[2] = -4 * (g[0] - g[1] + g[2]);
    u[3] = g[0] + 2 * g[1] + 4 * g[2];
    u[4] = g[0] - 2 * g[1] + 4 * g[2];
    u[5] = 24 * g[2];
}

// Like pack_winograd; a cell holds the 16-bit weights of channels 0 and 2, or 1 and 3, of a cell of bytes.
void pack_integer_winograd(PackedLayer &packed, int max_block) {
    const Layer &layer = *packed.layer;
    const size_t rows = 3, pairs = 2 * size_t(packed.channel_groups), frequencies = 6;
    packed.weights = Buffer<int32_t>(uint64_t(packed.out) * frequencies * rows * pairs);
    int32_t *to = packed.weights.data();
    if (!to) return;
    auto tap = [&](size_t o, size_t i, size_t r, size_t l) -> int {
        if (o >= size_t(layer.out) || i >= size_t(layer.in)) return 0;
        return layer.integer_weight[((o * size_t(layer.in) + i) * rows + r) * 3 + l];
    };
    for (size_t first = 0; first < size_t(packed.out);) {
        const size_t width = size_t(block_of(packed.out - int(first), max_block));
        for (size_t r = 0; r < rows; r++)
            for (size_t pair = 0; pair < pairs; pair++)
                for (size_t o = 0; o < width; o++)
                    for (size_t k = 0; k < 2; k++) {
                        const size_t channel = 4 * (pair / 2) + pair % 2 + 2 * k;
                        int taps[3], u[6];
                        for (size_t l = 0; l < 3; l++) taps[l] = tap(first + o, channel, r, l);
                        integer_winograd_weights(taps, u);
                        for (size_t f = 0; f < frequencies; f++)
                            to[((f * rows + r) * pairs + pair) * width + o] |=
                                int32_t(uint32_t(uint16_t(u[f])) << (16 * k));
                    }
        to += width * frequencies * rows * pairs;
        first += width;
    }
}

// True if WINOGRAD_SCALE times every accumulator fits 32 bits, so that the scale can be divided out exactly.
// Inputs are bytes from 0 to 255.
bool fits_integer_winograd(const Layer &layer) {
    const size_t weights_per_output = layer.integer_weight.size() / size_t(layer.out);
    for (size_t o = 0; o < size_t(layer.out); o++) {
        int64_t largest_sum = std::abs(int64_t(layer.initial_sums[o]));
        for (size_t k = 0; k < weights_per_output; k++)
            largest_sum += 255 * std::abs(int(layer.integer_weight[o * weights_per_output + k]));
        if (largest_sum * WINOGRAD_SCALE > INT32_MAX) return false;
    }
    return true;
}

// Winograd is for 3x3 kernels. With fewer channels than these, the transforms cost more than they save
// (measured).
bool fits_winograd(const Layer &layer) {
    return layer.rows == 3 && layer.columns == 3 && layer.in >= 8 && layer.out >= 4;
}

// True for a layer that runs by products of tiles, where the set has them. The 8-bit weights of larger
// kernels would need too much memory, because they are packed for every rotation of the rows.
bool fits_tiles(const Layer &layer, Cell in_cell, const KernelSet &set) {
    return set.tiles && in_cell != Cell::Float32 && layer.rows <= MAX_TILE_ROWS;
}

// Packs one layer: chooses its arithmetic and orders its weights. The head of an int8 network is computed in
// floats, and every product and sum is rounded (Strict), so that all instruction sets quantize it to the same
// bytes. The other layers accumulate exactly in int32, and use floats from the multiplier on.
PackedLayer pack(const Description &network, size_t index, int phases, const KernelSet &set) {
    const Layer &layer = network.layers[index];
    const bool head = index == 0, tail = index + 1 == network.layers.size();
    const bool quantized = network.precision == Precision::Int8;
    Cell hidden = quantized                                  ? Cell::Int8
                  : network.precision == Precision::BFloat16 ? Cell::BFloat16
                                                             : Cell::Float32;
    PackedLayer packed;
    packed.layer = &layer;
    packed.in_cell = head ? Cell::Float32 : hidden;
    packed.out_cell = tail ? Cell::Float32 : hidden;
    const bool in_tiles = fits_tiles(layer, packed.in_cell, set);
    packed.winograd = !head && fits_winograd(layer) && !in_tiles;
    if (quantized) packed.winograd = packed.winograd && !set.byte_dot && fits_integer_winograd(layer);
    packed.arithmetic = layer.integer ? packed.winograd ? Arithmetic::Int16 : Arithmetic::Int8
                        : packed.in_cell == Cell::BFloat16 ? Arithmetic::BFloat16
                        : quantized                        ? Arithmetic::Strict
                                                           : Arithmetic::Fused;
    packed.channel_groups = int(round_up(layer.in, per_cell(packed.in_cell)) / per_cell(packed.in_cell));
    // Padded channels have zero weights, and the next layer has zero weights for them.
    packed.out = int(round_up(layer.out, per_cell(packed.out_cell)));
    if (packed.arithmetic == Arithmetic::Int16)
        pack_integer_winograd(packed, set.max_block);
    else if (packed.winograd)
        pack_winograd(packed, phases, set.max_block);
    else
        pack_direct(packed, set);
    packed.initial_sums = Buffer<int32_t>(uint64_t(packed.out));
    if (!packed.initial_sums.data()) return packed;
    // The initial values of the sums. Direct kernels begin with them; float Winograd adds `bias` after the
    // output transform instead. The sums of integer Winograd are scaled by WINOGRAD_SCALE, and so are these.
    const uint32_t scale = packed.arithmetic == Arithmetic::Int16 ? WINOGRAD_SCALE : 1;
    for (int o = 0; o < layer.out; o++) {
        if (layer.integer)
            packed.initial_sums[o] = int32_t(scale * uint32_t(layer.initial_sums[o]));
        else
            std::memcpy(&packed.initial_sums[o], &layer.bias[o], 4);
    }
    if (in_tiles) pack_tiles(packed);
    packed.bias = layer.bias;
    packed.bias.resize(size_t(packed.out), 0.0f);
    packed.multiplier = layer.multiplier;
    packed.multiplier.resize(packed.out, 0.0f);
    packed.slope = layer.slope;
    packed.slope.resize(packed.out, 1.0f);
    packed.sloped = std::any_of(layer.slope.begin(), layer.slope.end(), [](float s) { return s != 1.0f; });
    return packed;
}

// The number of phases of a row: 4 with AMX, where four pixels share the loads of a product of tiles; else as
// many as a Winograd tile has outputs, that is 4 for F(4, 3) and 2 for F(2, 3), which bfloat16 needs because
// its mantissa is too short for F(4, 3). It is 1 for int8 with instructions for dot products of bytes, where
// no layer runs by Winograd. Even a layer that does not run by Winograd reads and writes rows in phases, so
// that all layers share one layout.
int phases_of(const Description &network, const KernelSet &set) {
    if (set.tiles) return MAX_PHASES;
    if (network.precision == Precision::BFloat16) return 2;
    return network.precision == Precision::Int8 && set.byte_dot ? 1 : 4;
}

}  // namespace

Network::Network(Description &&given, const KernelSet *set)
    : description(std::move(given)), kernels(set), phases(phases_of(description, *set)) {
    for (size_t k = 0; k < description.layers.size(); k++) {
        layers.push_back(pack(description, k, phases, *set));
        complete = complete && layers[k].weights.data() && layers[k].initial_sums.data();
        if (layers[k].tiles.steps)
            complete = complete && layers[k].tiles.weights && layers[k].tiles.initial_sums;
        lag += description.layers[k].row_radius();
    }
}

#if !defined(__wasm__)
bool is_faster_by_winograd(const Layer &layer) { return fits_winograd(layer); }

PackedLayer pack_float(const Layer &layer, bool winograd, const KernelSet &set) {
    PackedLayer packed;
    packed.layer = &layer;
    packed.winograd = winograd;
    packed.channel_groups = layer.in;
    packed.out = layer.out;
    if (winograd)
        pack_winograd(packed, MAX_PHASES, set.max_block);
    else
        pack_direct(packed, set);
    packed.initial_sums = Buffer<int32_t>(uint64_t(layer.out));
    if (packed.initial_sums.data())
        std::memcpy(packed.initial_sums.data(), layer.bias.data(), layer.bias.size() * 4);
    packed.bias = layer.bias;
    packed.slope = layer.slope;
    packed.sloped = std::any_of(layer.slope.begin(), layer.slope.end(), [](float s) { return s != 1.0f; });
    return packed;
}
#endif

}  // namespace ob
