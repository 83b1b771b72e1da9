#include "program_kernel_set.h"

#include <cstring>

namespace ob {

ProgramKernels avx512_program_kernels();
ProgramKernels avx2_program_kernels();
ProgramKernels portable_program_kernels();

// Example: avx512-vnni has all that avx512 has, so the kernels for avx512 run there.
ProgramKernels program_kernels_for(const KernelSet &kernels) {
    (void)kernels;
#if defined(ONEBRANCH_HAS_AVX512)
    if (!std::strncmp(kernels.name, "avx512", 6)) return avx512_program_kernels();
#endif
#if defined(ONEBRANCH_HAS_AVX2)
    if (!std::strncmp(kernels.name, "avx", 3)) return avx2_program_kernels();
#endif
    return portable_program_kernels();
}

}  // namespace ob
