// A network whose weights lie in the order in which the kernels read them.
#pragma once

#include <vector>

#include "buffer.h"
#include "description.h"
#include "kernel_set.h"

namespace ob {

// Channels that share a cell.
inline int per_cell(Cell cell) { return cell == Cell::Float32 ? 1 : cell == Cell::BFloat16 ? 2 : 4; }

// A layer with its weights in the order in which the kernels read them, its channels padded to whole cells.
struct PackedLayer {
    const Layer *layer = nullptr;
    bool winograd = false;
    Arithmetic arithmetic = Arithmetic::Fused;
    Cell in_cell = Cell::Float32, out_cell = Cell::Float32;
    int channel_groups = 0;  // of input channels that share a cell
    int out = 0;             // channels, padded to whole cells
    Buffer<int32_t> weights, initial_sums;
    std::vector<float> bias, multiplier, slope;
    bool sloped = false;
    // For sets with products of tiles. int8: `weights` serves the rows that do not lie one after another;
    // bfloat16 does not use it.
    Buffer<int32_t> tile_weights, tile_initial_sums;
    TileWeights tiles;  // without steps: none
};

struct Network {
    Description description;
    const KernelSet *kernels = nullptr;
    std::vector<PackedLayer> layers;
    int phases = 1;        // of feature maps; a Winograd tile has as many outputs
    int lag = 0;           // rows that the tail is behind the input
    bool complete = true;  // false: there was not enough memory, and nothing else may be used

    Network(Description &&description, const KernelSet *kernels);
};

#if !defined(__wasm__)
// A float32 layer of a program; its weights and initial sums are null where there was not enough memory.
PackedLayer pack_float(const Layer &layer, bool winograd, const KernelSet &set);
// Whether a layer of these dimensions is faster by Winograd.
bool is_faster_by_winograd(const Layer &layer);
#endif

}  // namespace ob
