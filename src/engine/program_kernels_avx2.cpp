// The operations of programs on single samples for AVX2.
#include "program_kernels.h"

namespace ob {

ProgramKernels avx2_program_kernels() { return PROGRAM_KERNELS; }

}  // namespace ob
