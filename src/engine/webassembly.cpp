// Replacements, in the build for WebAssembly, for what the C++ library calls when it fails: they trap. The
// library's own versions print, and printing would need imports from an operating system.
#if defined(__wasm__)

#include <cstdlib>
#include <new>

_LIBCPP_BEGIN_NAMESPACE_STD
[[noreturn]] void __libcpp_verbose_abort(const char *, ...) noexcept { __builtin_trap(); }
_LIBCPP_END_NAMESPACE_STD

void *operator new(size_t size) {
    void *memory = std::malloc(size ? size : 1);
    if (!memory) __builtin_trap();
    return memory;
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

#endif
