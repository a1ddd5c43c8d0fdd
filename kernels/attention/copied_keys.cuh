// Blocks of K and V that the threads of a block copy themselves (cp.async), into two stages: while one is read the other is
// filled.
//
// Where warps go through the blocks apart, mbarriers say which stage is full and which is free (key_stages.cuh). Else one
// barrier per block of keys says both: everybody's copies of this block are there, and everybody has read the last one.
#pragma once
#include "attention/key_places.cuh"
#include "attention/key_stages.cuh"
#include "attention/nonfinite_copied.cuh"
#include "attention/planes.cuh"
#include "attention/tile.cuh"
#include "ptx/cp_async.cuh"

template <class Element, class KTile, class VTile, int kThreads, bool kApart>
struct CopiedKeys : KeyPlaces {
    using Stages = StageBarriers<kThreads>;
    static constexpr int kBarrierBytes = kApart * 2 * Stages::kBytes;

    __device__ __forceinline__ explicit CopiedKeys(const KeyPlaces &places) : KeyPlaces(places) {}

    __device__ __forceinline__ Stages K_stages() const { return {barriers}; }
    __device__ __forceinline__ Stages V_stages() const { return {barriers + Stages::kBytes}; }

    __device__ __forceinline__ void init() const {
        if constexpr (kApart) {
            if (threadIdx.x == 0) {
                K_stages().init();
                V_stages().init();
            }
            __syncthreads();
        }
    }

    // Starts copying the first block, which may reach beyond the keys.
    __device__ __forceinline__ void copy_first() const {
        constexpr int stage = 0;
        const int first_key = (end_block - 1) * KTile::kRows;
        load_tile<KTile, kThreads>(K_tiles + stage * KTile::kBytes, K_gmem, first_key, seqlen_k);
        if constexpr (kApart) K_stages().filled(stage);
        load_tile<VTile, kThreads>(V_tiles + stage * VTile::kBytes, V_gmem, first_key, seqlen_k);
        if constexpr (kApart) {
            V_stages().filled(stage);
        } else {
            cp_async_commit_group();
        }
    }

    __device__ __forceinline__ void settle() const {}

    // K of a block is there, and copies of the next block are under way. Where some query does not see the block whole, V is
    // there, too, without NaN and infinity: whether it had any is the result, the same for all threads.
    __device__ __forceinline__ bool wait(int block, int next_block, u32_t turn, bool all_whole) const {
        const u32_t stage = turn % kStages, next = stage ^ 1;
        const int next_key = next_block * KTile::kRows;
        const u32_t V_tile = V_tiles + stage * VTile::kBytes;
        bool nonfinite = false;
        if constexpr (kApart) {
            const u32_t use = turn / kStages;  // of the stage, from 0 on
            K_stages().wait_full(stage, use);
            if (block > begin_block) {
                if (turn > 0) K_stages().wait_free(next, (turn - 1) / kStages);
                copy_keys(next, next_key);
                K_stages().filled(next);
            }
            if (!all_whole) {
                V_stages().wait_full(stage, use);
                nonfinite = __syncthreads_or(take_copied_nonfinite<Element, VTile, kThreads>(V_tile));
            }
        } else {
            cp_async_wait_group<kPlaneTiles>();
            const bool found = !all_whole && take_copied_nonfinite<Element, VTile, kThreads>(V_tile);
            // Everybody's copies of this block are visible, and everybody has read the last block: its buffers are free.
            nonfinite = __syncthreads_or(found);
            if (block > begin_block) {
                copy_keys(next, next_key);
                copy_values(next, next_key);
                if constexpr (!kPlaneTiles) cp_async_commit_group();
            }
            if constexpr (kPlaneTiles) cp_async_commit_group();  // also of nothing: groups are counted
        }
        return nonfinite;
    }

    // This warp has read K. V is there.
    __device__ __forceinline__ void scored(int block, int next_block, u32_t turn) const {
        if constexpr (kApart) {
            const u32_t stage = turn % kStages, next = stage ^ 1;
            const int next_key = next_block * KTile::kRows;
            K_stages().read(stage);
            if (block > begin_block) {
                if (turn > 0) V_stages().wait_free(next, (turn - 1) / kStages);
                copy_values(next, next_key);
                V_stages().filled(next);
            }
            V_stages().wait_full(stage, turn / kStages);
        }
    }

    // This warp has read V.
    __device__ __forceinline__ void read(int, u32_t turn) const {
        if constexpr (kApart) V_stages().read(turn % kStages);
    }

  private:
    __device__ __forceinline__ void copy_keys(u32_t stage, int first_key) const {
        load_whole_tile<KTile, kThreads>(K_tiles + stage * KTile::kBytes, K_gmem, first_key);
    }
    __device__ __forceinline__ void copy_values(u32_t stage, int first_key) const {
        load_whole_tile<VTile, kThreads>(V_tiles + stage * VTile::kBytes, V_gmem, first_key);
    }
};
