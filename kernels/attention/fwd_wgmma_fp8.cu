// Attention forward of e4m3 on wgmma and TMA, sm_90a: O = softmax(mask(transform(Q K^T))) V, LSE, with Q, K, V and P in e4m3.
//
// As fwd_wgmma.cu, with one step more: wgmma takes 8-bit operands with neighbouring k side by side only, so two warps of the
// loading warpgroup transpose V (transpose_values.cuh), in an order of keys that lets P stay where S was computed.
//
// q_descale * k_descale goes into the scale of the softmax, v_descale into the last factor of O. P is taken times 2^8, so
// that it uses e4m3's range (narrow_softmax.cuh); sums of P and everything else are f32. The tensor core adds 8-bit
// products with 14 bits (docs/numerics.md).
//
// Macros from the plan: those of fwd_wgmma.cu, and ATTN_PROMOTED,
// ATTN_TOTAL_BLOCKS, ATTN_VT_STAGES, ATTN_PAIRS.
#include "attention/narrow_softmax.cuh"
#include "attention/narrow_total.cuh"
#include "attention/narrow_work.cuh"
#include "attention/stage_pair.cuh"
#include "attention/transpose_values.cuh"
#include "attention/transposed_columns.cuh"
#include "attention/turns.cuh"
#include "attention/warpgroup_scores.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/wgmma8.cuh"

constexpr int kStepK = 32;  // elements of k of one product

// Whether the tensor core sums over one block of keys only, and f32 additions over all of them: its own sums have 14 bits.
constexpr bool kPromoted = ATTN_PROMOTED;

// Blocks in pairs, the stages of each known, where there are two of K and V^T: P is where the next product wants it.
constexpr bool kPairs = ATTN_PAIRS;
static_assert(!kPairs || (kStages == 2 && kVtStages == 2 && !kPromoted && !Turns::kTaken && !ATTN_TRANSFORMED),
              "two stages, one O, no turns, scores as they come");

// Words of P that are packed before P V of the block before is waited for: those after them take the registers that it has
// read. Blocks of more than 96 keys lose by it (design/performance-log.md).
constexpr int kHead = kBlockN <= 96 ? kBlockN / 24 : kBlockN / 8;

// S = Q K^T   [64, kBlockN]
__device__ __forceinline__ void product_qk8(float (&S)[kBlockN / 2], u32_t Q_smem, u32_t K_smem) {
    constexpr u64_t kLayout = wgmma_descriptor_128b(0);
    const u64_t Q_rows = wgmma_descriptor(kLayout, Q_smem), K_rows = wgmma_descriptor(kLayout, K_smem);
#pragma unroll
    for (int k = 0; k < (kHeadDim + kStepK - 1) / kStepK; ++k) {
        const int panel = k / 4, bytes = k % 4 * kStepK;
        wgmma_e4m3_ss(S, Q_rows + (panel * kBlockM * kPanelRowBytes + bytes) / 16,
                      K_rows + (panel * kBlockN * kPanelRowBytes + bytes) / 16, k > 0);
    }
}

// O += P V   [64, kVDim], or O = P V
__device__ __forceinline__ void product_pv8(float (&O)[kVDim / 2], const u32_t (&P)[kBlockN / 8], u32_t Vt_smem,
                                            bool accumulate) {
    const u64_t Vt_rows = wgmma_descriptor(wgmma_descriptor_128b(0), Vt_smem);
#pragma unroll
    for (int k = 0; k < kBlockN / kStepK; ++k) {
        const int panel = k / 4, bytes = k % 4 * kStepK;
        wgmma_e4m3_rs(O, P + k * 4, Vt_rows + (panel * kVtRows * kPanelRowBytes + bytes) / 16, k > 0 || accumulate);
    }
}

// Of a tile, those that have rows.
__device__ __forceinline__ int warpgroups_of(const QueryTile &) { return kConsumers; }
__device__ __forceinline__ int warpgroups_of(const ShrunkTile &tile) { return tile.warpgroups; }

__device__ __forceinline__ void compute(const AttentionParams &p, const SharedMemory &smem, int warpgroup) {
    Tiles tiles = learn_tiles(p, smem);
    tiles.next();  // the grid has no more blocks than there are tiles
    Ring<kQStages> Q_ring(smem.q_ring);
    Ring<kStages> K_ring(smem.k_ring);
    Ring<kVtStages> Vt_ring(smem.vt_ring);
    const Turns turns(warpgroup);
    // Of this lane's element 0, in the tile. Worked out where wanted: the loops have no registers for them.
    const auto lane_row = [&]() { return warpgroup * 64 + warp_id() % 4 * 16 + lane_id() / 4; };
    const auto lane_key = [&]() { return lane_id() % 4 * 2; };
    const bool speaks = lane_id() == 0;  // for its warp

    float S[kBlockN / 2], O[kVDim / 2];
    float O_block[kVDim / 2];                             // where promoted
    float (&O_sum)[kVDim / 2] = kPromoted ? O_block : O;  // of the tensor core
    u32_t P[kBlockN / 8], P_next[kBlockN / 8];
    NarrowSoftmax softmax;
    Total total(smem.total, threadIdx.x - kWarpgroupSize);
    bool accumulate;
    int until_total = kTotalBlocks;

    // Issues S = Q K^T of the next block.
    const auto issue_qk = [&](const Stage &K) {
        registers_change(S);
        wgmma_fence();
        product_qk8(S, smem.Q + Q_ring.stage * kQBytes + warpgroup * 64 * kPanelRowBytes, smem.K + K.number * kKBytes);
        wgmma_commit_group();
    };
    // Issues O += P V of the block that P is of.
    const auto issue_pv = [&](const u32_t(&P)[kBlockN / 8], const Stage &Vt) {
        registers_change(O_sum);
        wgmma_fence();
        product_pv8(O_sum, P, smem.Vt + Vt.number * kVtBytes, accumulate && !kPromoted);
        wgmma_commit_group();
        accumulate = true;
    };
    // S is complete: gives back K, and after the last block Q, and makes the scores final.
    const auto finish_qk = [&](const Work &work) {
        registers_change(S);
        if (speaks) mbarrier_arrive(K_ring.empty());
        K_ring.advance();
        if (work.block == work.blocks.begin) {
            if (speaks) mbarrier_arrive(Q_ring.empty());
            Q_ring.advance();
        }
        const Mask mask(p, find_sequence(p, work.tile.batch), work.tile.head);
        const int query = work.tile.first_query + lane_row(), key = work.block * kBlockN + lane_key();
#if ATTN_TRANSFORMED
        const ScoreTransform transform(p, work.tile.batch, work.tile.head);
        ScorePlanes planes;  // none is read
        transform_scores(S, planes, 0, 0, transform, mask, query, key);
#endif
        if (work.blocks.at_edge(work.block)) mask_scores(S, mask, query, key);
    };
    // O is complete up to this block: gives back V^T, and adds what the product left out.
    const auto finish_pv = [&](const Work &work, int block, bool last) {
        registers_change(O_sum);
        if constexpr (kPromoted) {
#pragma unroll
            for (int i = 0; i < kVDim / 2; ++i) {
                O[i] = last ? O[i] + O_block[i] : fma_rn(O_block[i], softmax.rescale[i % 4 / 2], O[i]);
            }
        }
        if constexpr (kLookWhileTransposing) {
            const u32_t found = smem.found + Vt_ring.stage * 8;
            // Lane 0 gives the stage back, so lane 0 reads what the next round writes over.
            if (work.blocks.at_edge(block) && vote_any(speaks && (ld_shared(found) | ld_shared(found + 4)))) {
                const QueryTile &tile = work.tile;
                const u8_t *V_gmem = static_cast<const u8_t *>(p.V) + tile.batch * p.v_batch_stride +
                                     tile.head / p.heads_per_kv_head * p.v_head_stride;
                add_nan_columns(O, Mask(p, find_sequence(p, tile.batch), tile.head), V_gmem, p.v_row_stride,
                                tile.first_query + lane_row(), block * kBlockN, (block + 1) * kBlockN);
            }
        }
        if (speaks) mbarrier_arrive(Vt_ring.empty());
        Vt_ring.advance();
    };
    // P_next of S under the product of the block before, whose O is complete, and finish_pv runs, when kHead words of P_next are there.
    const auto softmax_step = [&](const Work &work, u32_t(&P_next)[kBlockN / 8], const auto &finish_pv) {
        float sums[kRowsPerLane];
        const bool follows = softmax.follow<false>(S, work.exponent_scale);
        softmax.powers<0, kHead>(P_next, sums, S, work.exponent_scale);
        softmax.hold(sums);  // or the compiler waits before the softmax
        // All warps of a warpgroup wait in one place, and not within the branch, which each takes for itself.
        wgmma_wait_group<0>();
        registers_change(O_sum);
        if (follows) softmax.rescale_output(O);
        finish_pv();
        softmax.powers<kHead, kBlockN / 8>(P_next, sums, S, work.exponent_scale);
        softmax.add<false>(sums);
        registers_change(P_next);
    };
    const auto count_blocks = [&](const Work &work) {
        if constexpr (kTotalBlocks > 0) {
            if (--until_total == 0) {
                until_total = kTotalBlocks;
                accumulate = false;
                total.add<false>(O, softmax.row_max, work.exponent_scale);
            }
        }
    };
    // One block further where all of S is seen and more blocks follow.
    const auto plain_turn = [&](const Work &work, const u32_t(&P)[kBlockN / 8], u32_t(&P_next)[kBlockN / 8],
                                const Stage &K, const Stage &Vt) {
        K.wait_full();
        issue_qk(K);
        Vt.wait_full();
        issue_pv(P, Vt);
        wgmma_wait_group<1>();
        registers_change(S);
        if (speaks) mbarrier_arrive(K.empty);
        softmax_step(work, P_next, [&]() {
            registers_change(O);
            if (speaks) mbarrier_arrive(Vt.empty);
        });
        count_blocks(work);
    };
    const auto finish_tile = [&](const Work &work) {
        finish_pv(work, work.block, true);
        if constexpr (kTotalBlocks > 0) total.add<true>(O, softmax.row_max, work.exponent_scale);
        float max_log2[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            max_log2[r] = softmax.row_max[r] * work.exponent_scale - NarrowRange::kOffset;
        }
        store_column_rows<Out>(p, O, max_log2, softmax.row_sum, Descales(p, work.tile.batch, work.tile.head).v,
                               find_sequence(p, work.tile.batch), work.tile.head, work.tile.first_query + lane_row());
    };
    // Whether this warpgroup has rows of the tile whose turn it is.
    const auto has_rows = [&]() { return warpgroup < warpgroups_of(tiles.tile()); };

    bool more = has_rows();
    if (more) {
        Work work(p, tiles.tile());
        Q_ring.wait_full();
        K_ring.wait_full();
        turns.wait();
        issue_qk(Stage(K_ring));
        turns.pass_on();
        wgmma_wait_group<0>();
        for (;;) {
            finish_qk(work);
            float sums[kRowsPerLane];
            softmax.follow<true>(S, work.exponent_scale);
            softmax.powers<0, kBlockN / 8>(P, sums, S, work.exponent_scale);
            softmax.add<true>(sums);
            if constexpr (kPromoted) {
#pragma unroll
                for (int i = 0; i < kVDim / 2; ++i) O[i] = 0.0f;
            }
            accumulate = false;
            until_total = kTotalBlocks;
            if constexpr (kTotalBlocks > 0) total.begin();
            const int first_plain = max(work.blocks.begin + 1, work.blocks.begin_whole);
            while (work.block > work.blocks.begin) {
                if constexpr (kPairs) {
                    if (work.block < work.blocks.end_whole && work.block - 2 >= first_plain) {
                        StagePair K(K_ring), Vt(Vt_ring);
                        do {
                            plain_turn(work, P, P_next, K.first, Vt.first);
                            plain_turn(work, P_next, P, K.second, Vt.second);
                            K.advance();
                            Vt.advance();
                            work.block -= 2;
                        } while (work.block - 2 >= first_plain);
                        K_ring.phase = K.first.phase;
                        Vt_ring.phase = Vt.first.phase;
                        continue;
                    }
                }
                K_ring.wait_full();
                turns.wait();
                issue_qk(Stage(K_ring));
                Vt_ring.wait_full();
                issue_pv(P, Stage(Vt_ring));
                turns.pass_on();

                --work.block;
                wgmma_wait_group<1>();
                finish_qk(work);
                softmax_step(work, P_next, [&]() { finish_pv(work, work.block + 1, false); });
                // Only now may anybody write the registers that the product reads.
#pragma unroll
                for (int i = 0; i < kBlockN / 8; ++i) P[i] = mov_b32(P_next[i]);
                count_blocks(work);
            }
            more = tiles.next();
            const bool goes_on = more && has_rows();
            Vt_ring.wait_full();
            turns.wait();
            if (!goes_on) break;
            // The last product runs while the next tile is found and begun.
            issue_pv(P, Stage(Vt_ring));
            turns.pass_on();
            const Work next(p, tiles.tile());
            Q_ring.wait_full();
            K_ring.wait_full();
            turns.wait();
            issue_qk(Stage(K_ring));
            turns.pass_on();
            wgmma_wait_group<1>();
            finish_tile(work);
            wgmma_wait_group<0>();
            work = next;
        }
        issue_pv(P, Stage(Vt_ring));
        turns.pass_on();
        wgmma_wait_group<0>();
        finish_tile(work);
        turns.end();
    } else {
        more = true;
    }
    if constexpr (kShrinks) {
        // Small tiles come last: this warpgroup lets their keys pass.
        for (; more; more = tiles.next()) {
            const QueryTile tile = tiles.tile();
            const KeyBlocks<kBlockN> blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query,
                                            kBlockM);
            let_pass(Q_ring, speaks);
            for (int block = blocks.end - 1; block >= blocks.begin; --block) {
                let_pass(K_ring, speaks);
                let_pass(Vt_ring, speaks);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerSM)
    attention_fwd_wgmma_fp8(const __grid_constant__ TensorMap Q_map, const __grid_constant__ TensorMap K_map,
                            const __grid_constant__ TensorMap V_map, const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(1024) unsigned char dynamic_smem[];
    const SharedMemory smem(smem_address(dynamic_smem));
    if (threadIdx.x == 0) {
        Ring<kQStages>::init(smem.q_ring, kConsumers * 4);
        Ring<kStages>::init(smem.k_ring, kConsumers * 4);
        Ring<kStages>::init(smem.v_ring, kTransposers);
        Ring<kVtStages>::init(smem.vt_ring, kConsumers * 4, kTransposers);
        fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_id() < 4) {
        setmaxnreg_dec<kLoadRegisters>();
        if (threadIdx.x == 0) {
            load_queries_and_keys(p, Q_map, K_map, K_map, K_map, smem);
        } else if (threadIdx.x == kWarpSize) {
            load_noted_values(p, V_map, smem);
        } else if (warp_id() >= 2) {
            transpose_values(smem, warp_id() - 2);
        }
    } else {
        setmaxnreg_inc<kComputeRegisters>();
        // The reduction changes nothing, but tells the compiler that all lanes have the same warpgroup: what depends on it
        // needs no registers of theirs.
        compute(p, smem, redux_max(warp_id() / 4 - 1));
    }
}
