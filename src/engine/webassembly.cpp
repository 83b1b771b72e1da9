// What the C++ library calls where it fails, in the build for WebAssembly: the program ends there. Its own
// versions print, for which the module would have to import functions of an operating system.
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
