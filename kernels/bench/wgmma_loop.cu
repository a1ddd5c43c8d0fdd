// Ceiling: how fast this card runs wgmma m64n256k16 when nothing else is asked of it (sm_90a).
// Two warpgroups, each with a tile A of its own and both with the same B, all in shared memory and of random numbers.
//
//   operands   kWords registers of two 16-bit floats: A of both warpgroups, then B
//   sums       [blocks * 256]
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

constexpr int kWarpgroups = 2;
constexpr int kThreads = kWarpgroups * kWarpgroupSize;
constexpr int kSteps = 4;  // of 16 elements: the 64 of a swizzled row of 128 bytes
constexpr int kStepBytes = 32;
constexpr int kRowWords = 32;
constexpr int kRowsA = 64, kRowsB = 256;
constexpr int kWords = (kWarpgroups * kRowsA + kRowsB) * kRowWords;
constexpr u64_t kDescriptor = wgmma_descriptor_128b(0);

extern "C" __global__ void __launch_bounds__(kThreads, 1) wgmma_loop(const u32_t *operands, float *sums, int rounds) {
    __shared__ __align__(1024) u32_t tiles[kWords];
    for (int i = threadIdx.x; i < kWords; i += kThreads) tiles[i] = operands[i];
    fence_proxy_async_shared();
    __syncthreads();

    const int group = threadIdx.x / kWarpgroupSize;
    const u32_t A = static_cast<u32_t>(__cvta_generic_to_shared(tiles + group * kRowsA * kRowWords));
    const u32_t B = static_cast<u32_t>(__cvta_generic_to_shared(tiles + kWarpgroups * kRowsA * kRowWords));
    float acc[128] = {};
    for (int round = 0; round < rounds; ++round) {
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
            wgmma_ss<f16_t>(acc, wgmma_descriptor(kDescriptor, A + step * kStepBytes),
                            wgmma_descriptor(kDescriptor, B + step * kStepBytes), true);
        }
        wgmma_commit_group();
        wgmma_wait_group<1>();
    }
    wgmma_wait_group<0>();
    registers_change(acc);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 128; ++i) sum += acc[i];
    sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
