// O of e4m3 products beyond what the tensor core sums well: added up in shared memory.
#pragma once
#include "attention/online_softmax.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/convert.cuh"
#include "ptx/math.cuh"
#include "ptx/shared.cuh"

// Blocks after which O is added to a total in shared memory; 0: never.
constexpr int kTotalBlocks = ATTN_TOTAL_BLOCKS;

// O of a thread, added up in shared memory in bf16, and the maxima in whose units it is. It is rounded once in kTotalBlocks blocks,
// which is less than the tensor core's own sum of so many loses.
struct Total {
    static constexpr int kStride = kConsumers * kWarpgroupSize * 16;
    static constexpr int kMaxima = kVDim / 16 * kStride;  // behind O
    u32_t smem;

    __device__ __forceinline__ Total(u32_t smem, int thread) : smem(smem + thread * 16) {}

    __device__ __forceinline__ void begin() const {
#pragma unroll
        for (int i = 0; i < kVDim / 2; i += 8) st_shared_v4(smem + i / 8 * kStride, {0, 0, 0, 0});
        const u32_t none = __float_as_uint(-infinity());
        st_shared_v4(smem + kMaxima, {none, none, none, none});
    }

    // O += total; and the total becomes O where it goes on.
    template <bool kLast, int kCount>
    __device__ __forceinline__ void add(float (&O)[kCount], const float (&now)[kRowsPerLane],
                                        float exponent_scale) const {
        u32_t words[4];
        ld_shared_v4(words, smem + kMaxima);
        float factors[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const float before = __uint_as_float(words[r]);
            // -inf - -inf, of a row that has seen no key yet, is NaN.
            factors[r] = before == now[r] ? 1.0f : ex2_approx((before - now[r]) * exponent_scale);
            words[r] = __float_as_uint(now[r]);
        }
        if constexpr (!kLast) st_shared_v4(smem + kMaxima, words);
#pragma unroll
        for (int i = 0; i < kCount; i += 8) {
            ld_shared_v4(words, smem + i / 8 * kStride);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                float &low = O[i + 2 * j], &high = O[i + 2 * j + 1];
                low = fma_rn(to_float(bf16_t{static_cast<u16_t>(words[j])}), factors[j % 2], low);
                high = fma_rn(to_float(bf16_t{static_cast<u16_t>(words[j] >> 16)}), factors[j % 2], high);
                words[j] = pack2<bf16_t>(low, high);
            }
            if constexpr (!kLast) st_shared_v4(smem + i / 8 * kStride, words);
        }
    }
};
