// V^T of e4m3 for the tensor core, which takes 8-bit B with neighbouring k side by side only: two warps of the loading
// warpgroup transpose each V block from one ring into another.
//
// ldmatrix.trans moves pairs of bytes: of 8 keys x 16 columns, lane (g = l / 4, t = l % 4) gets keys 2t, 2t + 1 at columns
// 2g, 2g + 1. With the register of the next 8 keys, one byte_perm gives column 2g and one column 2g + 1, each at the keys
//
//     2t, 2t + 1, 8 + 2t, 8 + 2t + 1
//
// which are the very keys of a row of S that lane t of a quad holds in two neighbouring blocks of its accumulators: four
// neighbours of k in the A fragment of P (pack_p8). So 16 keys stand in this order in V^T, and P needs no shuffle.
//
// stmatrix stores the registers of the even columns as rows 0 - 7 of 16, those of the odd ones as rows 8 - 15: eight rows
// in a line fall into different banks. O's columns come out in that order (transposed_columns.cuh).
#pragma once
#include "attention/nonfinite_tile.cuh"
#include "attention/ring.cuh"
#include "attention/schedule.cuh"
#include "attention/wgmma_load.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/packed.cuh"
#include "ptx/stmatrix.cuh"
#include "ptx/tma.cuh"

constexpr int kTransposers = 2;  // warps

// Only a window hides keys that exist.
constexpr bool kLookWhileTransposing = kTransposesV && ATTN_WINDOW;

// The even and the odd columns of the keys that two registers of ldmatrix.trans hold.
__device__ __forceinline__ void split_columns(u32_t (&columns)[4], const u32_t (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        columns[i] = byte_perm(r[i], r[i + 1], 0x6420);
        columns[i + 1] = byte_perm(r[i], r[i + 1], 0x7531);
    }
}

// Transposes this warp's share of a block: groups of 16 keys. With kZeroed NaN become zeros. Returns what nonfinite_bits
// finds.
template <bool kZeroed>
__device__ __forceinline__ u32_t transpose_share(u32_t V_smem, u32_t Vt_smem, int warp) {
    constexpr int kPairs = kVtRows / 32;                                       // of 16-byte chunks of V
    constexpr int kBatch = kPairs % 2 == 0 && !kLookWhileTransposing ? 2 : 1;  // as many as do not spill
    const int lane = lane_id();
    const u32_t V_row = V_smem + lane % 16 * kPanelRowBytes;
    const u32_t V_chunk = (lane / 16 ^ lane % 8) * 16;
    const u32_t Vt_row = Vt_smem + lane * kPanelRowBytes;
    u32_t found = 0;
#pragma unroll 1
    for (int group = warp; group < kBlockN / 16; group += kTransposers) {
        const u32_t from = V_row + group * 16 * kPanelRowBytes;
        const u32_t to = Vt_row + group / 8 * (kVtRows * kPanelRowBytes) + (group % 8 ^ lane % 8) * 16;
#pragma unroll
        for (int first = 0; first < kPairs; first += kBatch) {
            u32_t r[kBatch][4];
#pragma unroll
            for (int i = 0; i < kBatch; ++i) {
                const int panel = (first + i) / 4, pair = (first + i) % 4;
                ldmatrix_x4_trans(r[i], from + panel * kBlockN * kPanelRowBytes + (V_chunk ^ pair * 32));
            }
#pragma unroll
            for (int i = 0; i < kBatch; ++i) {
                if constexpr (kLookWhileTransposing) {
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        found |= nonfinite_bits<Element>(r[i][j]);
                        if (kZeroed) r[i][j] &= ~nonfinite_mask<Element>(r[i][j]);
                    }
                }
                u32_t columns[4];
                split_columns(columns, r[i]);
                stmatrix_x4(to + (first + i) * 32 * kPanelRowBytes, columns);
            }
        }
    }
    return found;
}

// What the thread that loads V tells of a block: it alone counts tiles and blocks.
enum Note : u32_t { kWhole, kAtEdge, kNoMore };

__device__ __forceinline__ void load_noted_values(const AttentionParams &p, const TensorMap &V_map,
                                                  const SharedMemory &smem) {
    Ring<kStages> V_ring(smem.v_ring);
    for (Tiles tiles = learn_tiles(p, smem); tiles.next();) {
        const QueryTile tile = tiles.tile();
        const KeyBlocks<kBlockN> blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM);
        for (int block = blocks.end - 1; block >= blocks.begin; --block) {
            V_ring.wait_empty();
            st_shared(smem.notes + V_ring.stage * 4, blocks.at_edge(block) ? kAtEdge : kWhole);
            load_panels<kBlockN, kPanelsV>(smem.V + V_ring.stage * kVBytes, V_map, V_ring.full(), block * kBlockN,
                                           tile.head / p.heads_per_kv_head, tile.batch, kEvictLast);
            V_ring.advance();
        }
    }
    V_ring.wait_empty();
    st_shared(smem.notes + V_ring.stage * 4, kNoMore);
    mbarrier_arrive(V_ring.full());
}

// kTransposers warps.
__device__ __forceinline__ void transpose_values(const SharedMemory &smem, int warp) {
    Ring<kStages> V_ring(smem.v_ring);
    Ring<kVtStages> Vt_ring(smem.vt_ring);
    for (;; V_ring.advance(), Vt_ring.advance()) {
        V_ring.wait_full();
        // Lane 0 gives the stage back, so lane 0 reads what the next round writes over.
        const int seen = lane_id() == 0 ? static_cast<int>(ld_shared(smem.notes + V_ring.stage * 4)) : 0;
        const u32_t note = static_cast<u32_t>(shfl_idx(seen, 0));
        if (note == kNoMore) break;
        Vt_ring.wait_empty();
        const u32_t V_smem = smem.V + V_ring.stage * kVBytes, Vt_smem = smem.Vt + Vt_ring.stage * kVtBytes;
        const u32_t nonfinite = transpose_share<false>(V_smem, Vt_smem, warp);
        if constexpr (kLookWhileTransposing) {
            // In blocks that all queries see whole, NaN may go through the product.
            const bool found = note == kAtEdge && vote_any(nonfinite != 0);
            if (found) transpose_share<true>(V_smem, Vt_smem, warp);
            if (lane_id() == 0) st_shared(smem.found + (Vt_ring.stage * 2 + warp) * 4, found);
        }
        fence_proxy_async_shared();
        warp_sync();
        if (lane_id() == 0) {
            mbarrier_arrive(V_ring.empty());
            mbarrier_arrive(Vt_ring.full());
        }
    }
}
