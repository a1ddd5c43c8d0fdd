// Stages of K and V in shared memory that the warps of a block fill together and read each at its own pace.
//
// Each stage of K, and of V, has two barriers: full, when all threads' copies have landed, and free, when all warps have read
// it. Nobody waits for the slowest warp of the block but to fill what that one still reads: warps drift apart by half a key
// block, and the softmax of one runs under the products of another. With __syncthreads they would do all the same at once.
#pragma once
#include "ptx/cp_async.cuh"
#include "ptx/lane.cuh"
#include "ptx/mbarrier.cuh"

template <int kThreads>
struct StageBarriers {
    static constexpr int kCount = 2;
    static constexpr int kBytes = 2 * kCount * 8;
    u32_t smem;

    __device__ __forceinline__ u32_t full(u32_t stage) const { return smem + stage * 16; }
    __device__ __forceinline__ u32_t free(u32_t stage) const { return smem + stage * 16 + 8; }

    // By one thread.
    __device__ __forceinline__ void init() const {
#pragma unroll
        for (int stage = 0; stage < kCount; ++stage) {
            mbarrier_init(full(stage), kThreads);
            mbarrier_init(free(stage), kThreads / kWarpSize);
        }
    }

    // This thread's part of the stage is under way: its copies since the last call.
    __device__ __forceinline__ void filled(u32_t stage) const {
#if ATTN_ALIGNED
        cp_async_mbarrier_arrive_noinc(full(stage));
#else
        mbarrier_arrive(full(stage));
#endif
    }

    // This warp has read the stage.
    __device__ __forceinline__ void read(u32_t stage) const {
        warp_sync();
        if (lane_id() == 0) mbarrier_arrive(free(stage));
    }

    // A stage's turns are its uses, from 0 on: every second block.
    __device__ __forceinline__ void wait_full(u32_t stage, u32_t turn) const { mbarrier_wait(full(stage), turn & 1); }
    __device__ __forceinline__ void wait_free(u32_t stage, u32_t turn) const { mbarrier_wait(free(stage), turn & 1); }
};
