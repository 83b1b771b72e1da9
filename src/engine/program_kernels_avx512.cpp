// The operations of programs on single samples for AVX-512.
#include "program_kernels.h"

namespace ob {

ProgramKernels avx512_program_kernels() { return PROGRAM_KERNELS; }

}  // namespace ob
