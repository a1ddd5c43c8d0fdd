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
// (f16_t, bf16_t), and the features of features.py, each 0 or 1.
#include "attention/epilogue.cuh"
#include "attention/mask.cuh"
#include "attention/nonfinite.cuh"
#include "attention/online_softmax.cuh"
#include "attention/params.cuh"
#include "attention/score.cuh"
#include "attention/tile.cuh"
#include "ptx/mma.cuh"

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

using QTile = Tile<kBlockM, kHeadDim>;
using KTile = Tile<kBlockN, kHeadDim>;
using VTile = Tile<kBlockN, kVDim>;
using QFragment = FragmentAddress<kHeadDim, QuadOrder::rows_then_chunks>;
using KFragment = FragmentAddress<kHeadDim, QuadOrder::chunks_then_rows>;
using VFragment = FragmentAddress<kVDim, QuadOrder::rows_then_chunks>;

// S = Q K^T   [16 * kMTiles, kBlockN] per warp
__device__ __forceinline__ void product_qk(float (&S_acc)[kMTiles][kNTiles][4], const QFragment &Q_smem,
                                           const KFragment &K_smem) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) S_acc[m][n][i] = 0.0f;
        }
    }
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
        u32_t Q_frag[kMTiles][4];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) ldmatrix_x4(Q_frag[m], Q_smem.at(m * 16, k));
#pragma unroll
        for (int n = 0; n < kNTiles; n += 2) {
            u32_t K_frag[4];
            ldmatrix_x4(K_frag, K_smem.at(n * 8, k));
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                mma_m16n8k16<Element>(S_acc[m][n], Q_frag[m], {K_frag[0], K_frag[1]});
                mma_m16n8k16<Element>(S_acc[m][n + 1], Q_frag[m], {K_frag[2], K_frag[3]});
            }
        }
    }
}

#if ATTN_TRANSFORMED
// S = transform(S). first_query, first_key: of this lane's element 0 of block (0, 0).
__device__ __forceinline__ void transform_scores(float (&S_acc)[kMTiles][kNTiles][4], const ScoreTransform &transform,
                                                 const Mask &mask, int first_query, int first_key) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int query = first_query + m * 16 + i / 2 * 8, key = first_key + n * 8 + i % 2;
                S_acc[m][n][i] = transform(S_acc[m][n][i], mask, query, key);
            }
        }
    }
}
#endif

// S = -inf where the query does not see the key. first_query, first_key: of this lane's element 0 of block (0, 0).
__device__ __forceinline__ void mask_scores(float (&S_acc)[kMTiles][kNTiles][4], const Mask &mask, int first_query,
                                            int first_key) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const int query = first_query + m * 16 + r * 8;
            const int begin = mask.first_key(query) - first_key, end = mask.end_key(query) - first_key;
#pragma unroll
            for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
                for (int c = 0; c < 2; ++c) {
                    const int key = n * 8 + c;
                    const bool inside = key >= begin && key < end;
                    if (!inside || !mask.allowed(query, first_key + key)) S_acc[m][n][2 * r + c] = -infinity();
                }
            }
        }
    }
}

// O += P V   [16 * kMTiles, kVDim] per warp
template <bool kMasked>
__device__ __forceinline__ void product_pv(float (&O_acc)[kMTiles][kDTiles][4],
                                           const float (&P_acc)[kMTiles][kNTiles][4], const VFragment &V_smem,
                                           const Mask &mask, int first_query, int first_key) {
#pragma unroll
    for (int k = 0; k < kBlockN / 16; ++k) {
        u32_t P_frag[kMTiles][4];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
            // A wants (row, k < 8), (row + 8, k < 8), (row, k >= 8), (row + 8, k >= 8).
            P_frag[m][0] = pack2<Element>(P_acc[m][2 * k][0], P_acc[m][2 * k][1]);
            P_frag[m][1] = pack2<Element>(P_acc[m][2 * k][2], P_acc[m][2 * k][3]);
            P_frag[m][2] = pack2<Element>(P_acc[m][2 * k + 1][0], P_acc[m][2 * k + 1][1]);
            P_frag[m][3] = pack2<Element>(P_acc[m][2 * k + 1][2], P_acc[m][2 * k + 1][3]);
        }
#pragma unroll
        for (int d = 0; d < kDTiles; d += 2) {
            u32_t V_frag[4];
            ldmatrix_x4_trans(V_frag, V_smem.at(k * 16, d / 2));
            if constexpr (kMasked) {
                bool found = false;
#pragma unroll
                for (int i = 0; i < 4; ++i) found |= any_nonfinite2<Element>(V_frag[i]);
                if (vote_any(found)) {
                    u32_t weights[4];
                    split_nonfinite<Element>(V_frag, weights);
#pragma unroll
                    for (int m = 0; m < kMTiles; ++m) {
                        u32_t visible[4];
                        visibility_fragment<Element>(visible, mask, first_query + m * 16, first_key + k * 16);
                        add_nonfinite<Element>(O_acc[m][d], O_acc[m][d + 1], visible, weights);
                    }
                }
            }
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                mma_m16n8k16<Element>(O_acc[m][d], P_frag[m], {V_frag[0], V_frag[1]});
                mma_m16n8k16<Element>(O_acc[m][d + 1], P_frag[m], {V_frag[2], V_frag[3]});
            }
        }
    }
}

// O *= exp(old maximum - new maximum), row by row
__device__ __forceinline__ void rescale_output(float (&O_acc)[kMTiles][kDTiles][4],
                                               const float (&rescale)[kMTiles][kRowsPerLane]) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int d = 0; d < kDTiles; ++d) {
            O_acc[m][d][0] *= rescale[m][0];
            O_acc[m][d][1] *= rescale[m][0];
            O_acc[m][d][2] *= rescale[m][1];
            O_acc[m][d][3] *= rescale[m][1];
        }
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, ATTN_BLOCKS_PER_SM)
    attention_fwd_mma(const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(128) unsigned char smem[];
    const u32_t Q_tile = smem_address(smem);
    const u32_t K_tiles = Q_tile + QTile::kBytes;
    const u32_t V_tiles = K_tiles + kStages * KTile::kBytes;

    // Blocks of one head are neighbours and share its K and V in L2; the last queries come first, since under a causal
    // mask they have the most keys.
    const int m_blocks = (p.seqlen_q + kBlockM - 1) / kBlockM;
    const int v_part = static_cast<int>(blockIdx.x % kVParts);
    const int row_block = static_cast<int>(blockIdx.x / kVParts);
    const int m_block = m_blocks - 1 - row_block % m_blocks;
    const int head = row_block / m_blocks % p.num_heads;
    const int batch = row_block / m_blocks / p.num_heads;
    const int kv_head = head / p.heads_per_kv_head;
    const int block_query = m_block * kBlockM;
    const int last_query = min(block_query + kBlockM, p.seqlen_q) - 1;

    const GmemRows Q_gmem{static_cast<const u16_t *>(p.Q) + batch * p.q_batch_stride + head * p.q_head_stride,
                          p.q_row_stride};
    const GmemRows K_gmem{static_cast<const u16_t *>(p.K) + batch * p.k_batch_stride + kv_head * p.k_head_stride,
                          p.k_row_stride};
    const GmemRows V_gmem{
        static_cast<const u16_t *>(p.V) + batch * p.v_batch_stride + kv_head * p.v_head_stride + v_part * kVDim,
        p.v_row_stride};

    // Key blocks that some query of the tile sees, and among them those that every query sees whole.
    const Mask mask(p, batch, head);
    const int begin_block = mask.first_key(block_query) / kBlockN;
    const int end_block = (mask.end_key(last_query) + kBlockN - 1) / kBlockN;
    const int begin_whole = (mask.first_key(last_query) + kBlockN - 1) / kBlockN;
    const int end_whole = ATTN_MASK || ATTN_BIAS ? 0 : mask.end_key(block_query) / kBlockN;

    const int warp_row = warp_id() * kMTiles * 16;
    const int lane_query = block_query + warp_row + lane_id() / 4;  // query of this lane's element 0
    const int lane_key = lane_id() % 4 * 2;                         // key of it within a block
    const QFragment Q_smem(Q_tile, warp_row);

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
#if ATTN_TRANSFORMED
    const ScoreTransform transform(p, batch, head);
#endif

    if (begin_block < end_block) {
        load_tile<kBlockM, kHeadDim, kThreads>(Q_tile, Q_gmem, block_query, p.seqlen_q);
        load_tile<kBlockN, kHeadDim, kThreads>(K_tiles, K_gmem, (end_block - 1) * kBlockN, p.seqlen_k);
        load_tile<kBlockN, kVDim, kThreads>(V_tiles, V_gmem, (end_block - 1) * kBlockN, p.seqlen_k);
        cp_async_commit_group();
    }
    int stage = 0;
    for (int block = end_block - 1; block >= begin_block; --block) {
        cp_async_wait_group<0>();
        // Everybody's copies of this block are visible, and everybody has read the last block: its buffers are free.
        __syncthreads();
        if (block > begin_block) {
            const int next = stage ^ 1;
            load_tile<kBlockN, kHeadDim, kThreads>(K_tiles + next * KTile::kBytes, K_gmem, (block - 1) * kBlockN,
                                                   p.seqlen_k);
            load_tile<kBlockN, kVDim, kThreads>(V_tiles + next * VTile::kBytes, V_gmem, (block - 1) * kBlockN,
                                                p.seqlen_k);
            cp_async_commit_group();
        }
        const KFragment K_smem(K_tiles + stage * KTile::kBytes, 0);
        const VFragment V_smem(V_tiles + stage * VTile::kBytes, 0);
        const int first_key = block * kBlockN + lane_key;
        const bool whole = block >= begin_whole && block < end_whole;

        float S_acc[kMTiles][kNTiles][4];
        product_qk(S_acc, Q_smem, K_smem);
#if ATTN_TRANSFORMED
        transform_scores(S_acc, transform, mask, lane_query, first_key);
#endif
        if (!whole) mask_scores(S_acc, mask, lane_query, first_key);
        float rescale[kMTiles][kRowsPerLane];
        softmax.step(S_acc, rescale, p.exponent_scale);
        rescale_output(O_acc, rescale);
        if (whole) {
            product_pv<false>(O_acc, S_acc, V_smem, mask, lane_query, first_key);
        } else {
            product_pv<true>(O_acc, S_acc, V_smem, mask, lane_query, first_key);
        }
        stage ^= 1;
    }
    store_output<Element>(p, O_acc, softmax, batch, head, block_query + warp_row, v_part);
}
