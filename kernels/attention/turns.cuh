// Warpgroups issue their products in turn, so that one's softmax runs under the other's products.
#pragma once
#include "attention/wgmma_tile.cuh"

// Whether a predicate holds in any thread of a warpgroup, whose threads all ask.
__device__ __forceinline__ bool warpgroup_any(int warpgroup, bool predicate) {
    constexpr int kFirstBarrier = 9;  // behind those of the turns and of the warps that look at V
    // The vote changes nothing, but tells the compiler that all lanes go the same way.
    return vote_any(bar_red_or(kFirstBarrier + warpgroup, kWarpgroupSize, predicate));
}

struct Turns {
    static constexpr bool kTaken = ATTN_TURNS && kConsumers > 1;
    static constexpr int kFirstBarrier = 1;
    int warpgroup;

    __device__ __forceinline__ explicit Turns(int warpgroup) : warpgroup(warpgroup) {
        if (kTaken && warpgroup == kConsumers - 1) pass_on();
    }
    __device__ __forceinline__ void wait() const {
        if (kTaken) bar_sync(kFirstBarrier + warpgroup, 2 * kWarpgroupSize);
    }
    __device__ __forceinline__ void pass_on() const {
        const int next = warpgroup == kConsumers - 1 ? 0 : warpgroup + 1;
        if (kTaken) bar_arrive(kFirstBarrier + next, 2 * kWarpgroupSize);
    }
    // The last turn is passed on to the first warpgroup, which has no use for it.
    __device__ __forceinline__ void end() const {
        if (warpgroup == 0) wait();
    }
};
