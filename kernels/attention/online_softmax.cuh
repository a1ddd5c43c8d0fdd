// Online softmax over the key blocks, in fp32, for the 16 * kMTiles rows of one warp.
//
// A lane holds two rows of each 16x8 block of S: lane / 4 (elements 0, 1) and lane / 4 + 8 (elements 2, 3); the four
// lanes of a quad share a row. The row sum is reduced over the quad once at the end.
//
// The maximum that P is taken against follows the true one only when that has grown by more than 2^kSlack: P stays below
// 2^kSlack, and O is scaled seldom. Each row decides by itself, so no row's bits depend on another's.
#pragma once
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/math.cuh"

constexpr int kRowsPerLane = 2;

__device__ __forceinline__ float quad_max(float x) {
    x = max_f32(x, shfl_bfly(x, 1));
    return max_f32(x, shfl_bfly(x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
    x += shfl_bfly(x, 1);
    return x + shfl_bfly(x, 2);
}

// What a step asks of the others that have keys of the same rows: here all keys are one warp's (warp_pair.cuh: two).
struct OneWarp {
    template <int kMTiles>
    __device__ __forceinline__ void join_maxima(float (&)[kMTiles][kRowsPerLane]) const {}
    template <int kSteps, int kMTiles>
    __device__ __forceinline__ void publish(const u32_t (&)[kSteps][kMTiles][4]) const {}
    __device__ __forceinline__ bool any(bool predicate) const { return vote_any(predicate); }
};

template <int kMTiles>
struct OnlineSoftmax {
    static constexpr float kSlack = 8.0f;
    // step_below looks at sums of P. Where they are no more than this, no P is near 2^kSlack.
    static constexpr float kMostSum = 128.0f;
    float row_max[kMTiles][kRowsPerLane];  // what P is taken against; -inf before the first key
    float row_sum[kMTiles][kRowsPerLane];  // this lane's share of sum P

    __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
            row_max[m][0] = row_max[m][1] = -infinity();
            row_sum[m][0] = row_sum[m][1] = 0.0f;
        }
    }

    // Replaces S by P = exp(S - maximum) and gives the factor by which what was accumulated before must shrink: 1 nearly
    // always.
    template <int kNTiles, class Sharers = OneWarp>
    __device__ __forceinline__ void step(float (&S_acc)[kMTiles][kNTiles][4], float (&rescale)[kMTiles][kRowsPerLane],
                                         float exponent_scale, const Sharers &sharers = {}) {
        float block_max[kMTiles][kRowsPerLane], sums[kMTiles][kRowsPerLane];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                block_max[m][r] = max_f32(S_acc[m][0][2 * r], S_acc[m][0][2 * r + 1]);
#pragma unroll
                for (int n = 1; n < kNTiles; ++n) {
                    block_max[m][r] = max_f32(block_max[m][r], max_f32(S_acc[m][n][2 * r], S_acc[m][n][2 * r + 1]));
                }
            }
        }
        quad_max_of_all(block_max);
        sharers.join_maxima(block_max);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                // -inf - -inf, of a row that has seen no key yet, is NaN and no growth.
                const bool grown = (block_max[m][r] - row_max[m][r]) * exponent_scale > kSlack;
                rescale[m][r] = grown ? ex2_approx((row_max[m][r] - block_max[m][r]) * exponent_scale) : 1.0f;
                row_max[m][r] = grown ? block_max[m][r] : row_max[m][r];
            }
        }
        exponentials(S_acc, sums, exponent_scale);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) row_sum[m][r] = fma_rn(row_sum[m][r], rescale[m][r], sums[m][r]);
        }
    }

    // The same for a block in which no maximum grows, without looking for maxima: P as A fragments (probability_fragment).
    // Where a sum says that a maximum might have grown, returns false, for all that share the rows, and has changed
    // nothing. Wants started().
    template <class Element, int kSteps, int kNTiles, class Sharers>
    __device__ __forceinline__ bool step_below(u32_t (&P_frag)[kSteps][kMTiles][4],
                                               const float (&S_acc)[kMTiles][kNTiles][4], float exponent_scale,
                                               const Sharers &sharers) {
        float bias[kMTiles][kRowsPerLane], sums[kMTiles][kRowsPerLane];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                bias[m][r] = -row_max[m][r] * exponent_scale;
                sums[m][r] = -0.0f;  // the one number that costs no addition
            }
        }
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
                for (int r = 0; r < kRowsPerLane; ++r) {
                    const float p0 = ex2_approx(fma_rn(S_acc[m][n][2 * r], exponent_scale, bias[m][r]));
                    const float p1 = ex2_approx(fma_rn(S_acc[m][n][2 * r + 1], exponent_scale, bias[m][r]));
                    sums[m][r] += p0 + p1;
                    P_frag[n / 2][m][n % 2 * 2 + r] = pack2<Element>(p0, p1);
                }
            }
        }
        bool over = false;
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) over = over || sums[m][0] > kMostSum || sums[m][1] > kMostSum;
        sharers.publish(P_frag);
        if (sharers.any(over)) return false;
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) row_sum[m][r] += sums[m][r];
        }
        return true;
    }

    // Whether all rows of the warp have seen a key.
    __device__ __forceinline__ bool started() const {
        bool missing = false;
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
            missing = missing || row_max[m][0] == -infinity() || row_max[m][1] == -infinity();
        }
        return !vote_any(missing);
    }

  private:
    // All rows step by step, so that their shuffles overlap.
    __device__ __forceinline__ static void quad_max_of_all(float (&x)[kMTiles][kRowsPerLane]) {
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            float other[kMTiles][kRowsPerLane];
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
                for (int r = 0; r < kRowsPerLane; ++r) other[m][r] = shfl_bfly(x[m][r], step);
            }
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
                for (int r = 0; r < kRowsPerLane; ++r) x[m][r] = max_f32(x[m][r], other[m][r]);
            }
        }
    }

    // Replaces S by P; sums: this lane's of this block.
    template <int kNTiles>
    __device__ __forceinline__ void exponentials(float (&S_acc)[kMTiles][kNTiles][4],
                                                 float (&sums)[kMTiles][kRowsPerLane], float exponent_scale) const {
        float bias[kMTiles][kRowsPerLane];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                bias[m][r] = row_max[m][r] == -infinity() ? 0.0f : -row_max[m][r] * exponent_scale;
                sums[m][r] = 0.0f;
            }
        }
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
                for (int r = 0; r < kRowsPerLane; ++r) {
                    const float p0 = ex2_approx(fma_rn(S_acc[m][n][2 * r], exponent_scale, bias[m][r]));
                    const float p1 = ex2_approx(fma_rn(S_acc[m][n][2 * r + 1], exponent_scale, bias[m][r]));
                    S_acc[m][n][2 * r] = p0;
                    S_acc[m][n][2 * r + 1] = p1;
                    sums[m][r] += p0 + p1;
                }
            }
        }
    }
};

// Whether some row of the warp has to be scaled.
template <int kMTiles>
__device__ __forceinline__ bool any_rescale(const float (&rescale)[kMTiles][kRowsPerLane]) {
    bool any = false;
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) any = any || rescale[m][0] != 1.0f || rescale[m][1] != 1.0f;
    return vote_any(any);
}
