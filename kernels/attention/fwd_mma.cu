// Attention forward on mma.sync, sm_80 and later: O = softmax(mask(transform(Q K^T))) V, LSE.
//
// One block computes kBlockM queries of one head; each warp owns kMTiles * 16 of them for the whole loop over the key
// blocks, so the softmax never leaves a quad of lanes. K and V are double-buffered: the copies of block j + 1 run while
// block j is computed. P stays in registers: two neighbouring 16x8 accumulator blocks of S, packed to 16 bits, are the
// A fragment of the second product.
//
// Where O is too wide for the registers, kVParts blocks share the work on it: each computes S whole and kVDim columns of O.
//
// Macros from the plan: ATTN_HEAD_DIM, ATTN_V_DIM (of one part), ATTN_V_PARTS, ATTN_BLOCK_M, ATTN_BLOCK_N, ATTN_WARPS, ATTN_BLOCKS_PER_SM, ATTN_ELEMENT
// (f16_t, bf16_t), ATTN_OUT (of O), and the features of features.py, each 0 or 1.
#include "attention/epilogue.cuh"
#include "attention/nonfinite_copied.cuh"
#include "attention/params.cuh"
#include "attention/products.cuh"
#include "attention/sequence.cuh"

using Element = ATTN_ELEMENT;
constexpr int kHeadDim = ATTN_HEAD_DIM;
constexpr int kVDim = ATTN_V_DIM;
constexpr int kVParts = ATTN_V_PARTS;
constexpr int kBlockM = ATTN_BLOCK_M;
constexpr int kBlockN = ATTN_BLOCK_N;
constexpr int kWarps = ATTN_WARPS;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kMTiles = kBlockM / (16 * kWarps);
constexpr int kNTiles = kBlockN / 8;
constexpr int kDTiles = kVDim / 8;
constexpr int kStages = 2;
constexpr bool kQInRegisters = kHeadDim <= 64;  // there is room for its fragments

using QTile = Tile<kBlockM, kHeadDim>;
using KTile = Tile<kBlockN, kHeadDim>;
using VTile = Tile<kBlockN, kVDim>;

extern "C" __global__ void __launch_bounds__(kThreads, ATTN_BLOCKS_PER_SM)
    attention_fwd_mma(const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(128) unsigned char smem[];
    const u32_t Q_tile = smem_address(smem);
    const u32_t K_tiles = Q_tile + QTile::kBytes;
    const u32_t V_tiles = K_tiles + kStages * KTile::kBytes;

    // Blocks of one head are neighbours and share its K and V in L2; the last queries come first, since under a causal
    // mask they have the most keys.
    const int v_part = static_cast<int>(blockIdx.x % kVParts);
    const int row_block = static_cast<int>(blockIdx.x / kVParts);
#if ATTN_VARLEN_Q
    const int slots = p.rows_q / kBlockM + p.batch;
    const int head = row_block / slots;
    const RowTile tile = find_row_tile<kBlockM>(p, row_block % slots);
    if (!tile.exists) return;
    const Sequence sequence = find_sequence(p, tile.batch);
    const int number = tile.number;
#else
    const int slots = (p.rows_q + kBlockM - 1) / kBlockM;
    const int head = row_block / slots % p.num_heads;
    const Sequence sequence = find_sequence(p, row_block / slots / p.num_heads);
    const int number = row_block % slots;
#endif
    const int m_blocks = (sequence.seqlen_q + kBlockM - 1) / kBlockM;
    const int block_query = (m_blocks - 1 - number) * kBlockM;
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
    const int begin_block = mask.first_key(block_query) / kBlockN;
    const int end_block = (mask.end_key(last_query) + kBlockN - 1) / kBlockN;
    const int begin_whole = (mask.first_key(last_query) + kBlockN - 1) / kBlockN;
    const int end_whole = mask.end_key(block_query) / kBlockN;

    const int warp_row = warp_id() * kMTiles * 16;
    const int lane_query = block_query + warp_row + lane_id() / 4;  // query of this lane's element 0
    const int lane_key = lane_id() % 4 * 2;                         // key of it within a block
    const QFragment<kHeadDim> Q_smem(Q_tile, warp_row);

    float O_acc[kMTiles][kDTiles][4];
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int d = 0; d < kDTiles; ++d) {
#pragma unroll
            for (int i = 0; i < 4; ++i) O_acc[m][d][i] = 0.0f;
        }
    }
    OnlineSoftmax<kMTiles> softmax;
    const ScoreTransform transform(p, sequence.batch, head);
    const QueryRows rows{mask, transform, lane_query};

    if (begin_block < end_block) {
        load_tile<kBlockM, kHeadDim, kThreads>(Q_tile, Q_gmem, block_query, sequence.seqlen_q);
        const int stage = (end_block - 1) % kStages;
        load_tile<kBlockN, kHeadDim, kThreads>(K_tiles + stage * KTile::kBytes, K_gmem, (end_block - 1) * kBlockN,
                                               sequence.seqlen_k);
        load_tile<kBlockN, kVDim, kThreads>(V_tiles + stage * VTile::kBytes, V_gmem, (end_block - 1) * kBlockN,
                                            sequence.seqlen_k);
        cp_async_commit_group();
    }
    u32_t Q_frag[kHeadDim / 16][kMTiles][4];
    const auto scores = [&](float (&S_acc)[kMTiles][kNTiles][4], u32_t K_tile, int first_key) {
        const KFragment<kHeadDim> K_smem(K_tile, 0);
        if constexpr (kQInRegisters) {
            product_qk<Element>(S_acc, Q_frag, K_smem);
        } else {
            product_qk<Element, kHeadDim>(S_acc, Q_smem, K_smem);
        }
        transform_scores(S_acc, rows, first_key);
    };

    bool started = false;  // all rows of the warp have a maximum
    for (int block = end_block - 1; block >= begin_block; --block) {
        cp_async_wait_group<0>();
        const int stage = block % kStages;
        const u32_t K_tile = K_tiles + stage * KTile::kBytes, V_tile = V_tiles + stage * VTile::kBytes;
        const bool whole = block >= begin_whole && block < end_whole;
        const bool found = (kPlanes || !whole) && take_copied_nonfinite<Element, kBlockN, kVDim, kThreads>(V_tile);
        // Everybody's copies of this block are visible, and everybody has read the last block: its buffers are free.
        const bool nonfinite = __syncthreads_or(found);
        if (block > begin_block) {
            const int next = stage ^ 1;
            load_whole_tile<kBlockN, kHeadDim, kThreads>(K_tiles + next * KTile::kBytes, K_gmem, (block - 1) * kBlockN);
            load_whole_tile<kBlockN, kVDim, kThreads>(V_tiles + next * VTile::kBytes, V_gmem, (block - 1) * kBlockN);
            cp_async_commit_group();
        }
        if constexpr (kQInRegisters) {
            if (block == end_block - 1) {
#pragma unroll
                for (int k = 0; k < kHeadDim / 16; ++k) {
#pragma unroll
                    for (int m = 0; m < kMTiles; ++m) ldmatrix_x4(Q_frag[k][m], Q_smem.at(m * 16, k));
                }
            }
        }
        // What no row of the warp sees changes nothing.
        const int warp_query = block_query + warp_row;
        if (block * kBlockN >= mask.end_key(warp_query + kMTiles * 16 - 1)) continue;
        const int first_key = block * kBlockN + lane_key;

        float S_acc[kMTiles][kNTiles][4];
        u32_t P_frag[kNTiles / 2][kMTiles][4];
        bool below = false;
        if (whole && started) {
            scores(S_acc, K_tile, first_key);
            below = softmax.step_below<Element>(P_frag, S_acc, p.exponent_scale);
        }
        if (!below) {
            scores(S_acc, K_tile, first_key);
            if (!whole) mask_scores(S_acc, rows, first_key);
            float rescale[kMTiles][kRowsPerLane];
            softmax.step(S_acc, rescale, p.exponent_scale);
            if (any_rescale(rescale)) rescale_output(O_acc, rescale);
            started = softmax.started();
#pragma unroll
            for (int k = 0; k < kNTiles / 2; ++k) probability_fragment<Element>(P_frag[k], S_acc, k);
        }
        product_pv<Element>(O_acc, P_frag, VFragment<kVDim>(V_tile, 0));
        if (nonfinite) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                add_nonfinite_rows<Element>(reinterpret_cast<float (&)[kDTiles * 4]>(O_acc[m]), mask, V_gmem,
                                            lane_query + m * 16, block * kBlockN, (block + 1) * kBlockN);
            }
        }
    }
    store_output<ATTN_OUT>(p, O_acc, softmax, sequence, head, block_query + warp_row, v_part);
}
