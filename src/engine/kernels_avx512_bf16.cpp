// The kernels for AVX-512 with VNNI and BF16.
#include "avx512.h"

namespace ob {

KernelSet avx512_bf16_kernels() { return kernel_set<Avx512<true, true>>("avx512-bf16"); }

}  // namespace ob
