// Which sets of kernels this library holds and this machine runs.
#pragma once

#include <string>
#include <vector>

#include "kernel_set.h"

namespace ob {

// Best first. The portable set is always among them.
const std::vector<KernelSet> &kernel_sets();
// The set of that name, or the best; null where there is none of that name.
const KernelSet *kernel_set_named(const char *name);

}  // namespace ob
