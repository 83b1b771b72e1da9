// The sets of kernels in this library that this processor supports.
#pragma once

#include <vector>

#include "kernel_set.h"

namespace ob {

// Fastest first. The portable set is always included, except in WebAssembly, which knows its instructions
// when it is built.
const std::vector<KernelSet> &kernel_sets();
// The set of that name, or the fastest set for null; returns null if there is no set of that name.
const KernelSet *kernel_set_named(const char *name);

}  // namespace ob
