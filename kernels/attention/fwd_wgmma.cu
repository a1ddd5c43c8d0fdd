// Attention forward on wgmma and TMA, sm_90a: O = softmax(mask(transform(Q K^T))) V, LSE.
//
// A block has one warpgroup that loads and kConsumers warpgroups that compute, each on 64 queries of the block's tile.
// K and V blocks go from the last to the first through rings in shared memory. The products run asynchronously: while
// the tensor core computes O += P V of one block, the softmax of the next is computed, and unless blocks may pass a
// warpgroup by, O is stored under the first product of the next tile. Blocks are persistent: each computes a row of tiles
// (schedule.cuh).
//
// Macros from the plan: ATTN_HEAD_DIM, ATTN_V_DIM, ATTN_CONSUMERS, ATTN_BLOCK_N, ATTN_STAGES, ATTN_Q_STAGES,
// ATTN_PLANE_STAGES (tiles of bias and mask in shared memory; 0: none), ATTN_TURNS (the warpgroups issue their products in
// turn), ATTN_PASSES (wgmma_tile.cuh), ATTN_BLOCKS_PER_SM, ATTN_PAGE_ROWS (keys that a copy takes out of a page; 0: no
// pages), ATTN_ELEMENT, ATTN_OUT, ATTN_BIAS_TILES, ATTN_MASK_TILES, ATTN_MASK_BLOCKS, and the features of features.py.
#include "attention/turns.cuh"
#include "attention/warpgroup_scores.cuh"
#include "attention/warpgroup_softmax.cuh"
#include "attention/warpgroup_store.cuh"
#include "attention/wgmma_load.cuh"
#include "attention/wgmma_products.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/wgmma.cuh"

// Whether maxima are looked for in every block: where scores take more than a product to compute again, and where products
// last so long that they hide the search.
constexpr bool kSearches = kTransformed || kHeadDim > 192;

// Whether the last product of a tile runs under the first of the next one. Where maxima are not searched for, ptxas would
// serialise all products (C7514).
constexpr bool kOverlapsTiles = kSearches && kHeadDim > 192;

// Scores of a lane whose exponentials are taken before the wait for O: those of the others hide that P is packed.
constexpr int kUnderProduct = kBlockN / 2 * 3 / 4 / 4 * 4;

// A tile under way: what a warpgroup must know of it. It computes the blocks that its own 64 queries see; others of the
// tile pass it by.
struct Work {
    QueryTile tile;
    int begin, end;           // blocks of the tile
    TileBlocks<true> blocks;  // of the warpgroup
    int block;                // that S or P is of

    __device__ __forceinline__ Work(const AttentionParams &p, const QueryTile &tile, int warpgroup)
        : tile(tile), blocks(p, Mask(p, find_sequence(p, tile.batch), tile.head), tile) {
        begin = blocks.begin;
        end = blocks.end;
        if constexpr (kPassesBlocks) {
            static_cast<KeyBlocks<kBlockN> &>(blocks) = KeyBlocks<kBlockN>(
                Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query + warpgroup * 64, 64);
            // Queries that see nothing get one of the tile's blocks, to be masked whole.
            blocks.begin = max(blocks.begin, begin);
            blocks.end = max(blocks.end, begin + 1);
        }
        block = blocks.end - 1;
    }
};

__device__ __forceinline__ void compute(const AttentionParams &p, const SharedMemory &smem, int warpgroup) {
    Tiles tiles = learn_tiles(p, smem);
    const bool any = tiles.next();
    if (ATTN_VARLEN_Q && !any) return;  // how many tiles there are was not known where the grid was chosen
    Ring<kQStages> Q_ring(smem.q_ring);
    Ring<kStages> K_ring(smem.k_ring), V_ring(smem.v_ring);
    Ring<kPlaneStages> plane_ring(smem.plane_ring);
    const Turns turns(warpgroup);
    const int warp_row = warpgroup * 64 + warp_id() % 4 * 16 + lane_id() / 4;  // of this lane's element 0, in the tile
    const int lane_key = lane_id() % 4 * 2;
    const bool speaks = lane_id() == 0;  // for its warp

    float S[kBlockN / 2], O[kVDim / 2];
    u32_t P[kBlockN / 4];
    ScorePlanes planes;
    RowSoftmax softmax;
    u32_t left_out = 0;  // nonzero where V of the tile had elements that are no number

    // Reads what bias and mask say of a block's scores, where no tile of them comes; the product hides the latency.
    const auto read_planes = [&](const QueryTile &tile, int block) {
        if constexpr (kPlanes && !kPlaneTiles) {
            planes.read(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query + warp_row,
                        block * kBlockN + lane_key);
        }
    };
    // Issues S = Q K^T of the next block. own: the warpgroup.
    const auto issue_qk = [&](int own) {
        registers_change(S);
        wgmma_fence();
        product_qk(S, smem.Q + Q_ring.stage * kQBytes + own * 64 * kPanelRowBytes, smem.K + K_ring.stage * kKBytes);
        wgmma_commit_group();
    };
    // Issues O += P V of the block that P is of.
    const auto issue_pv = [&]() {
        registers_change(O);
        wgmma_fence();
        product_pv(O, P, smem.V + V_ring.stage * kVBytes);
        wgmma_commit_group();
    };
    // Lets `count` blocks of K, V and planes pass, with the turns that they would have taken. The warpgroup must hold neither K
    // nor V meanwhile: the others may be waiting for the room.
    const auto pass = [&](int count) {
        for (; kPassesBlocks && count > 0; --count) {
            turns.wait();
            turns.pass_on();
            K_ring.wait_full();
            if (speaks) mbarrier_arrive(K_ring.empty());
            K_ring.advance();
            if constexpr (kPlaneTiles) {
                plane_ring.wait_full();
                if (speaks) mbarrier_arrive(plane_ring.empty());
                plane_ring.advance();
            }
            V_ring.wait_full();
            if (speaks) mbarrier_arrive(V_ring.empty());
            V_ring.advance();
        }
    };
    // S is complete and will not be computed again: gives back K, and after the last block Q.
    const auto give_back_k = [&](const Work &work) {
        if (speaks) mbarrier_arrive(K_ring.empty());
        K_ring.advance();
        if (work.block == work.blocks.begin) {
            if (speaks) mbarrier_arrive(Q_ring.empty());
            Q_ring.advance();
        }
    };
    // Makes the scores final.
    const auto finish_scores = [&](const Work &work) {
        const int query = work.tile.first_query + warp_row, key = work.block * kBlockN + lane_key;
        if constexpr (kTransformed) {
            const ScoreTransform transform(p, work.tile.batch, work.tile.head);
            if constexpr (kPlaneTiles) plane_ring.wait_full();
            transform_scores(S, planes, smem.planes + plane_ring.stage * kPlaneBytes, warp_row, transform,
                             Mask(p, find_sequence(p, work.tile.batch), work.tile.head), query, key);
            if constexpr (kPlaneTiles) {
                fence_proxy_async_shared();  // or the next copy may overtake these reads
                warp_sync();
                if (speaks) mbarrier_arrive(plane_ring.empty());
                plane_ring.advance();
            }
        }
        if (work.blocks.at_edge(work.block)) {
            mask_scores(S, Mask(p, find_sequence(p, work.tile.batch), work.tile.head), query, key);
        }
    };
    // O is complete up to this block: gives back V.
    const auto finish_pv = [&]() {
        registers_change(O);
        // Of a block that nobody looked at the flag is an earlier one's: then add_left_out looks in vain.
        if constexpr (kLookForNonfinite) left_out |= ld_shared(smem.found + V_ring.stage * 4);
        if (speaks) mbarrier_arrive(V_ring.empty());
        V_ring.advance();
    };
    // Adds to the rows of a stored tile what the products left out.
    const auto add_left_out = [&](const QueryTile &tile) {
        const Sequence sequence = find_sequence(p, tile.batch);
        const Mask mask(p, sequence, tile.head);
        const KeyBlocks<kBlockN> blocks(mask, tile.first_query, kBlockM);
        const u16_t *V_head = static_cast<const u16_t *>(p.V) + tile.head / p.heads_per_kv_head * p.v_head_stride;
        const KeyRows V_gmem = key_rows(p, sequence, V_head, p.v_batch_stride, p.v_row_stride);
        warp_sync();  // another lane of the quad stored the elements
#pragma unroll 1
        for (int block = blocks.begin; block < blocks.end; ++block) {
            if (!blocks.may_hide(block)) continue;
            add_nonfinite_rows<Element, kVDim>(output_rows<Out>(p, sequence, tile.head), p.o_row_stride,
                                               softmax.row_sum, mask, V_gmem, tile.first_query + warp_row,
                                               block * kBlockN, (block + 1) * kBlockN);
        }
        left_out = 0;
    };
    const auto finish_tile = [&](const Work &work) {
        finish_pv();
        store_rows<Out>(p, O, softmax.row_max, softmax.row_sum, find_sequence(p, work.tile.batch), work.tile.head,
                        work.tile.first_query + warp_row);
        if (kLookForNonfinite && left_out) add_left_out(work.tile);
    };

    // Issues the first S = Q K^T of a tile.
    const auto begin_tile = [&](const Work &work) {
        read_planes(work.tile, work.block);
        Q_ring.wait_full();
        K_ring.wait_full();
        turns.wait();
        // As a number of its own: else descriptors are kept in registers from tile to tile.
        issue_qk(redux_max(warpgroup));
        turns.pass_on();
    };

    Work work(p, tiles.tile(), warpgroup);
    pass(work.end - work.blocks.end);
    begin_tile(work);
    wgmma_wait_group<0>();
    for (;;) {
        registers_change(S);
        give_back_k(work);
        finish_scores(work);
        softmax.step<true>(S, p.exponent_scale);
        pack_p(P, S);
#pragma unroll
        for (int i = 0; i < kVDim / 2; ++i) O[i] = 0.0f;
        int next_block = work.blocks.after(p, work.tile, work.block);  // found under products from here on
        while (work.block > work.blocks.begin) {
            // Nobody looks for maxima in blocks that all queries see whole, until P says that one has grown: then S is
            // computed again.
            bool searches, again = false;
            do {
                read_planes(work.tile, next_block);
                const bool V_landed = V_ring.is_full();
                K_ring.wait_full();
                turns.wait();
                issue_qk(warpgroup);
                if (!V_landed) V_ring.wait_full();
                issue_pv();
                turns.pass_on();

                work.block = next_block;
                next_block = work.blocks.after(p, work.tile, work.block);
                wgmma_wait_group<1>();
                registers_change(S);
                searches = kSearches || work.blocks.at_edge(work.block);
                if (searches) break;
                softmax.step_below<0, kUnderProduct>(S, p.exponent_scale);
                registers_change(S);
                softmax.hold_part();  // or the compiler waits before the softmax, which is to run under the product
                wgmma_wait_group<0>();
                finish_pv();
                softmax.step_below<kUnderProduct, kBlockN / 2>(S, p.exponent_scale);
                pack_p(P, S);
                // All warps of a warpgroup issue a product, or none.
                searches = again = warpgroup_any(warpgroup, softmax.outgrown());
                if (searches) break;
                softmax.add_sums();
                give_back_k(work);
            } while (work.block > work.blocks.begin);
            if (!searches) break;
            if (again) {
                issue_qk(warpgroup);
                wgmma_wait_group<0>();
                registers_change(S);
            }
            give_back_k(work);
            finish_scores(work);
            softmax.step<false>(S, p.exponent_scale, again);
            registers_change(S);
            softmax.hold();
            wgmma_wait_group<0>();
            registers_change(O);
            if (softmax.rescales()) softmax.rescale_output(O);
            if (!again) finish_pv();
            registers_change(S);
            pack_p(P, S);
        }
        const bool more = tiles.next();
        V_ring.wait_full();
        turns.wait();
        if (!more) break;
        issue_pv();
        turns.pass_on();
        const Work next(p, tiles.tile(), warpgroup);
        if constexpr (kPassesBlocks) {
            wgmma_wait_group<0>();
            finish_tile(work);
            pass(work.blocks.begin - work.begin + next.end - next.blocks.end);
            begin_tile(next);
        } else {  // O is stored under the first product of the next tile
            if constexpr (!kOverlapsTiles) {
                wgmma_wait_group<0>();
                registers_change(O);
            }
            begin_tile(next);
            if constexpr (kOverlapsTiles) wgmma_wait_group<1>();
            finish_tile(work);
        }
        wgmma_wait_group<0>();
        work = next;
    }
    issue_pv();
    turns.pass_on();
    wgmma_wait_group<0>();
    finish_tile(work);
    pass(work.blocks.begin - work.begin);
    turns.end();
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerSM)
    attention_fwd_wgmma(const __grid_constant__ TensorMap Q_map, const __grid_constant__ TensorMap K_map,
                        const __grid_constant__ TensorMap V_map,
#if ATTN_BIAS_TILES
                        const __grid_constant__ TensorMap bias_map,
#endif
#if ATTN_MASK_TILES
                        const __grid_constant__ TensorMap mask_map,
#endif
                        const __grid_constant__ AttentionParams p) {
    // Of what does not come in tiles there is no map, and none is read.
#if !ATTN_BIAS_TILES
    const TensorMap &bias_map = Q_map;
#endif
#if !ATTN_MASK_TILES
    const TensorMap &mask_map = Q_map;
#endif
    extern __shared__ __align__(1024) unsigned char dynamic_smem[];
    const SharedMemory smem(smem_address(dynamic_smem));
    if (threadIdx.x == 0) {
        Ring<kQStages>::init(smem.q_ring, kConsumers * 4);
        Ring<kStages>::init(smem.k_ring, kConsumers * 4);
        Ring<kStages>::init(smem.v_ring, kConsumers * 4);
        Ring<kPlaneStages>::init(smem.plane_ring, kConsumers * 4);
        for (int i = 0; i < kStages; ++i) {
            mbarrier_init(smem.v_landed + i * 8, 1);
            if (kLookForNonfinite) st_shared(smem.found + i * 4, 0);
        }
#if ATTN_VARLEN_Q
        Ring<TileRing::kStages>::init(smem.tiles, kToldWarps);
#endif
        fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_id() < 4) {
        setmaxnreg_dec<kLoadRegisters>();
        if (kWarpsLoad ? warp_id() == 0 : threadIdx.x == 0) {
            load_queries_and_keys(p, Q_map, K_map, bias_map, mask_map, smem);
        } else if (kWarpsLoad ? warp_id() == 1 : threadIdx.x == kWarpSize) {
            load_values(p, V_map, smem);
        } else if (kLookForNonfinite && warp_id() >= 2) {
            look_for_nonfinite(p, smem, threadIdx.x - 2 * kWarpSize);
        }
    } else {
        setmaxnreg_inc<kComputeRegisters>();
        // The reduction changes nothing, but tells the compiler that all lanes have the same warpgroup: what depends on it
        // needs no registers of theirs.
        compute(p, smem, redux_max(warp_id() / 4 - 1));
    }
}
