// Ceiling: how fast this card runs mma.sync m16n8k16 when nothing else is asked of it.
// Every warp keeps 16 independent accumulators busy; operands come from memory, so nothing is known to be zero.
//
//   operands   128 * 6 registers of two 16-bit floats
//   sums       [blocks * 128]
#include "ptx/mma.cuh"

constexpr int kThreads = 128;
constexpr int kAccumulators = 16;

extern "C" __global__ void __launch_bounds__(kThreads) mma_loop(const u32_t *operands, float *sums, int rounds) {
    u32_t a[4], b[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = operands[threadIdx.x * 6 + i];
#pragma unroll
    for (int i = 0; i < 2; ++i) b[i] = operands[threadIdx.x * 6 + 4 + i];
    float acc[kAccumulators][4] = {};
    for (int round = 0; round < rounds; ++round) {
#pragma unroll
        for (int n = 0; n < kAccumulators; ++n) mma_m16n8k16<f16_t>(acc[n], a, b);
    }
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kAccumulators; ++n) sum += acc[n][0] + acc[n][1] + acc[n][2] + acc[n][3];
    sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
