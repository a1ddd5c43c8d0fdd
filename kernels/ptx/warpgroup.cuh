// Warpgroups: four warps, their registers, and barriers of some warps of a block.
#pragma once
#include "ptx/types.cuh"

constexpr int kWarpgroupSize = 128;

// setmaxnreg: registers of each thread from here on. Takes effect where the launch bounds fix the block size.
template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// bar.sync: waits until `threads` threads have come to barrier `id`, those of bar_arrive among them. 0 is __syncthreads.
__device__ __forceinline__ void bar_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void bar_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// bar.red.or: bar.sync that tells whether the predicate holds in any of the threads.
__device__ __forceinline__ bool bar_red_or(int id, int threads, bool predicate) {
    u32_t result;
    asm volatile("{.reg .pred p, q; setp.ne.u32 p, %3, 0; bar.red.or.pred q, %1, %2, p; selp.u32 %0, 1, 0, q;}"
                 : "=r"(result)
                 : "r"(id), "r"(threads), "r"(static_cast<u32_t>(predicate))
                 : "memory");
    return result != 0;
}

// nanosleep: suspends the thread for about so many nanoseconds, at most twice as many.
__device__ __forceinline__ void nanosleep(u32_t nanoseconds) {
    asm volatile("nanosleep.u32 %0;" ::"r"(nanoseconds) : "memory");
}
