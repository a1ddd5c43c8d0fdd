// Online softmax over the key blocks, in fp32, for the 16 * kMTiles rows of one warp.
//
// A lane holds two rows of each 16x8 block of S: lane / 4 (elements 0, 1) and lane / 4 + 8 (elements 2, 3); the four
// lanes of a quad share a row. The row maximum is reduced over the quad per block, the row sum once at the end.
#pragma once
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

template <int kMTiles>
struct OnlineSoftmax {
    float row_max[kMTiles][kRowsPerLane];  // of the scores seen so far; -inf before the first
    float row_sum[kMTiles][kRowsPerLane];  // this lane's share of sum exp(s - row_max)

    __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
            row_max[m][0] = row_max[m][1] = -infinity();
            row_sum[m][0] = row_sum[m][1] = 0.0f;
        }
    }

    // Replaces S by P = exp(S - new maximum) and gives the factor by which what was accumulated before must shrink.
    template <int kNTiles>
    __device__ __forceinline__ void step(float (&S_acc)[kMTiles][kNTiles][4], float (&rescale)[kMTiles][kRowsPerLane],
                                         float exponent_scale) {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                float new_max = row_max[m][r];
#pragma unroll
                for (int n = 0; n < kNTiles; ++n) {
                    new_max = max_f32(new_max, max_f32(S_acc[m][n][2 * r], S_acc[m][n][2 * r + 1]));
                }
                new_max = quad_max(new_max);
                // A row that has seen no key yet keeps -inf as its maximum, but must not compute -inf - -inf.
                const float shift = new_max == -infinity() ? 0.0f : new_max;
                rescale[m][r] = ex2_approx((row_max[m][r] - shift) * exponent_scale);
                const float bias = -shift * exponent_scale;
                float sum = 0.0f;
#pragma unroll
                for (int n = 0; n < kNTiles; ++n) {
                    const float p0 = ex2_approx(fma_rn(S_acc[m][n][2 * r], exponent_scale, bias));
                    const float p1 = ex2_approx(fma_rn(S_acc[m][n][2 * r + 1], exponent_scale, bias));
                    S_acc[m][n][2 * r] = p0;
                    S_acc[m][n][2 * r + 1] = p1;
                    sum += p0 + p1;
                }
                row_sum[m][r] = fma_rn(row_sum[m][r], rescale[m][r], sum);
                row_max[m][r] = new_max;
            }
        }
    }
};
