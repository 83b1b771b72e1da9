// The kernels for AVX-512 with VNNI.
#include "avx512.h"

namespace ob {

KernelSet avx512_vnni_kernels() { return kernel_set<Avx512<true, false>>("avx512-vnni"); }

}  // namespace ob
