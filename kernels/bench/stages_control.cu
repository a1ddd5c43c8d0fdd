// A control for tools that look for races: key_stages.cuh as the attention kernel uses it, and nothing else.
// Two warps fill two stages by cp.async, and in each round every thread reads what a thread of the other warp has copied.
//
//   from   [rounds][64][4]
//   to     [64]: of each thread, the sum over the rounds of what it read
#include "attention/key_stages.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/shared.cuh"

constexpr int kThreads = 64;
constexpr int kChunk = 16;
using Stages = StageBarriers<kThreads>;

extern "C" __global__ void __launch_bounds__(kThreads) stages_control(const float4 *from, float *to, int rounds) {
    __shared__ __align__(128) unsigned char smem[Stages::kCount * kThreads * kChunk + Stages::kBytes];
    const int thread = static_cast<int>(threadIdx.x);
    const u32_t tiles = smem_address(smem);
    const Stages stages{tiles + Stages::kCount * kThreads * kChunk};
    if (thread == 0) stages.init();
    __syncthreads();
    const auto copy = [&](int round) {
        const int stage = round % Stages::kCount;
        cp_async_16(tiles + (stage * kThreads + thread) * kChunk, from + round * kThreads + thread, kChunk);
        stages.filled(stage);
    };
    copy(0);
    float sum = 0.0f;
    for (int round = 0; round < rounds; ++round) {
        const int stage = round % Stages::kCount, next = stage ^ 1;
        if (round + 1 < rounds) {
            if (round > 0) stages.wait_free(next, (round - 1) / Stages::kCount);
            copy(round + 1);
        }
        stages.wait_full(stage, round / Stages::kCount);
        sum += __uint_as_float(ld_shared(tiles + (stage * kThreads + kThreads - 1 - thread) * kChunk));
        stages.read(stage);
    }
    to[thread] = sum;
}
