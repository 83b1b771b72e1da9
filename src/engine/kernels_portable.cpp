// The kernels for any processor.
#include "portable.h"

namespace ob {

KernelSet portable_kernels() { return kernel_set<Portable>("portable"); }

}  // namespace ob
