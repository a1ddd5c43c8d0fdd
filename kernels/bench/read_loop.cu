// Ceiling: how fast this card reads global memory. Each block adds up chunks of words, 16 bytes a thread at a time.
//
// BENCH_UNDER_WAY is how many of them are on their way at once.
//   words   [chunks * 256 * BENCH_UNDER_WAY] of 16 bytes
//   sums    [blocks * 256]
#include "ptx/types.cuh"

constexpr int kThreads = 256;
constexpr int kUnderWay = BENCH_UNDER_WAY;

extern "C" __global__ void __launch_bounds__(kThreads) read_loop(const word4_t *words, u32_t *sums, i64_t chunks) {
    u32_t sum = 0;
    for (i64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const word4_t *from = words + chunk * kUnderWay * kThreads + threadIdx.x;
        word4_t got[kUnderWay];
#pragma unroll
        for (int n = 0; n < kUnderWay; ++n) got[n] = from[n * kThreads];
#pragma unroll
        for (int n = 0; n < kUnderWay; ++n) sum ^= got[n].v[0] ^ got[n].v[1] ^ got[n].v[2] ^ got[n].v[3];
    }
    sums[static_cast<i64_t>(blockIdx.x) * kThreads + threadIdx.x] = sum;
}
