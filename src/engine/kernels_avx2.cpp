// The kernels for AVX2 with FMA.
#include "avx2.h"

namespace ob {

KernelSet avx2_kernels() { return kernel_set<Avx2<false>>("avx2"); }

}  // namespace ob
