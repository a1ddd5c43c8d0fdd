// What the loading warpgroup does: one thread copies Q and K, one V, and two warps look at V where a window hides keys.
#pragma once
#include "attention/mask.cuh"
#include "attention/nonfinite_tile.cuh"
#include "attention/params.cuh"
#include "attention/schedule.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/tma.cuh"

// Copies kRows rows from (row, head, batch) of a tensor into a tile; its bytes count on `barrier`.
template <int kRows, int kPanels>
__device__ __forceinline__ void load_panels(u32_t tile, const TensorMap &map, u32_t barrier, int row, int head,
                                            int batch, u64_t policy) {
    mbarrier_arrive_expect_tx(barrier, kRows * kPanels * kPanelRowBytes);
#pragma unroll
    for (int i = 0; i < kPanels; ++i) {
        cp_async_bulk_tensor_4d(tile + i * kRows * kPanelRowBytes, map, barrier, i * kPanel, row, head, batch, policy);
    }
}

__device__ __forceinline__ void load_queries_and_keys(const AttentionParams &p, const TensorMap &Q_map,
                                                      const TensorMap &K_map, const SharedMemory &smem,
                                                      const TileSchedule<kBlockM> &schedule) {
    Ring<kQStages> Q_ring(smem.q_ring);
    Ring<kStages> K_ring(smem.k_ring);
    for (int turn = 0, place; (place = schedule.place(turn)) < schedule.tiles; ++turn) {
        const QueryTile tile = schedule.tile(place);
        const KeyBlocks<kBlockN> blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM);
        const int kv_head = tile.head / p.heads_per_kv_head;
        for (int block = blocks.end - 1; block >= blocks.begin; --block) {
            K_ring.wait_empty();
            load_panels<kBlockN, kPanelsQK>(smem.K + K_ring.stage * kKBytes, K_map, K_ring.full(), block * kBlockN,
                                            kv_head, tile.batch, kEvictLast);
            K_ring.advance();
            if (block != blocks.end - 1) continue;
            Q_ring.wait_empty();
            load_panels<kBlockM, kPanelsQK>(smem.Q + Q_ring.stage * kQBytes, Q_map, Q_ring.full(), tile.first_query,
                                            tile.head, tile.batch, kEvictFirst);
            Q_ring.advance();
        }
    }
}

__device__ __forceinline__ void load_values(const AttentionParams &p, const TensorMap &V_map, const SharedMemory &smem,
                                            const TileSchedule<kBlockM> &schedule) {
    Ring<kStages> V_ring(smem.v_ring);
    for (int turn = 0, place; (place = schedule.place(turn)) < schedule.tiles; ++turn) {
        const QueryTile tile = schedule.tile(place);
        const KeyBlocks<kBlockN> blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM);
        const int kv_head = tile.head / p.heads_per_kv_head;
        for (int block = blocks.end - 1; block >= blocks.begin; --block) {
            V_ring.wait_empty();
            const bool looked_at = kLookForNonfinite && blocks.at_edge(block);
            load_panels<kBlockN, kPanelsV>(smem.V + V_ring.stage * kVBytes, V_map,
                                           looked_at ? smem.v_landed + V_ring.stage * 8 : V_ring.full(),
                                           block * kBlockN, kv_head, tile.batch, kEvictLast);
            V_ring.advance();
        }
    }
}

// Two warps. V at the edge of a tile goes on to the warpgroups from here.
__device__ __forceinline__ void look_for_nonfinite(const AttentionParams &p, const SharedMemory &smem,
                                                   const TileSchedule<kBlockM> &schedule, int looker) {
    constexpr int kLookersBarrier = 8;
    Ring<kStages> V_ring(smem.v_ring);
    u32_t landed_phases = 0;  // a bit per stage
    for (int turn = 0, place; (place = schedule.place(turn)) < schedule.tiles; ++turn) {
        const QueryTile tile = schedule.tile(place);
        const KeyBlocks<kBlockN> blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM);
        for (int block = blocks.end - 1; block >= blocks.begin; --block, V_ring.advance()) {
            if (!blocks.at_edge(block)) continue;
            const int stage = V_ring.stage;
            mbarrier_wait(smem.v_landed + stage * 8, landed_phases >> stage & 1);
            landed_phases ^= 1u << stage;
            const u32_t V_smem = smem.V + stage * kVBytes;
            const bool found =
                bar_red_or(kLookersBarrier, kLookers, finds_nonfinite<Element, kVBytes, kLookers>(V_smem, looker));
            if (looker == 0) st_shared(smem.found + stage * 4, found);
            if (found) zero_nonfinite<Element, kVBytes, kLookers>(V_smem, looker);
            fence_proxy_async_shared();
            bar_sync(kLookersBarrier, kLookers);
            if (looker == 0) mbarrier_arrive(V_ring.full());
        }
    }
}
