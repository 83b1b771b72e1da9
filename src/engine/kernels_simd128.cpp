// The kernels for WebAssembly.
#include "simd128.h"

namespace ob {

KernelSet simd128_kernels() { return kernel_set<Simd128>("simd128"); }

}  // namespace ob
