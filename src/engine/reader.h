// Reads numbers from untrusted bytes: of a description of a network, or of a program.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace ob {

// Error messages for damaged bytes, each one line.
struct ReaderMessages {
    const char *signature, *truncated, *out_of_range, *number_not_finite, *weight_not_finite, *trailing;
};

// Every read is checked against the bytes that are left, and every number against its range. A count is
// checked before memory is allocated for it.
class Reader {
  public:
    Reader(const uint8_t *bytes, size_t size, const ReaderMessages &messages)
        : at_(bytes), left_(size), messages_(messages) {}

    // Null, or the first problem. After it nothing is read: integers are their minimum, other numbers
    // are 0, and arrays are empty.
    const char *error() const { return error_; }
    void fail(const char *error) {
        if (!error_) error_ = error;
        left_ = 0;
    }

    int32_t integer(int64_t minimum, int64_t maximum) {
        int32_t value = 0;
        if (!take(&value, 1, sizeof value)) return int32_t(minimum);
        if (value >= minimum && value <= maximum) return value;
        fail(messages_.out_of_range);
        return int32_t(minimum);
    }

    float number() {
        float value = 0;
        take(&value, 1, sizeof value);
        if (std::isfinite(value)) return value;
        fail(messages_.number_not_finite);
        return 0;
    }

    // count: 64 bits, because the largest layer that is allowed has more weights than 32 bits can count.
    template <class T>
    std::vector<T> numbers(uint64_t count) {
        if (count > left_ / sizeof(T)) fail(messages_.truncated);
        if (error_) return {};
        std::vector<T> values(static_cast<size_t>(count));
        take(values.data(), values.size(), sizeof(T));
        if constexpr (std::is_same_v<T, float>)
            for (float value : values)
                if (!std::isfinite(value)) fail(messages_.weight_not_finite);
        return values;
    }

    // signature: the 8 bytes that must come next.
    void magic(const char *signature) {
        if (left_ < 8 || std::memcmp(at_, signature, 8) != 0) return fail(messages_.signature);
        at_ += 8;
        left_ -= 8;
    }

    void end() {
        if (left_) fail(messages_.trailing);
    }

  private:
    bool take(void *into, size_t count, size_t item_size) {
        if (count > left_ / item_size) fail(messages_.truncated);
        if (error_) return false;
        if (count) std::memcpy(into, at_, count * item_size);
        at_ += count * item_size;
        left_ -= count * item_size;
        return true;
    }

    const uint8_t *at_;
    size_t left_;
    const ReaderMessages &messages_;
    const char *error_ = nullptr;
};

}  // namespace ob
