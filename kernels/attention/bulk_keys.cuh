// Blocks of K and V by bulk copies (TMA), into two stages: while one is read the other is filled. One lane starts what all
// threads would have to start with cp.async.
//
// The first block may reach beyond the keys. What lies behind the array becomes zeros, and rows of others that are copied with
// it change nothing: their scores are masked, and V is looked at there for NaN and infinity, which alone would show beside P = 0.
//
// A stage is free when all warps have read it. Either they meet once per block (kMeet), which is one instruction. Or each
// tells that it has read a stage, and whichever is the last fills it again: nobody waits for that, and warps drift apart. Which
// is faster was measured (docs/design/performance-log.md).
#pragma once
#include "attention/key_places.cuh"
#include "attention/nonfinite_copied.cuh"
#include "attention/tile.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/lane.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"

template <class Element, class KTile, class VTile, int kThreads, bool kMeet>
struct BulkKeys : KeyPlaces {
    static constexpr int kBarrierBytes = 2 * kStages * 8;
    static constexpr int kWarps = kThreads / kWarpSize;
    int warp;

    __device__ __forceinline__ explicit BulkKeys(const KeyPlaces &places)
        : KeyPlaces(places), warp(shfl_idx(warp_id(), 0)) {}

    // Of each stage: full, when its bytes are there, and free, when all warps have read it.
    __device__ __forceinline__ u32_t full(u32_t stage) const { return barriers + stage * 16; }
    __device__ __forceinline__ u32_t free(u32_t stage) const { return barriers + stage * 16 + 8; }

    // Starts copying the first two blocks.
    __device__ __forceinline__ void init() const {
        if (threadIdx.x > 0) return;
#pragma unroll
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(full(stage), 1);
            if constexpr (!kMeet) mbarrier_init(free(stage), kWarps);
        }
        fence_mbarrier_init();
#pragma unroll
        for (int stage = 0; stage < kStages; ++stage) {
            const int block = end_block - 1 - stage;
            if (block < begin_block) continue;
            fill(stage, block);
        }
    }

    __device__ __forceinline__ void copy_first() const {}

    // What threads have copied is there, for all of them, and the barriers are.
    __device__ __forceinline__ void settle() const {
        cp_async_commit_group();
        cp_async_wait_group<0>();
        __syncthreads();
    }

    // K and V of a block are there, and where warps meet, copies of the next block are under way. Where some query does not
    // see the block whole, V is without NaN and infinity: whether it had any is the result, the same for all threads.
    __device__ __forceinline__ bool wait(int block, int, u32_t turn, bool all_whole) const {
        const u32_t stage = turn % kStages, use = turn / kStages;  // of the stage, from 0 on
        if (kMeet && all_whole) {
            __syncthreads();
            fill_next(block, turn);
        }
        mbarrier_wait(full(stage), use & 1);
        if (all_whole) return false;
        const bool nonfinite = __syncthreads_or(take_nonfinite(V_tiles + stage * VTile::kBytes));
        if constexpr (kMeet) fill_next(block, turn);
        return nonfinite;
    }

    __device__ __forceinline__ void scored(int, int, u32_t) const {}

    // This warp has read a block. If it is the last, the block after the next takes its place.
    __device__ __forceinline__ void read(int block, u32_t turn) const {
        if constexpr (!kMeet) {
            const u32_t stage = turn % kStages, use = turn / kStages;
            warp_sync();
            const bool last = lane_id() == 0 && mbarrier_pending_count(mbarrier_arrive_state(free(stage))) == 1;
            if (!vote_any(last) || block - kStages < begin_block) return;
            mbarrier_wait(free(stage), use & 1);  // is complete: what others read comes before what this warp does
            if (elect_one()) fill(stage, block - kStages);
        }
    }

  private:
    // All warps have read the block before this one: the next takes its place. By all threads.
    __device__ __forceinline__ void fill_next(int block, u32_t turn) const {
        if (turn > 0 && block > begin_block && warp == 0 && elect_one()) fill(turn % kStages ^ 1, block - 1);
    }

    // Whether this thread found NaN or infinity in its share of V; zeros take their places, and a bulk copy theirs.
    __device__ __forceinline__ bool take_nonfinite(u32_t V_tile) const {
        const bool found = take_copied_nonfinite<Element, VTile, kThreads>(V_tile);
        if (found) fence_proxy_async_shared();
        return found;
    }

    // Starts copying a block of keys. By one thread.
    __device__ __forceinline__ void fill(u32_t stage, int block) const {
        const u32_t K_tile = K_tiles + stage * KTile::kBytes, V_tile = V_tiles + stage * VTile::kBytes;
        const int row = first_row + block * KTile::kRows;
        mbarrier_arrive_expect_tx(full(stage), KTile::kBytes + VTile::kBytes);
#pragma unroll
        for (int i = 0; i < KTile::kPanels; ++i) {
            cp_async_bulk_tensor_4d(K_tile + i * KTile::kPanelStep, *K_map, full(stage), i * kPanelElements, row,
                                    kv_head, batch, kEvictLast);
        }
#pragma unroll
        for (int i = 0; i < VTile::kPanels; ++i) {
            cp_async_bulk_tensor_4d(V_tile + i * VTile::kPanelStep, *V_map, full(stage), v_column + i * kPanelElements,
                                    row, kv_head, batch, kEvictLast);
        }
    }
};
