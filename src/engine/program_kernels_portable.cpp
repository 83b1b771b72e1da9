// The operations of programs on single samples for any processor.
#include "program_kernels.h"

namespace ob {

ProgramKernels portable_program_kernels() { return PROGRAM_KERNELS; }

}  // namespace ob
