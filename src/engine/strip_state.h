// The rows that a strip keeps, and its steps. Only strip.cpp, resampling.cpp and program_strip.cpp include
// this file.
#pragma once

#include <utility>
#include <vector>

#include "strip.h"

namespace ob {

// Rows of cells, the last `depth` of them.
struct Ring {
    Buffer<int32_t> cells;
    int depth = 0;
    size_t row_size = 0;
    int32_t *row(int64_t y) const { return cells.data() + size_t(y % depth) * row_size; }
};

// Allocates the memory of a strip. complete: false after an allocation has failed; then nothing may be used.
struct Allocator {
    bool complete = true;

    template <class T>
    Buffer<T> buffer_of(uint64_t count) {
        Buffer<T> buffer(count);
        complete = complete && buffer.data();
        return buffer;
    }

    Ring make_ring(int depth, uint64_t row_size) {
        Ring ring;
        ring.depth = depth;
        ring.row_size = size_t(row_size);
        ring.cells = buffer_of<int32_t>(uint64_t(depth) * row_size);
        return ring;
    }
};

// Rows of plain floats with a margin on both sides, by plane and row.
struct FloatRing {
    Buffer<float> values;
    int planes = 0, depth = 0;
    size_t width = 0;  // margins included
    float *row(int plane, int64_t y) const {
        return values.data() + (size_t(plane) * depth + size_t(y % depth)) * width + MARGIN;
    }
};

// The rows that one layer keeps.
struct LayerRows {
    Interval rows;          // of its output that are computed
    int lag = 0;            // behind the input
    Ring out;               // read by the next layer, unless that reads `transformed`
    Ring raw;               // before the skips, where a skip starts that reads it
    Ring transformed;       // for a next layer that runs by Winograd
    Buffer<int32_t> zeros;  // a row of the input's zero
};

struct Strip::State : Allocator {
    const Network &network;
    const Description &description;
    const KernelSet &kernels;
    ob_format format;
    int64_t height, width;         // of the padded picture
    Interval columns, rows;        // of the result, in the input's pixels
    Interval buffer, source_rows;  // columns and rows that are read
    int64_t step = 0;
    int lag = 0;                                  // of the result behind the input
    int picture_channels;                         // of the picture's samples
    int chroma_planes;                            // that are interpolated: 0 or 2
    size_t cells = 0, stride = 0;                 // of a plane
    std::pair<size_t, size_t> edges[MAX_PHASES];  // of a plane of each phase: cells beyond the row's end
    std::vector<LayerRows> layer_rows;
    Ring head_rows;       // the network's channels as the head reads them
    FloatRing planes;     // the network's channels and chroma; the margins repeat the edges
    FloatRing tail_rows;  // of networks that reduce
    Buffer<float> tail, output, phase_rows, line;
    Buffer<int32_t> scratch;
    size_t output_width = 0;  // floats of a row of `output`
    size_t phase_width = 0;   // floats of a row of `phase_rows`

    State(const Network &network, const ob_format &format, Interval columns, Interval rows);
    void allocate();
    void schedule_layers();
    void allocate_layer(size_t index);
    void allocate_zeros(size_t index);
    void allocate_picture_rows();
    uint64_t transformed_size(const PackedLayer &layer) const;
    FloatRing make_float_ring(int planes, int depth, int64_t columns);
    void store_tail_row(int64_t y);
    void read_row(const Samples &source, int64_t first_row, int64_t y);
    void fill_margins(int plane, int64_t y);
    void run_layer(size_t index, int64_t y);
    void set_epilogue(size_t index, int64_t y, Epilogue &epilogue, FeatureRow *skips);
    void clear_edges(Ring &ring, int64_t y, int channels, Cell cell, int32_t zero);
    void emit_rows(int64_t y, const Samples &target, int64_t first_row);
    void emit_reduced(int64_t y, const Samples &target, int64_t first_row);
    void resize_plane(const Resampler &resampler, int plane, int64_t y, int phase,
                      const float *(&rows)[MAX_PHASES]);
    void write_row(int64_t row, float *const *channels, const Samples &target, int64_t first_row);
};

}  // namespace ob
