// Online softmax over the key blocks for the 64 rows of a warpgroup, in fp32. A lane holds two rows: of accumulator
// element i, row i % 4 / 2.
//
// The maximum that P is taken against follows the true one only when that has grown by more than 2^kSlack: O is scaled
// seldom, and P stays below 2^kSlack. Each row decides by itself, so no row's bits depend on another's.
#pragma once
#include "attention/online_softmax.cuh"
#include "ptx/warpgroup.cuh"

struct RowSoftmax {
    static constexpr float kSlack = 8.0f;
    static constexpr int kChains = 1;  // of maxima and sums that do not wait for each other
    float row_max[kRowsPerLane];       // what P is taken against; -inf before the first key
    float row_sum[kRowsPerLane];       // this lane's share of sum P
    float rescale[kRowsPerLane];       // by which what was accumulated before must shrink: 1 nearly always

    // Replaces S by P. In the first block of a tile nothing was accumulated before.
    template <bool kFirst, int kCount>
    __device__ __forceinline__ void step(float (&S)[kCount], float exponent_scale) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            float maxima[kChains];
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                const float larger = max_f32(S[i + 2 * r], S[i + 2 * r + 1]);
                float &chain = maxima[i / 4 % kChains];
                chain = i / 4 < kChains ? larger : max_f32(chain, larger);
            }
            float block_max = maxima[0];
#pragma unroll
            for (int c = 1; c < kChains; ++c) block_max = max_f32(block_max, maxima[c]);
            block_max = quad_max(block_max);
            if constexpr (kFirst) {
                row_max[r] = block_max;
            } else {
                // -inf - -inf, of a row that has seen no key yet, is NaN and no growth.
                const bool grown = (block_max - row_max[r]) * exponent_scale > kSlack;
                rescale[r] = grown ? ex2_approx((row_max[r] - block_max) * exponent_scale) : 1.0f;
                row_max[r] = grown ? block_max : row_max[r];
            }
        }
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const float bias = row_max[r] == -infinity() ? 0.0f : -row_max[r] * exponent_scale;
            float sums[kChains];
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                S[i + 2 * r] = ex2_approx(fma_rn(S[i + 2 * r], exponent_scale, bias));
                S[i + 2 * r + 1] = ex2_approx(fma_rn(S[i + 2 * r + 1], exponent_scale, bias));
                const float pair = S[i + 2 * r] + S[i + 2 * r + 1];
                float &chain = sums[i / 4 % kChains];
                chain = i / 4 < kChains ? pair : chain + pair;
            }
            float sum = sums[0];
#pragma unroll
            for (int c = 1; c < kChains; ++c) sum += sums[c];
            row_sum[r] = kFirst ? sum : fma_rn(row_sum[r], rescale[r], sum);
        }
    }

    // Keeps what follows, a wait above all, behind all of P: the compiler does not know that a sum is never negative, and
    // moves nothing across a branch around nanosleep.
    __device__ __forceinline__ void hold() const {
        if (row_sum[0] + row_sum[1] < 0.0f) nanosleep(0);
    }

    // Whether some row of this warp needs its O scaled.
    __device__ __forceinline__ bool rescales() const { return vote_any(rescale[0] != 1.0f || rescale[1] != 1.0f); }

    // O *= rescale, row by row
    template <int kCount>
    __device__ __forceinline__ void rescale_output(float (&O)[kCount]) const {
#pragma unroll
        for (int i = 0; i < kCount; ++i) O[i] *= rescale[i % 4 / 2];
    }
};
