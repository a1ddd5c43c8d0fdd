// Lane number, warp shuffles and votes.
#pragma once
#include "ptx/types.cuh"

constexpr int kWarpSize = 32;
constexpr u32_t kFullMask = 0xffffffffu;

__device__ __forceinline__ int lane_id() { return threadIdx.x % kWarpSize; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / kWarpSize; }

// mov from %ctaid.x: the block's number, read anew each time, so that what is made of it need not stay in registers.
__device__ __forceinline__ int fresh_block_id() {
    int result;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(result));
    return result;
}

// No instruction: the compiler works the value out here, and not where it is used.
__device__ __forceinline__ i64_t worked_out(i64_t value) {
    asm volatile("" : "+l"(value));
    return value;
}

// shfl.sync.bfly: the value that lane (own ^ mask) holds.
__device__ __forceinline__ float shfl_bfly(float value, int mask) {
    float result;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(result) : "f"(value), "r"(mask));
    return result;
}

__device__ __forceinline__ u32_t shfl_bfly(u32_t value, int mask) {
    u32_t result;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(value), "r"(mask));
    return result;
}

// shfl.sync.up: the value that lane (own - distance) holds; lanes without such a lane get their own.
__device__ __forceinline__ int shfl_up(int value, int distance) {
    int result;
    asm volatile("shfl.sync.up.b32 %0, %1, %2, 0, 0xffffffff;" : "=r"(result) : "r"(value), "r"(distance));
    return result;
}

// shfl.sync.idx: the value that lane `source` holds.
__device__ __forceinline__ int shfl_idx(int value, int source) {
    int result;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(value), "r"(source));
    return result;
}

__device__ __forceinline__ float shfl_idx(float value, int source) {
    float result;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(result) : "f"(value), "r"(source));
    return result;
}

// redux.sync: the sum, and the maximum, of all lanes' values.
__device__ __forceinline__ int redux_add(int value) {
    int result;
    asm volatile("redux.sync.add.s32 %0, %1, 0xffffffff;" : "=r"(result) : "r"(value));
    return result;
}

__device__ __forceinline__ int redux_max(int value) {
    int result;
    asm volatile("redux.sync.max.s32 %0, %1, 0xffffffff;" : "=r"(result) : "r"(value));
    return result;
}

// vote.sync.ballot: a bit for each lane in which the predicate holds.
__device__ __forceinline__ u32_t ballot(bool predicate) { return __ballot_sync(kFullMask, predicate); }

// The lowest bit that is set; the argument is not 0.
__device__ __forceinline__ int first_set(u32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }

// The highest bit that is set; likewise.
__device__ __forceinline__ int last_set(u32_t bits) { return 31 - __clz(static_cast<int>(bits)); }

// vote.sync.any: whether the predicate holds in any lane of the warp.
__device__ __forceinline__ bool vote_any(bool predicate) { return __any_sync(kFullMask, predicate); }

// bar.warp.sync: what the lanes of the warp wrote before, all of them see after.
__device__ __forceinline__ void warp_sync() { __syncwarp(); }

// elect.sync: true in one lane of the warp, of which all are here. What that lane alone does, the compiler knows to be done once.
__device__ __forceinline__ bool elect_one() {
    u32_t elected;
    asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(elected));
    return elected != 0;
}
