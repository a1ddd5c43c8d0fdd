// Lane number, warp shuffles and votes.
#pragma once
#include "ptx/types.cuh"

constexpr int kWarpSize = 32;
constexpr u32_t kFullMask = 0xffffffffu;

__device__ __forceinline__ int lane_id() { return threadIdx.x % kWarpSize; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / kWarpSize; }

// shfl.sync.bfly: the value that lane (own ^ mask) holds.
__device__ __forceinline__ float shfl_bfly(float value, int mask) {
    float result;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(result) : "f"(value), "r"(mask));
    return result;
}

// vote.sync.any: whether the predicate holds in any lane of the warp.
__device__ __forceinline__ bool vote_any(bool predicate) { return __any_sync(kFullMask, predicate); }
