// Blocks of K and V by bulk copies (TMA), in two stages. Whichever warp is the last to have read a stage fills it again: nobody
// waits for a stage to be free, no barrier holds the warps of a block together, and one lane starts what all threads would
// have to start with cp.async.
//
// Only blocks of which every row exists come so: rows of another sequence, and what lies behind an array, stay where they are.
#pragma once
#include "attention/params.cuh"
#include "attention/sequence.cuh"
#include "attention/tile.cuh"
#include "ptx/lane.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"

template <class KTile, class VTile, int kWarps>
struct BulkKeys {
    static constexpr int kCount = 2;
    static constexpr int kBarrierBytes = 2 * kCount * 8;
    u32_t K_tiles;  // of each stage, one after the other
    u32_t V_tiles;
    u32_t barriers;  // of each stage: full, when its bytes are there, and free, when all warps have read it
    const TensorMap *K_map;
    const TensorMap *V_map;
    int first_row;  // of key 0, in the maps
    int kv_head;
    int batch;
    int v_column;

    __device__ __forceinline__ u32_t full(u32_t stage) const { return barriers + stage * 16; }
    __device__ __forceinline__ u32_t free(u32_t stage) const { return barriers + stage * 16 + 8; }

    // By the thread that fills the first.
    __device__ __forceinline__ void init() const {
#pragma unroll
        for (int stage = 0; stage < kCount; ++stage) {
            mbarrier_init(full(stage), 1);
            mbarrier_init(free(stage), kWarps);
        }
        fence_mbarrier_init();
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

    // This thread's copies into the stage have landed and stand where bulk copies will: before all threads meet.
    __device__ __forceinline__ void copied_by_threads() const { fence_proxy_async_shared(); }

    // All threads' have. By one thread.
    __device__ __forceinline__ void filled_by_threads(u32_t stage) const { mbarrier_arrive(full(stage)); }

    // A stage's uses count from 0 on: every second block.
    __device__ __forceinline__ void wait_full(u32_t stage, u32_t use) const { mbarrier_wait(full(stage), use & 1); }

    // This warp has read the stage. If it is the last, and there is a further block, the stage is filled with it.
    __device__ __forceinline__ void read(u32_t stage, u32_t use, int next_block, int begin_block) const {
        warp_sync();
        if (lane_id() != 0 || mbarrier_pending_count(mbarrier_arrive_state(free(stage))) > 1) return;
        if (next_block < begin_block) return;
        mbarrier_wait(free(stage), use & 1);  // complete, and what others read comes before what this thread does
        fill(stage, next_block);
    }
};
