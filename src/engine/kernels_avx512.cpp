// The kernels for AVX-512.
#include "avx512.h"

namespace ob {

KernelSet avx512_kernels() { return kernel_set<Avx512<false, false>>("avx512"); }

}  // namespace ob
