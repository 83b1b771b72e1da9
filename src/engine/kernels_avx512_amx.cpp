// The kernels for AMX, beside AVX-512 with VNNI and BF16.
#include "amx.h"

namespace ob {

KernelSet avx512_amx_kernels() { return kernel_set_with_tiles<Amx>(Amx::NAME); }

}  // namespace ob
