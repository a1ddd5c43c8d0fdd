// Blocks of K and V by bulk copies (TMA), into two stages. Whichever warp is the last to have read a stage fills it again: nobody
// waits for a stage to be free, no barrier holds the warps of a block together, and one lane starts what all threads would
// have to start with cp.async.
//
// Only blocks of which every row exists come so: rows of another sequence, and what lies behind an array, stay where they are.
// That is all but the first block, which may reach beyond the keys; the threads copy it then.
#pragma once
#include "attention/key_places.cuh"
#include "attention/nonfinite_copied.cuh"
#include "attention/tile.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/lane.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"

template <class Element, class KTile, class VTile, int kThreads>
struct BulkKeys : KeyPlaces {
    static constexpr int kStages = 2;
    static constexpr int kBarrierBytes = 2 * kStages * 8;
    bool first_whole;  // the first block has all its keys

    __device__ __forceinline__ explicit BulkKeys(const KeyPlaces &places)
        : KeyPlaces(places), first_whole(end_block * KTile::kRows <= seqlen_k) {}

    // Of each stage: full, when its bytes are there, and free, when all warps have read it.
    __device__ __forceinline__ u32_t full(u32_t stage) const { return barriers + stage * 16; }
    __device__ __forceinline__ u32_t free(u32_t stage) const { return barriers + stage * 16 + 8; }

    // Starts copying the first two blocks.
    __device__ __forceinline__ void init() const {
        if (threadIdx.x > 0) return;
#pragma unroll
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(full(stage), 1);
            mbarrier_init(free(stage), kThreads / kWarpSize);
        }
        fence_mbarrier_init();
        if (begin_block < end_block && first_whole) fill(0, end_block - 1);
        if (begin_block < end_block - 1) fill(1, end_block - 2);
    }

    __device__ __forceinline__ void copy_first() const {
        if (first_whole) return;
        const int first_key = (end_block - 1) * KTile::kRows;
        load_tile<KTile, kThreads>(K_tiles, K_gmem, first_key, seqlen_k);
        load_tile<VTile, kThreads>(V_tiles, V_gmem, first_key, seqlen_k);
    }

    // What threads have copied is there, for all of them, and the barriers are.
    __device__ __forceinline__ void settle() const {
        cp_async_commit_group();
        cp_async_wait_group<0>();
        if (!first_whole) fence_proxy_async_shared();  // a bulk copy will take its place
        __syncthreads();
        if (!first_whole && threadIdx.x == 0) mbarrier_arrive(full(0));
    }

    // K and V of a block are there. Where some query does not see the block whole, V is without NaN and infinity: whether it
    // had any is the result, the same for all threads.
    __device__ __forceinline__ bool wait(int, int, u32_t turn, bool all_whole) const {
        const u32_t stage = turn % kStages, use = turn / kStages;  // of the stage, from 0 on
        mbarrier_wait(full(stage), use & 1);
        if (all_whole) return false;
        const bool found = take_copied_nonfinite<Element, VTile, kThreads>(V_tiles + stage * VTile::kBytes);
        if (found) fence_proxy_async_shared();
        return __syncthreads_or(found);
    }

    __device__ __forceinline__ void scored(int, int, u32_t) const {}

    // This warp has read a block. If it is the last, the block after the next takes its place.
    __device__ __forceinline__ void read(int block, u32_t turn) const {
        const u32_t stage = turn % kStages, use = turn / kStages;
        warp_sync();
        if (lane_id() != 0 || mbarrier_pending_count(mbarrier_arrive_state(free(stage))) > 1) return;
        if (block - kStages < begin_block) return;
        mbarrier_wait(free(stage), use & 1);  // is complete: what the others read comes before what this thread does
        fill(stage, block - kStages);
    }

  private:
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
