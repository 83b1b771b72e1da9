// Some columns of a picture, processed row by row; every layer keeps only the rows that are still needed.
#pragma once

#include <memory>

#include "geometry.h"
#include "onebranch_engine.h"
#include "packing.h"

namespace ob {

// Bytes of a sample of an enum ob_type.
inline size_t bytes_of_sample(int type) { return type == OB_UINT8 ? 1 : type == OB_UINT16 ? 2 : 4; }

// A picture's samples in memory. row: samples from row to row; pixel and channel likewise.
struct Samples {
    void *base = nullptr;
    int type = OB_FLOAT32;
    int64_t row = 0, pixel = 1, channel = 0;
};

class Strip {
  public:
    // columns, rows: of the padded input, for which the result is wanted.
    Strip(const Network &network, const ob_format &format, Interval columns, Interval rows);
    ~Strip();
    Strip(Strip &&) noexcept;

    // False if there was not enough memory; then no step may be taken.
    bool complete() const;

    // The number of steps in all; each reads one row of the input, if any is left, and may write rows of the
    // result.
    int64_t steps() const;
    // One step. source.base is the picture's sample (0, first_source_row); target.base is row
    // first_target_row of the whole result.
    void step(const Samples &source, int64_t first_source_row, const Samples &target,
              int64_t first_target_row);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ob
