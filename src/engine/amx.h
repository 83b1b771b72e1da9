// AMX: eight registers of tiles, beside AVX-512 with VNNI and BF16.
//
// With ONEBRANCH_MODELS, AVX2 with tiles computed in plain C++, for tests on processors without AMX: integers
// as they are defined, bfloat16 in another order of sums.
#pragma once

#if defined(ONEBRANCH_MODELS)
#include "avx2.h"
#else
#include "avx512.h"
#endif
#include "tiles.h"

namespace ob {
namespace {

#if defined(ONEBRANCH_MODELS)

// The registers of a thread. Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1,
// chapter 18.
struct TileRegisters {
    int rows[8], cells[8];
    int32_t values[8][TILE_SIZE][TILE_SIZE];
};
inline TileRegisters &registers() {
    static thread_local TileRegisters registers;
    return registers;
}

struct Amx : Avx2<true> {
    static constexpr const char *NAME = "avx2-amx";  // programs take the kernels of AVX2

    static void configure_tiles(int channels, int depth) {
        TileRegisters &tiles = registers();
        for (int k = 0; k < 8; k++) {
            tiles.rows[k] = k == TILE_OF_INPUT ? depth : channels < TILE_SIZE ? channels : TILE_SIZE;
            tiles.cells[k] = k >= TILE_OF_WEIGHTS && k != TILE_OF_INPUT ? depth : TILE_SIZE;
        }
    }
    static void release_tiles() {}
    template <int TILE>
    static void load_tile(const int32_t *at, size_t stride) {
        TileRegisters &tiles = registers();
        for (int r = 0; r < tiles.rows[TILE]; r++)
            for (int k = 0; k < tiles.cells[TILE]; k++)
                tiles.values[TILE][r][k] = at[size_t(r) * stride + size_t(k)];
    }
    template <int TILE>
    static void store_tile(int32_t *at) {
        TileRegisters &tiles = registers();
        for (int r = 0; r < tiles.rows[TILE]; r++)
            for (int k = 0; k < tiles.cells[TILE]; k++) at[r * TILE_SIZE + k] = tiles.values[TILE][r][k];
    }
    template <int SUM, int WEIGHTS, int INPUT>
    static void tile_product_bytes() {
        product(SUM, WEIGHTS, INPUT, [](int32_t &sum, int32_t weight, int32_t in) {
            for (int k = 0; k < 4; k++)
                sum += int8_t(uint32_t(weight) >> (8 * k)) * int32_t(uint8_t(uint32_t(in) >> (8 * k)));
        });
    }
    template <int SUM, int WEIGHTS, int INPUT>
    static void tile_product_bfloat16() {
        product(SUM, WEIGHTS, INPUT, [](int32_t &sum, int32_t weight, int32_t in) {
            float value = as_float(sum);
            for (int k = 0; k < 2; k++)
                value += as_float(int32_t(uint32_t(weight) >> (16 * k) << 16)) *
                         as_float(int32_t(uint32_t(in) >> (16 * k) << 16));
            std::memcpy(&sum, &value, 4);
        });
    }

  private:
    template <class Add>
    static void product(int sums, int weights, int input, Add add) {
        TileRegisters &tiles = registers();
        for (int o = 0; o < tiles.rows[sums]; o++)
            for (int k = 0; k < tiles.cells[weights]; k++)
                for (int x = 0; x < tiles.cells[sums]; x++)
                    add(tiles.values[sums][o][x], tiles.values[weights][o][k], tiles.values[input][k][x]);
    }
};

#else

struct Amx : Avx512<true, true> {
    static constexpr const char *NAME = "avx512-amx";

    // The sizes of all eight tiles, for blocks of 16 output channels, or of all if there are fewer, and
    // `depth` planes of the input.
    static OB_INLINE void configure_tiles(int channels, int depth) {
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } sizes;
        for (int k = 0; k < 8; k++) {
            const bool weights = k >= TILE_OF_WEIGHTS && k != TILE_OF_INPUT;
            sizes.rows[k] = uint8_t(k == TILE_OF_INPUT ? depth : channels < TILE_SIZE ? channels : TILE_SIZE);
            sizes.row_bytes[k] = uint16_t(weights ? 4 * depth : 4 * TILE_SIZE);
        }
        asm volatile("ldtilecfg %0" ::"m"(sizes));
    }
    static OB_INLINE void release_tiles() { asm volatile("tilerelease"); }
    // stride: cells from row to row.
    template <int TILE>
    static OB_INLINE void load_tile(const int32_t *at, size_t stride) {
        asm volatile("tileloadd (%0,%1,4), %%tmm%c2" ::"r"(at), "r"(stride), "i"(TILE));
    }
    template <int TILE>
    static OB_INLINE void store_tile(int32_t *at) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,4)" ::"r"(at), "r"(size_t(TILE_SIZE)), "i"(TILE)
                     : "memory");
    }
    // s8 weights times u8 inputs, four products in each cell (tdpbsud).
    template <int SUM, int WEIGHTS, int INPUT>
    static OB_INLINE void tile_product_bytes() {
        asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(WEIGHTS), "i"(INPUT));
    }
    template <int SUM, int WEIGHTS, int INPUT>
    static OB_INLINE void tile_product_bfloat16() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(WEIGHTS), "i"(INPUT));
    }
};

#endif

}  // namespace
}  // namespace ob
