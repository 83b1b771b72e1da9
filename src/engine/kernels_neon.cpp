// The kernels for NEON.
#include "neon.h"

namespace ob {

KernelSet neon_kernels() { return kernel_set<Neon<false>>("neon"); }

}  // namespace ob
