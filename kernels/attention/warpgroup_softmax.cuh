// Online softmax over the key blocks for the 64 rows of a warpgroup, in fp32. A lane holds two rows: of accumulator
// element i, row i % 4 / 2.
//
// P = 2^(s - maximum + kOffset), and the maximum that P is taken against follows the true one seldom, so O is scaled seldom.
// step() looks for it and lets it follow when it has grown by more than 2^kSlack. step_below() does not look: what a lane
// sums up of a row says when it has grown too much, no later than at kMostSum. P stays below the greater of
// 2^(kOffset + kSlack) and kMostSum. Each row decides by itself, so no row's bits depend on another's.
#pragma once
#include "attention/online_softmax.cuh"
#include "ptx/warpgroup.cuh"

// P of 16 bits.
struct WideRange {
    static constexpr float kOffset = 0.0f, kSlack = 8.0f;
    static constexpr int kChains = 1;            // of maxima that one row is compared with side by side
    static constexpr float kMostSum = 32768.0f;  // f16 ends at 65504
};

// P of e4m3, whose greatest number is 448 = 2^8.8 and whose least is 2^-9: weights down to 2^-17 of the greatest are kept.
struct NarrowRange {
    static constexpr float kOffset = 8.0f, kSlack = 0.75f;
    static constexpr int kChains = 4;
};

template <class Range>
struct RowSoftmaxIn {
    static constexpr float kOffset = Range::kOffset, kSlack = Range::kSlack;
    float row_max[kRowsPerLane];  // what P is taken against; -inf before the first key
    float row_sum[kRowsPerLane];  // this lane's share of sum P
    float rescale[kRowsPerLane];  // by which what was accumulated before must shrink: 1 nearly always

    // Replaces S by P. In the first block of a tile nothing was accumulated before. again: S is what step_below() had, and
    // the rows that outgrew their maximum there follow.
    template <bool kFirst, int kCount>
    __device__ __forceinline__ void step(float (&S)[kCount], float exponent_scale, bool again = false) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            constexpr int kChains = Range::kChains;
            float maxima[kChains];
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                const float pair = max_f32(S[i + 2 * r], S[i + 2 * r + 1]);
                maxima[i / 4 % kChains] = i / 4 < kChains ? pair : max_f32(maxima[i / 4 % kChains], pair);
            }
            float block_max = maxima[0];
#pragma unroll
            for (int i = 1; i < kChains; ++i) block_max = max_f32(block_max, maxima[i]);
            block_max = quad_max(block_max);
            if constexpr (kFirst) {
                row_max[r] = block_max;
            } else {
                // -inf - -inf, of a row that has seen no key yet, is NaN and no growth.
                const bool grown =
                    again ? quad_any(sums[r] > Range::kMostSum) : (block_max - row_max[r]) * exponent_scale > kSlack;
                rescale[r] = grown ? ex2_approx((row_max[r] - block_max) * exponent_scale) : 1.0f;
                row_max[r] = grown ? block_max : row_max[r];
            }
        }
        exponentials(S, exponent_scale);
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            row_sum[r] = kFirst ? sums[r] : fma_rn(row_sum[r], rescale[r], sums[r]);
        }
    }

    // Replaces S by P without looking for maxima. Then outgrown() says whether S must be computed again for step(); if not,
    // add_sums() takes this block's sums in.
    template <int kCount>
    __device__ __forceinline__ void step_below(float (&S)[kCount], float exponent_scale) {
        exponentials(S, exponent_scale);
    }
    __device__ __forceinline__ bool outgrown() const { return sums[0] > Range::kMostSum || sums[1] > Range::kMostSum; }
    __device__ __forceinline__ void add_sums() {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) row_sum[r] += sums[r];
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

  private:
    static constexpr float kHuge = 1e30f;
    float sums[kRowsPerLane];  // this lane's share of sum P, of one block

    // Replaces S by P.
    template <int kCount>
    __device__ __forceinline__ void exponentials(float (&S)[kCount], float exponent_scale) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            // Of a row that has seen no key yet P is 0, or with the first key infinite: more than kMostSum.
            float bias = row_max[r] == -infinity() ? kHuge : -row_max[r] * exponent_scale;
            if constexpr (kOffset != 0.0f) bias += kOffset;
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                float &first = S[i + 2 * r], &second = S[i + 2 * r + 1];
                first = ex2_approx(fma_rn(first, exponent_scale, bias));
                second = ex2_approx(fma_rn(second, exponent_scale, bias));
                sums[r] = i == 0 ? first + second : sums[r] + (first + second);
            }
        }
    }

    // Whether a predicate holds in any lane of this one's quad.
    static __device__ __forceinline__ bool quad_any(bool predicate) {
        return (ballot(predicate) >> lane_id() / 4 * 4 & 0xf) != 0;
    }
};

using RowSoftmax = RowSoftmaxIn<WideRange>;
