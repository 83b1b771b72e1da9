// The kernels in plain C++ on arrays of four lanes: for every processor, and the one to read first.
#include "kernels.h"

namespace ob {
namespace {

template <class T>
struct Lanes {
    T lane[4];
};

struct Portable {
    static constexpr int W = 4, WIDEST = 4;
    static constexpr bool BFLOAT16 = false;
    using F = Lanes<float>;
    using I = Lanes<int32_t>;

    template <class R, class Function>
    static OB_INLINE Lanes<R> each(Function function) {
        return {{function(0), function(1), function(2), function(3)}};
    }
    static OB_INLINE float as_float(int32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static OB_INLINE int32_t as_cell(float value) {
        int32_t bits;
        std::memcpy(&bits, &value, 4);
        return bits;
    }
    static OB_INLINE F set(float value) { return {{value, value, value, value}}; }
    static OB_INLINE F load(const float *at) { return {{at[0], at[1], at[2], at[3]}}; }
    static OB_INLINE void store(float *at, F value) { std::memcpy(at, value.lane, 16); }
    static OB_INLINE F add(F a, F b) { return each<float>([&](int k) { return a.lane[k] + b.lane[k]; }); }
    static OB_INLINE F sub(F a, F b) { return each<float>([&](int k) { return a.lane[k] - b.lane[k]; }); }
    static OB_INLINE F mul(F a, F b) { return each<float>([&](int k) { return a.lane[k] * b.lane[k]; }); }
    static OB_INLINE F fma(F a, F b, F c) { return add(mul(a, b), c); }
    static OB_INLINE F leak(F f, F slope) {
        return each<float>([&](int k) { return f.lane[k] < 0 ? f.lane[k] * slope.lane[k] : f.lane[k]; });
    }
    static OB_INLINE F clamp(F f) {
        return each<float>([&](int k) {
            float value = f.lane[k] > -1024.0f ? f.lane[k] : -1024.0f;
            return value < 1024.0f ? value : 1024.0f;
        });
    }

    static OB_INLINE I set_cells(int32_t value) { return {{value, value, value, value}}; }
    static OB_INLINE I load_cells(const int32_t *at) { return {{at[0], at[1], at[2], at[3]}}; }
    static OB_INLINE void store_cells(int32_t *at, I value) { std::memcpy(at, value.lane, 16); }
    static OB_INLINE I sub_cells(I a, I b) { return each<int32_t>([&](int k) { return a.lane[k] - b.lane[k]; }); }
    static OB_INLINE F to_float(I value) { return each<float>([&](int k) { return float(value.lane[k]); }); }
    static OB_INLINE I round(F value) {
        return each<int32_t>([&](int k) { return int32_t(std::nearbyintf(value.lane[k])); });
    }
    static OB_INLINE I byte_of(I cells, int which) {
        return each<int32_t>([&](int k) { return int32_t(uint32_t(cells.lane[k]) >> (8 * which) & 255); });
    }
    static OB_INLINE I pack_bytes(const I (&q)[4], int32_t zero_point) {
        return each<int32_t>([&](int k) {
            uint32_t cell = 0;
            for (int b = 0; b < 4; b++) {
                int32_t value = q[b].lane[k] + zero_point;
                value = value < 0 ? 0 : value > 255 ? 255 : value;
                cell |= uint32_t(value) << (8 * b);
            }
            return int32_t(cell);
        });
    }
    static OB_INLINE F lower_bfloat16(I cells) {
        return each<float>([&](int k) { return as_float(int32_t(uint32_t(cells.lane[k]) << 16)); });
    }
    static OB_INLINE F upper_bfloat16(I cells) {
        return each<float>([&](int k) { return as_float(int32_t(uint32_t(cells.lane[k]) & 0xffff0000u)); });
    }
    static OB_INLINE uint32_t round_bfloat16(float value) {
        uint32_t bits = uint32_t(as_cell(value));
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
    static OB_INLINE I pack_bfloat16(F low, F high) {
        return each<int32_t>(
            [&](int k) { return int32_t(round_bfloat16(low.lane[k]) | round_bfloat16(high.lane[k]) << 16); });
    }
    static OB_INLINE F dot_bfloat16(F sum, I a, I b) {
        return fma(upper_bfloat16(a), upper_bfloat16(b), fma(lower_bfloat16(a), lower_bfloat16(b), sum));
    }

    using Weight = I;
    static OB_INLINE I byte_input(I cells) { return cells; }
    static OB_INLINE Weight byte_weight(int32_t bytes) { return set_cells(bytes); }
    static OB_INLINE I dot_bytes(I sum, I in, Weight weight) {
        return each<int32_t>([&](int k) {
            uint32_t a = uint32_t(in.lane[k]), b = uint32_t(weight.lane[k]);
            int32_t total = sum.lane[k];
            for (int j = 0; j < 4; j++) total += int32_t(a >> (8 * j) & 255) * int8_t(b >> (8 * j) & 255);
            return total;
        });
    }
};

}  // namespace

KernelSet portable_kernels() { return kernel_set<Portable>("portable"); }

}  // namespace ob
