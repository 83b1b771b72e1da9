// Memory for cells and samples.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace ob {

// Zeroed memory, aligned for the widest vectors. data() is null where there was not enough memory.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    // count: 64 bits, so that no caller's product overflows where size_t has 32.
    explicit Buffer(uint64_t count) {
        if (count > SIZE_MAX / 2 / sizeof(T)) return;
        const size_t bytes = (size_t(count) * sizeof(T) + 63) / 64 * 64 + 64;
        void *memory = nullptr;
#if defined(_WIN32)
        memory = _aligned_malloc(bytes, 64);
#else
        if (posix_memalign(&memory, 64, bytes)) memory = nullptr;
#endif
        if (!memory) return;
        std::memset(memory, 0, bytes);
        data_.reset(static_cast<T *>(memory));
    }
    T *data() const { return data_.get(); }
    T &operator[](size_t k) const { return data_.get()[k]; }

  private:
    struct Free {
        void operator()(T *data) const {
#if defined(_WIN32)
            _aligned_free(data);
#else
            std::free(data);
#endif
        }
    };
    std::unique_ptr<T, Free> data_;
};

}  // namespace ob
