// The kernels for NEON with the dot product of bytes.
#include "neon.h"

namespace ob {

KernelSet neon_dot_kernels() { return kernel_set<Neon<true>>("neon-dot"); }

}  // namespace ob
