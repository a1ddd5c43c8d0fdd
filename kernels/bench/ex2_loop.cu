// Ceiling: how many exponentials this card computes in a second. Each thread has eight chains, x = 2^-x.
//
//   values   [128]: where the chains begin
//   sums     [blocks * 128]
#include "ptx/math.cuh"

constexpr int kThreads = 128;
constexpr int kChains = 8;

extern "C" __global__ void __launch_bounds__(kThreads) ex2_loop(const float *values, float *sums, int rounds) {
    float x[kChains];
#pragma unroll
    for (int i = 0; i < kChains; ++i) x[i] = values[threadIdx.x] * (i + 1);
    for (int round = 0; round < rounds; ++round) {
#pragma unroll
        for (int i = 0; i < kChains; ++i) x[i] = ex2_approx(-x[i]);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kChains; ++i) sum += x[i];
    sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
