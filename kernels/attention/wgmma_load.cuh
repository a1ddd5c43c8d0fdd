// What the loading warpgroup does: one warp copies Q and K, one V, and two look at V where keys are hidden.
#pragma once
#include "attention/key_boxes.cuh"
#include "attention/mask.cuh"
#include "attention/nonfinite_tile.cuh"
#include "attention/params.cuh"
#include "attention/wgmma_tile.cuh"

// Starts copying a tile of bias or mask. Along an axis that it is broadcast over a plane has one element.
template <class T>
__device__ __forceinline__ void load_plane(u32_t tile, const TensorMap &map, u32_t barrier, const QueryTile &queries,
                                           int block, i64_t batch_stride, i64_t head_stride) {
    const int head = head_stride == 0 ? 0 : queries.head, batch = batch_stride == 0 ? 0 : queries.batch;
#pragma unroll
    for (int i = 0; i < kPlanePanels<T>; ++i) {
        cp_async_bulk_tensor_4d(tile + i * kBlockM * kPanelRowBytes, map, barrier, block * kBlockN + i * kPlanePanel<T>,
                                queries.first_query, head, batch, kEvictFirst);
    }
}

// Those of one block of scores. What a plane does not have becomes 0: no bias, hidden by the mask.
__device__ __forceinline__ void load_planes(const AttentionParams &p, u32_t tiles, const TensorMap &bias_map,
                                            const TensorMap &mask_map, u32_t barrier, const QueryTile &queries,
                                            int block) {
    mbarrier_arrive_expect_tx(barrier, kPlaneBytes);
    if constexpr (kBiasTiles) {
        load_plane<BiasElement>(tiles, bias_map, barrier, queries, block, p.bias_batch_stride, p.bias_head_stride);
    }
    if constexpr (kMaskTiles) {
        load_plane<u8_t>(tiles + kBiasBytes, mask_map, barrier, queries, block, p.mask_batch_stride,
                         p.mask_head_stride);
    }
}

// One thread, or one warp where kWarpsLoad.
__device__ __forceinline__ void load_queries_and_keys(const AttentionParams &p, const TensorMap &Q_map,
                                                      const TensorMap &K_map, const TensorMap &bias_map,
                                                      const TensorMap &mask_map, const SharedMemory &smem) {
    Ring<kQStages> Q_ring(smem.q_ring);
    Ring<kStages> K_ring(smem.k_ring);
    Ring<kPlaneStages> plane_ring(smem.plane_ring);
    const bool issues = !kWarpsLoad || lane_id() == 0;
    for (auto tiles = find_tiles(p, smem); tiles.next();) {
        const QueryTile tile = tiles.tile();
        const Sequence sequence = find_sequence(p, tile.batch);
        TileBlocks blocks(p, Mask(p, sequence, tile.head), tile);
        KeyBoxes K_gmem(p, sequence, tile.head / p.heads_per_kv_head);
        K_gmem.find(blocks.end - 1);
        for (int block = blocks.end - 1, next; block >= blocks.begin; block = next) {
            next = blocks.after(p, tile, block);
            K_ring.wait_empty();
            K_gmem.load<kPanelsQK>(smem.K + K_ring.stage * kKBytes, K_map, K_ring.full(), block, issues);
            K_ring.advance();
            if (block > blocks.begin) K_gmem.find(next);
            if constexpr (kPlaneTiles) {
                plane_ring.wait_empty();
                if (issues) {
                    load_planes(p, smem.planes + plane_ring.stage * kPlaneBytes, bias_map, mask_map, plane_ring.full(),
                                tile, block);
                }
                plane_ring.advance();
            }
            if (block != blocks.end - 1) continue;
            Q_ring.wait_empty();
            if (issues) {
                load_panels<kBlockM, kPanelsQK>(smem.Q + Q_ring.stage * kQBytes, Q_map, Q_ring.full(),
                                                static_cast<int>(sequence.q_row) + tile.first_query, tile.head,
                                                ATTN_VARLEN_Q ? 0 : tile.batch, kEvictFirst);
            }
            Q_ring.advance();
        }
    }
}

// One thread, or one warp where kWarpsLoad.
__device__ __forceinline__ void load_values(const AttentionParams &p, const TensorMap &V_map,
                                            const SharedMemory &smem) {
    Ring<kStages> V_ring(smem.v_ring);
    const bool issues = !kWarpsLoad || lane_id() == 0;
    for (Tiles tiles = learn_tiles(p, smem); tiles.next();) {
        const QueryTile tile = tiles.tile();
        const Sequence sequence = find_sequence(p, tile.batch);
        TileBlocks blocks(p, Mask(p, sequence, tile.head), tile);
        KeyBoxes V_gmem(p, sequence, tile.head / p.heads_per_kv_head);
        V_gmem.find(blocks.end - 1);
        for (int block = blocks.end - 1, next; block >= blocks.begin; block = next) {
            next = blocks.after(p, tile, block);
            V_ring.wait_empty();
            const bool looked_at = kLookForNonfinite && blocks.may_hide(block);
            V_gmem.load<kPanelsV>(smem.V + V_ring.stage * kVBytes, V_map,
                                  looked_at ? smem.v_landed + V_ring.stage * 8 : V_ring.full(), block, issues);
            V_ring.advance();
            if (block > blocks.begin) V_gmem.find(next);
        }
    }
}

// Two warps. V at the edge of a tile goes on to the warpgroups from here.
__device__ __forceinline__ void look_for_nonfinite(const AttentionParams &p, const SharedMemory &smem, int looker) {
    constexpr int kLookersBarrier = 8;
    Ring<kStages> V_ring(smem.v_ring);
    u32_t landed_phases = 0;  // a bit per stage
    for (Tiles tiles = learn_tiles(p, smem); tiles.next();) {
        const QueryTile tile = tiles.tile();
        const Sequence sequence = find_sequence(p, tile.batch);
        TileBlocks blocks(p, Mask(p, sequence, tile.head), tile);
        for (int block = blocks.end - 1; block >= blocks.begin;
             block = blocks.after(p, tile, block), V_ring.advance()) {
            if (!blocks.may_hide(block)) continue;
            const int stage = V_ring.stage;
            mbarrier_wait(smem.v_landed + stage * 8, landed_phases >> stage & 1);
            landed_phases ^= 1u << stage;
            const u32_t V_smem = smem.V + stage * kVBytes;
            if constexpr (kForeignRows) {
                const int begin = sequence.first_key - block * kBlockN, end = sequence.seqlen_k - block * kBlockN;
                if (begin > 0 || end < kBlockN) {
                    zero_rows_outside<kBlockN, kVBytes, kLookers>(V_smem, begin, end, looker);
                }
            }
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
