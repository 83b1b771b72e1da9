// The kernels for AVX2 with FMA and AVX-VNNI.
#include "avx2.h"

namespace ob {

KernelSet avx2_vnni_kernels() { return kernel_set<Avx2<true>>("avx2-vnni"); }

}  // namespace ob
