// Some columns of a picture through a program, row by row; every value keeps only the rows that are read.
#pragma once

#include <memory>
#include <vector>

#include "geometry.h"
#include "packing.h"
#include "program.h"
#include "strip.h"

namespace ob {

// A program with its weights in the order in which the kernels read them.
struct PackedProgram {
    Program program;
    const KernelSet *kernels = nullptr;
    ProgramKernels on_samples;
    std::vector<std::vector<PackedLayer>> layers;  // of every node, one for each group
    std::vector<int32_t> depths;                   // rows that each value keeps
    bool complete = true;  // false: there was not enough memory, and nothing else may be used

    PackedProgram(Program &&program, const KernelSet *kernels);
    int64_t rows_at_once() const {
        return int64_t(program.blocks_at_once()) * program.block;
    }  // of the picture
};

// The rows and columns of every value that a part of the result depends on, in the value's own pixels.
struct RequiredRegions {
    std::vector<Interval> rows, columns;                 // by value
    Interval all_columns(const Program &program) const;  // of all values, in blocks
};

// columns, rows: of the picture, in whole blocks. width, height: of the picture, in blocks.
// Example: two 3x3 convolutions, columns [100, 200) of 1000: the first one's output is needed in [99, 201),
// the picture in [98, 202). Convolutions that run by Winograd compute whole tiles of four columns.
RequiredRegions required_regions(const PackedProgram &packed, Interval columns, Interval rows, int64_t width,
                                 int64_t height);

class ProgramStrip {
  public:
    // columns, rows: of the picture, for which the result is wanted.
    ProgramStrip(const PackedProgram &packed, const ob_format &format, Interval columns, Interval rows);
    ~ProgramStrip();
    ProgramStrip(ProgramStrip &&) noexcept;

    // As in Strip. The result is computed, and written, for `rows_at_once` rows of the picture together.
    bool complete() const;
    int64_t steps() const;
    void step(const Samples &source, int64_t first_source_row, const Samples &target,
              int64_t first_target_row);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ob
