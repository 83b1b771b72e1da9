// Reads the numbers of a program from untrusted bytes, as description.cpp reads those of a network.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace ob {

// Every read is checked against the bytes that are left, and every number against its range. A count is
// checked before memory is allocated for it.
class ProgramReader {
  public:
    ProgramReader(const uint8_t *bytes, size_t size) : at_(bytes), left_(size) {}

    // Null, or the first problem. After it nothing is read: integers are the least that is allowed, other
    // numbers are 0, and arrays are empty.
    const char *error() const { return error_; }
    void fail(const char *error) {
        if (!error_) error_ = error;
        left_ = 0;
    }

    int32_t integer(int64_t least, int64_t most) {
        int32_t value = 0;
        if (!take(&value, 1, sizeof value)) return int32_t(least);
        if (value >= least && value <= most) return value;
        fail("the program is damaged: a number is out of range");
        return int32_t(least);
    }

    float number() {
        float value = 0;
        take(&value, 1, sizeof value);
        if (std::isfinite(value)) return value;
        fail("the program is damaged: a number is not finite");
        return 0;
    }

    // count: 64 bits, because the largest layer that is allowed has more weights than 32 bits can count.
    template <class T>
    std::vector<T> numbers(uint64_t count) {
        if (count > left_ / sizeof(T)) fail("the program is truncated");
        if (error_) return {};
        std::vector<T> values(static_cast<size_t>(count));
        take(values.data(), values.size(), sizeof(T));
        if constexpr (std::is_same_v<T, float>)
            for (float value : values)
                if (!std::isfinite(value)) fail("the program is damaged: a weight is not finite");
        return values;
    }

    // signature: the 8 bytes that must come next.
    void magic(const char *signature) {
        if (left_ < 8 || std::memcmp(at_, signature, 8) != 0)
            return fail("these bytes are not a program of this version");
        at_ += 8;
        left_ -= 8;
    }

    void end() {
        if (left_) fail("the program is damaged: data follows its end");
    }

  private:
    bool take(void *into, size_t count, size_t each) {
        if (count > left_ / each) fail("the program is truncated");
        if (error_) return false;
        if (count) std::memcpy(into, at_, count * each);
        at_ += count * each;
        left_ -= count * each;
        return true;
    }

    const uint8_t *at_;
    size_t left_;
    const char *error_ = nullptr;
};

}  // namespace ob
