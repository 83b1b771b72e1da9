// Columns of a picture on their way through the network, row by row; every layer keeps only the rows that are needed.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "description.h"
#include "kernel_set.h"
#include "onebranch_engine.h"

namespace ob {

// Memory aligned for the widest vectors, zeroed.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t count) {
        if (count > SIZE_MAX / 2 / sizeof(T)) throw std::bad_alloc();
        size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
        void *found = nullptr;
#if defined(_WIN32)
        found = _aligned_malloc(bytes, 64);
#else
        if (posix_memalign(&found, 64, bytes)) found = nullptr;
#endif
        if (!found) throw std::bad_alloc();
        std::memset(found, 0, bytes);
        data_.reset(static_cast<T *>(found));
    }
    T *data() const { return data_.get(); }
    T &operator[](size_t k) const { return data_.get()[k]; }

  private:
    struct Free {
        void operator()(T *data) const {
#if defined(_WIN32)
            _aligned_free(data);
#else
            std::free(data);
#endif
        }
    };
    std::unique_ptr<T, Free> data_;
};

// A layer with its weights in the order in which the kernels read them.
struct Packed {
    const Layer *layer = nullptr;
    bool winograd = false;
    Arithmetic arithmetic = Arithmetic::Fused;
    Cell in_cell = Cell::Float32, out_cell = Cell::Float32;
    int groups = 0;  // of input channels, as they share cells
    int out = 0;     // channels, padded to whole cells
    Buffer<int32_t> weights, start;
    std::vector<float> bias, multiplier, slope;
    bool sloped = false;
};

struct Network {
    Description description;
    const KernelSet *kernels = nullptr;
    std::vector<Packed> layers;
    int phases = 1;  // of feature maps; a Winograd tile has as many outputs
    int lag = 0;     // rows that the tail is behind the input

    explicit Network(Description &&description, const KernelSet *kernels);
};

// Where a picture's samples lie. row: samples from row to row, likewise pixel and channel.
struct Samples {
    void *base = nullptr;
    int type = OB_FLOAT32;
    int64_t row = 0, pixel = 1, channel = 0;
};

// Columns [begin, end) of the network's input that a piece's result is made of; rows likewise.
struct Range {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
};

// The columns of the input that the columns `wanted` of the result need, bit for bit; multiples of four at its begin.
Range needed_columns(const Network &network, Range wanted, int64_t width);
// The rows of the input that the rows `wanted` need.
Range needed_rows(const Network &network, Range wanted, int64_t height);
// Bytes that a strip of so many columns keeps.
size_t strip_bytes(const Network &network, int64_t columns, int colour);

class Strip {
  public:
    // wanted: columns and rows of the (filled) input that the result covers; width, height: of the picture.
    Strip(const Network &network, const ob_format &format, Range columns, Range rows);
    ~Strip();
    Strip(Strip &&) noexcept;

    // Steps to take, in all; each takes one row of input where `source` has it and may write rows to `target`.
    int64_t steps() const;
    // One step. source.base is the picture's sample (0, first_source_row); target.base is row first_target_row of
    // the whole result.
    void step(const Samples &source, int64_t first_source_row, const Samples &target, int64_t first_target_row);
    // The row of the picture that the next step reads (clamped to the picture), or -1 where it reads none.
    int64_t next_source_row() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ob
