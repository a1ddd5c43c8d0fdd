// Attention forward on mma.sync, sm_80 and later: O = softmax(mask(transform(Q K^T))) V, LSE.
//
// One block computes kBlockM queries of one head; each warp owns kMTiles * 16 of them for the whole loop over the key
// blocks, so the softmax never leaves a quad of lanes. K and V have two stages: the copies of the next block run while one
// is computed, by bulk copies (bulk_keys.cuh) or by the threads (copied_keys.cuh). P stays in registers: two neighbouring
// 16x8 accumulator blocks of S, packed to 16 bits, are the A fragment of the second product.
//
// A block of keys is taken in kParts parts: S of a part is issued before the softmax of the one before, whose exponentials
// then stand between products, and fewer scores are in registers at a time than there are keys between two barriers.
//
// Where O of 32 rows is too wide for the registers of a warp, two share them (kSharers, warp_pair.cuh): each computes S for
// half of the keys and half of the columns of O. Or kVParts blocks share the columns: each computes S whole and kVDim of them.
// With kApart the warps do not wait for each other at each block of keys (key_stages.cuh).
//
// Macros from the plan: ATTN_HEAD_DIM, ATTN_V_DIM (of one part), ATTN_V_PARTS, ATTN_SHARERS, ATTN_PARTS, ATTN_APART,
// ATTN_TMA (K and V come by bulk copies, through the tensor maps before the params), ATTN_MEET (bulk_keys.cuh),
// ATTN_BLOCK_M, ATTN_BLOCK_N, ATTN_WARPS, ATTN_BLOCKS_PER_SM, ATTN_ELEMENT (f16_t, bf16_t), ATTN_OUT (of O), and the
// features of features.py, each 0 or 1.
#include "attention/block_rows.cuh"
#include "attention/bulk_keys.cuh"
#include "attention/copied_keys.cuh"
#include "attention/epilogue.cuh"
#include "attention/mask_blocks.cuh"
#include "attention/params.cuh"
#include "attention/products.cuh"
#include "attention/sequence.cuh"
#include "attention/warp_pair.cuh"
#include "attention/warp_planes.cuh"

using Element = ATTN_ELEMENT;
constexpr int kHeadDim = ATTN_HEAD_DIM;
constexpr int kVDim = ATTN_V_DIM;
constexpr int kVParts = ATTN_V_PARTS;
constexpr int kBlockM = ATTN_BLOCK_M;
constexpr int kBlockN = ATTN_BLOCK_N;
constexpr int kWarps = ATTN_WARPS;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kSharers = ATTN_SHARERS;  // warps that have the same rows
constexpr int kMTiles = kBlockM * kSharers / (16 * kWarps);
constexpr int kParts = ATTN_PARTS, kPartKeys = kBlockN / kParts;
constexpr int kNTiles = kPartKeys / kSharers / 8;  // of a warp's share of the keys of a part
constexpr int kDTiles = kVDim / kSharers / 8;      // of its share of the columns
constexpr int kSteps = kNTiles / 2;
constexpr int kStages = KeyPlaces::kStages;
constexpr bool kApart = ATTN_APART;
constexpr bool kBulk = ATTN_TMA;                // blocks of keys come by bulk copies
constexpr bool kQInRegisters = kHeadDim <= 64;  // there is room for its fragments

// Bulk copies write each panel of a tile by itself.
using QTile = Tile<kBlockM, kHeadDim, kBulk>;
using KTile = Tile<kBlockN, kHeadDim, kBulk>;
using VTile = Tile<kBlockN, kVDim, kBulk>;
// They leave registers for addresses that stay for all blocks, but of K where wide blocks are taken in parts: there ptxas
// spills unless it finds the text in this form, and for sm_100 in another.
constexpr bool kScarce = kParts > 1 && kHeadDim > 64;
constexpr bool kKeepsKeys = kBulk && !kScarce;
constexpr bool kKeysByXor = kKeepsKeys || kHeadDim > 128 || (kBulk && __CUDA_ARCH__ < 1000);
using QAddress = FragmentAddress<QTile, QuadOrder::rows_then_chunks, kBulk || (kHeadDim > 128)>;
using KAddress = FragmentAddress<KTile, QuadOrder::chunks_then_rows, kKeysByXor>;
using VAddress = FragmentAddress<VTile, QuadOrder::rows_then_chunks, kBulk || (kVDim > 64)>;
using Sharers = SharersOf<kSharers, kMTiles, kBlockN, kParts>::Type;
#if ATTN_TMA
using Keys = BulkKeys<Element, KTile, VTile, kThreads, ATTN_MEET>;
#else
using Keys = CopiedKeys<Element, KTile, VTile, kThreads, kApart>;
#endif
using Planes = WarpPlanes<kMTiles, kBlockN / kSharers>;
static_assert(kParts == 1 || !kApart, "blocks in parts are computed by all warps together");
static_assert(kParts == 1 || kSharers == 1, "the keys of a warp are neighbours");

// A value that is the same in all lanes. From a shuffle the compiler knows it, and what depends on it goes to uniform
// registers: bias and mask need the others.
__device__ __forceinline__ int uniform(int value) { return kPlanes ? shfl_idx(value, 0) : value; }

extern "C" __global__ void __launch_bounds__(kThreads, ATTN_BLOCKS_PER_SM)
#if ATTN_TMA
    attention_fwd_mma(const __grid_constant__ TensorMap K_map, const __grid_constant__ TensorMap V_map,
                      const __grid_constant__ AttentionParams p) {
#else
    attention_fwd_mma(const __grid_constant__ AttentionParams p) {
#endif
    extern __shared__ __align__(ATTN_TMA ? 1024 : 128) unsigned char smem[];
#if ATTN_TMA
    if (threadIdx.x == 0) {
        prefetch_tensormap(K_map);
        prefetch_tensormap(V_map);
    }
#endif
    const u32_t Q_tile = smem_address(smem);
    const u32_t K_tiles = Q_tile + QTile::kBytes;
    const u32_t V_tiles = K_tiles + kStages * KTile::kBytes;

    const int v_part = static_cast<int>(blockIdx.x % kVParts);
    const int row_block = static_cast<int>(blockIdx.x / kVParts);
    const BlockRows<kBlockM> block_rows(p, row_block);
    if (!block_rows.exists) return;
    const int head = block_rows.head, block_query = block_rows.first_query;
    const Sequence &sequence = block_rows.sequence;
    const int last_query = min(block_query + kBlockM, sequence.seqlen_q) - 1;
    const int kv_head = head / p.heads_per_kv_head;

    const GmemRows Q_gmem{static_cast<const u16_t *>(p.Q) + sequence.batch * p.q_batch_stride +
                              sequence.q_row * p.q_row_stride + head * p.q_head_stride,
                          p.q_row_stride};
    const KeyRows K_gmem = key_rows(p, sequence, static_cast<const u16_t *>(p.K) + kv_head * p.k_head_stride,
                                    p.k_batch_stride, p.k_row_stride);
    const KeyRows V_gmem =
        key_rows(p, sequence, static_cast<const u16_t *>(p.V) + kv_head * p.v_head_stride + v_part * kVDim,
                 p.v_batch_stride, p.v_row_stride);

    // Key blocks that some query of the tile sees, and among them those that every query sees whole, but for what bias and
    // mask hide.
    const Mask mask(p, sequence, head);
    int begin_block = mask.first_key(block_query) / kBlockN;
    int end_block = (mask.end_key(last_query) + kBlockN - 1) / kBlockN;
    const int begin_whole = (mask.first_key(last_query) + kBlockN - 1) / kBlockN;
    const int end_whole = kPlanes ? 0 : mask.end_key(block_query) / kBlockN;

    const QueryTile query_tile{sequence.batch, head, block_query};
    MaskBlocks<kBlockM, kBlockN, true> left_blocks;
    if (begin_block < end_block) left_blocks.cut(p, query_tile, begin_block, end_block);

    const Sharers sharers(V_tiles + kStages * VTile::kBytes);
    const int warp = uniform(warp_id());
    const int warp_row = warp / kSharers * (kMTiles * 16);
    const int warp_query = block_query + warp_row;
    const int lane_query = warp_query + lane_id() / 4;  // query of this lane's element 0
    const int lane_key = lane_id() % 4 * 2;             // key of it within a block
    // The same of what the warp's queries see.
    const int last_warp_query = min(warp_query + kMTiles * 16, sequence.seqlen_q) - 1;
    const int begin_warp_whole = (mask.first_key(last_warp_query) + kBlockN - 1) / kBlockN;
    const int end_warp_whole = mask.end_key(warp_query) / kBlockN;
    const QAddress Q_smem = kept<kBulk>(QAddress(Q_tile, warp_row));
    // This lane's addresses of its warp's keys, and of their V from its warp's columns on, in the first stage.
    const KAddress K_first = kept<kKeepsKeys>(KAddress(K_tiles, sharers.rank * kNTiles * 8));
    const VAddress V_first = kept<kBulk>(VAddress(V_tiles, sharers.rank * kSteps * 16).beside(sharers.rank));
    // The same in another stage, from the first key of a part on. Narrow tiles keep the addresses of one part for all.
    const auto at_part = [](auto first, u32_t bytes, int part) {
        const int row = part * kPartKeys;
        const auto address = first.moved(bytes);
        return kHeadDim <= 64 ? address.below(row) : address.moved(row * address.kRowBytes);
    };

    float O_acc[kMTiles][kDTiles][4];
    zero(O_acc);
    OnlineSoftmax<kMTiles> softmax;
    const ScoreTransform transform(p, sequence.batch, head);
    const QueryRows rows{mask, transform, lane_query};

#if ATTN_TMA
    const TensorMap *const maps[] = {&K_map, &V_map};
#else
    constexpr const TensorMap *maps[] = {nullptr, nullptr};
#endif
    const u32_t barriers = V_tiles + kStages * VTile::kBytes + kWarps / kSharers * Sharers::kBytes;
    const Keys keys(KeyPlaces{K_tiles, V_tiles, barriers, begin_block, end_block, sequence.seqlen_k, K_gmem, V_gmem,
                              maps[0], maps[1], static_cast<int>(sequence.k_row), kv_head,
                              ATTN_VARLEN_K ? 0 : sequence.batch, v_part * kVDim});
    const Planes planes(barriers + Keys::kBarrierBytes, warp);
    // Copies bias and mask of a block.
    const auto copy_planes = [&](int block) {
        if constexpr (kPlaneTiles) {
            planes.copy(mask, warp_query, block * kBlockN + sharers.rank * kNTiles * 8);
        }
    };
    // Waits for them. Groups of copies: K and V of a block, or none where mbarriers tell of them, then its bias and mask.
    const auto wait_planes = [&]() {
        if constexpr (kPlaneTiles) {
            cp_async_wait_group<kApart ? 0 : 1>();
            warp_sync();
        }
    };
    keys.init();
    if (begin_block < end_block) {
        load_tile<QTile, kThreads>(Q_tile, Q_gmem, block_query, sequence.seqlen_q);
        keys.copy_first();
        copy_planes(end_block - 1);
    }
    keys.settle();
    u32_t Q_frag[kHeadDim / 16][kMTiles][4];
    const auto read_queries = [&]() {
#pragma unroll
        for (int k = 0; k < kHeadDim / 16; ++k) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) ldmatrix_x4(Q_frag[k][m], Q_smem.at(m * 16, k));
        }
    };
    if constexpr (kBulk && kQInRegisters) {
        if (begin_block < end_block) read_queries();
    }
    const auto scores = [&](float (&S_acc)[kMTiles][kNTiles][4], u32_t K_tile, int part, int first_key) {
        const KAddress K_smem = kBulk ? at_part(K_first, K_tile - K_tiles, part)
                                      : KAddress(K_tile, part * kPartKeys + sharers.rank * kNTiles * 8);
        if constexpr (kQInRegisters) {
            product_qk<Element>(S_acc, Q_frag, K_smem);
        } else {
            product_qk<Element, kHeadDim>(S_acc, Q_smem, K_smem);
        }
        if constexpr (kPlaneTiles) {
            wait_planes();
            planes.transform_scores(S_acc, rows, first_key, part * kPartKeys);
        } else {
            transform_scores(S_acc, rows, first_key);
        }
    };

    // O += P V for the keys of the warp of that rank, given steps of 16 of its P.
    const auto values = [&](u32_t V_tile, int part, int rank) {
        if constexpr (!kBulk) {
            return VAddress(V_tile, part * kPartKeys + rank * kSteps * 16).beside(sharers.rank);
        } else {
            const u32_t rows = (rank - sharers.rank) * kSteps * 16 * VTile::kRowBytes;
            return at_part(V_first, V_tile - V_tiles + rows, part);
        }
    };

    bool started = false;  // all rows of the warp have a maximum
    // One block of keys, the turn-th. all_see: whether it is known that every query of the tile sees it whole.
    const auto compute = [&](auto all_see, int block, int next_block, u32_t turn) {
        constexpr bool kWhole = decltype(all_see)::value;
        const u32_t stage = turn % kStages;
        const u32_t K_tile = K_tiles + stage * KTile::kBytes, V_tile = V_tiles + stage * VTile::kBytes;
        const bool all_whole = kWhole || (block >= begin_whole && block < end_whole);
        const bool nonfinite = keys.wait(block, next_block, turn, all_whole);
        if constexpr (kQInRegisters && !kBulk) {
            if (block == end_block - 1) read_queries();
        }
        const bool whole = kWhole || (block >= begin_warp_whole && block < end_warp_whole);
        const int first_key = block * kBlockN + sharers.rank * kNTiles * 8 + lane_key;
        // What no row of the warp sees changes nothing.
        const auto seen = [&](int part) {
            const int begin = block * kBlockN + part * kPartKeys;
            if (kWhole) return true;
            return (!ATTN_WINDOW || begin < mask.end_key(warp_query + kMTiles * 16 - 1)) &&
                   (!ATTN_WINDOW_LEFT || begin + kPartKeys > mask.first_key(warp_query));
        };
        // P of a part, whatever it is.
        const auto probabilities = [&](u32_t(&P_frag)[kSteps][kMTiles][4], int part) {
            float S_acc[kMTiles][kNTiles][4], rescale[kMTiles][kRowsPerLane];
            scores(S_acc, K_tile, part, first_key + part * kPartKeys);
            if (!whole) mask_scores(S_acc, rows, first_key + part * kPartKeys);
            softmax.step(S_acc, rescale, p.exponent_scale, sharers);
            if (any_rescale(rescale)) rescale_output(O_acc, rescale);
            started = softmax.started();
#pragma unroll
            for (int k = 0; k < kSteps; ++k) probability_fragment<Element>(P_frag[k], S_acc, k);
            sharers.part(block, part).publish(P_frag);
            sharers.sync();
        };
        const auto add_values = [&](const u32_t(&P_frag)[kSteps][kMTiles][4], int part) {
            const VAddress V_own = values(V_tile, part, sharers.rank);
#pragma unroll
            for (int k = 0; k < kSteps; ++k) product_pv<Element, kSharers>(O_acc, P_frag[k], V_own, k * 16);
            sharers.part(block, part).add_product_of_other<Element>(O_acc, values(V_tile, part, sharers.rank ^ 1));
        };
        // No more scores of this block will be computed: bias and mask of the next may come.
        const auto next_planes = [&]() {
            if (!kPlaneTiles || block == begin_block) return;
            wait_planes();  // where nothing was seen, nobody has
            copy_planes(next_block);
        };
        if constexpr (kParts == 1) {
            u32_t P_frag[kSteps][kMTiles][4];
            if (seen(0)) {
                bool below = false;
                if (whole && started) {
                    float S_acc[kMTiles][kNTiles][4];
                    scores(S_acc, K_tile, 0, first_key);
                    below = softmax.step_below<Element>(P_frag, S_acc, p.exponent_scale, sharers.part(block, 0));
                }
                if (!below) probabilities(P_frag, 0);
            }
            next_planes();
            keys.scored(block, next_block, turn);
            if (seen(0)) add_values(P_frag, 0);
        } else {
            int left = kParts;  // parts that are still to be taken, from the last one on
            if (whole && started) {
                float S_acc[kParts][kMTiles][kNTiles][4];
                scores(S_acc[kParts - 1], K_tile, kParts - 1, first_key + (kParts - 1) * kPartKeys);
#pragma unroll
                for (int part = kParts - 1; part >= 0; --part) {
                    if (part > 0) scores(S_acc[part - 1], K_tile, part - 1, first_key + (part - 1) * kPartKeys);
                    u32_t P_frag[kSteps][kMTiles][4];
                    if (!softmax.step_below<Element>(P_frag, S_acc[part], p.exponent_scale, sharers)) break;
                    add_values(P_frag, part);
                    left = part;
                }
            }
#pragma unroll 1
            for (int part = left - 1; part >= 0; --part) {
                if (!seen(part)) continue;
                u32_t P_frag[kSteps][kMTiles][4];
                probabilities(P_frag, part);
                add_values(P_frag, part);
            }
            next_planes();
        }
        keys.read(block, turn);
        if (!kWhole && nonfinite) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                add_nonfinite_rows<Element>(reinterpret_cast<float (&)[kDTiles * 4]>(O_acc[m]), sharers, mask, V_gmem,
                                            lane_query + m * 16, block * kBlockN, (block + 1) * kBlockN);
            }
        }
    };
    int block = end_block - 1;
    u32_t turn = 0;
    if constexpr (kBulk) {  // blocks that all queries see whole have a loop with nothing but what they need
        while (block >= begin_block) {
            for (; block >= begin_block && (block >= end_whole || block < begin_whole); --block, ++turn) {
                compute(Known<false>(), block, block - 1, turn);
            }
            for (; block >= max(begin_block, begin_whole); --block, ++turn) {
                compute(Known<true>(), block, block - 1, turn);
            }
            if (!ATTN_WINDOW_LEFT && kSharers > 1)
                break;  // only a window has a left edge; ptxas does better if it knows
        }
    } else {
        for (int next_block; block >= begin_block; block = next_block, ++turn) {
            next_block = left_blocks.before(p, query_tile, begin_block, block);
            compute(Known<false>(), block, next_block, turn);
        }
    }
    sharers.join_sums(softmax.row_sum);
    if constexpr (kPlanes) {  // or what was known of the block would have been in registers all the time
        const int block = fresh_block_id();
        const BlockRows<kBlockM> again(p, block / kVParts);
        store_output<ATTN_OUT>(p, O_acc, softmax, sharers, again.sequence, again.head, again.first_query + warp_row,
                               block % kVParts);
    } else {
        store_output<ATTN_OUT>(p, O_acc, softmax, sharers, sequence, head, block_query + warp_row, v_part);
    }
}
