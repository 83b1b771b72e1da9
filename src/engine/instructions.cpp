#include "instructions.h"

#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ob {

KernelSet avx512_amx_kernels();
KernelSet avx512_bf16_kernels();
KernelSet avx512_vnni_kernels();
KernelSet avx512_kernels();
KernelSet avx2_vnni_kernels();
KernelSet avx2_kernels();
KernelSet neon_dot_kernels();
KernelSet neon_kernels();
KernelSet simd128_kernels();
KernelSet portable_kernels();

namespace {

#if defined(__x86_64__) || defined(__i386__)
[[maybe_unused]] bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// vpdpbusd in its VEX encoding: leaf 7, subleaf 1, bit 4 of EAX. GCC 11 and Clang 12 have no name for it.
[[maybe_unused]] bool has_avx_vnni() {
#if defined(ONEBRANCH_MODELS)
    return true;
#else
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}

[[maybe_unused]] bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma");
}

// AMX with products of bytes and of bfloat16 (leaf 7, bits 22, 24 and 25 of EDX), and the permission of the
// operating system, which Linux gives once to a process and all its threads.
[[maybe_unused]] bool has_amx() {
#if defined(ONEBRANCH_MODELS)
    return has_avx2();
#elif defined(__linux__) && defined(__x86_64__)
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    constexpr unsigned NEEDED = 1u << 22 | 1u << 24 | 1u << 25;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & NEEDED) == NEEDED &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

#if defined(ONEBRANCH_HAS_NEON_DOT)
bool has_dot_product() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & (1ul << 20);  // HWCAP_ASIMDDP
#else
    return true;  // every 64-bit Apple processor that runs this
#endif
}
#endif

// The best set first, which a network gets unless another one is named.
std::vector<KernelSet> supported_sets() {
    std::vector<KernelSet> sets;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
#if defined(ONEBRANCH_HAS_AVX512_AMX)
    if (has_amx()) sets.push_back(avx512_amx_kernels());
#endif
#if defined(ONEBRANCH_HAS_AVX512_BF16)
    if (has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
        sets.push_back(avx512_bf16_kernels());
#endif
#if defined(ONEBRANCH_HAS_AVX512_VNNI)
    if (has_avx512() && __builtin_cpu_supports("avx512vnni")) sets.push_back(avx512_vnni_kernels());
#endif
#if defined(ONEBRANCH_HAS_AVX512)
    if (has_avx512()) sets.push_back(avx512_kernels());
#endif
#if defined(ONEBRANCH_HAS_AVX2_VNNI)
    if (has_avx2() && has_avx_vnni()) sets.push_back(avx2_vnni_kernels());
#endif
#if defined(ONEBRANCH_HAS_AVX2)
    if (has_avx2()) sets.push_back(avx2_kernels());
#endif
#endif
#if defined(ONEBRANCH_HAS_NEON_DOT)
    if (has_dot_product()) sets.push_back(neon_dot_kernels());
#endif
#if defined(ONEBRANCH_HAS_NEON)
    sets.push_back(neon_kernels());
#endif
#if defined(ONEBRANCH_HAS_SIMD128)
    sets.push_back(simd128_kernels());
#else
    sets.push_back(portable_kernels());
#endif
    return sets;
}

}  // namespace

const std::vector<KernelSet> &kernel_sets() {
    static const auto &sets =
        *new std::vector<KernelSet>(supported_sets());  // never freed: threads may outlive main()
    return sets;
}

const KernelSet *kernel_set_named(const char *name) {
    for (const KernelSet &set : kernel_sets())
        if (!name || !std::strcmp(name, set.name)) return &set;
    return nullptr;
}

}  // namespace ob
