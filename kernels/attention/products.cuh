// The steps of one key block on mma.sync, for the 16 * kMTiles rows of one warp: S = Q K^T, the scores, O += P V.
#pragma once
#include "attention/mask.cuh"
#include "attention/nonfinite.cuh"
#include "attention/online_softmax.cuh"
#include "attention/planes.cuh"
#include "attention/score.cuh"
#include "attention/tile.cuh"
#include "ptx/mma.cuh"

// Of tiles whose panels stand side by side. Narrow ones have few addresses, and registers for them: there ptxas does better by
// the sum.
template <int kDim>
using QFragment = FragmentAddress<Tile<1, kDim>, QuadOrder::rows_then_chunks, (kDim > 128)>;
template <int kDim>
using KFragment = FragmentAddress<Tile<1, kDim>, QuadOrder::chunks_then_rows, (kDim > 128)>;
template <int kDim>
using VFragment = FragmentAddress<Tile<1, kDim>, QuadOrder::rows_then_chunks, (kDim > 64)>;

template <int kMTiles, int kNTiles>
__device__ __forceinline__ void zero(float (&acc)[kMTiles][kNTiles][4]) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) acc[m][n][i] = 0.0f;
        }
    }
}

// S = Q K^T   [16 * kMTiles, kBlockN] per warp
template <class Element, int kHeadDim, int kMTiles, int kNTiles, class QAddress, class KAddress>
__device__ __forceinline__ void product_qk(float (&S_acc)[kMTiles][kNTiles][4], const QAddress &Q_smem,
                                           const KAddress &K_smem) {
    zero(S_acc);
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

// The same with the fragments of Q in registers; the keys outside, so that the first scores are there early.
template <class Element, int kSteps, int kMTiles, int kNTiles, class KAddress>
__device__ __forceinline__ void product_qk(float (&S_acc)[kMTiles][kNTiles][4],
                                           const u32_t (&Q_frag)[kSteps][kMTiles][4], const KAddress &K_smem) {
#pragma unroll
    for (int n = 0; n < kNTiles; n += 2) {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int i = 0; i < 4; ++i) S_acc[m][n][i] = S_acc[m][n + 1][i] = 0.0f;
        }
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
            u32_t K_frag[4];
            ldmatrix_x4(K_frag, K_smem.at(n * 8, k));
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                mma_m16n8k16<Element>(S_acc[m][n], Q_frag[k][m], {K_frag[0], K_frag[1]});
                mma_m16n8k16<Element>(S_acc[m][n + 1], Q_frag[k][m], {K_frag[2], K_frag[3]});
            }
        }
    }
}

// What a step must know of the rows of a warp's tile: this lane's row r (0, 1) of its 16 rows m is which query, of a head
// with which mask and score. Here all rows are neighbouring queries of one head.
struct QueryRows {
    const Mask &head_mask;
    const ScoreTransform &head_transform;
    int first_query;  // of this lane's row 0

    __device__ __forceinline__ int query(int m, int r) const { return first_query + m * 16 + r * 8; }
    __device__ __forceinline__ const Mask &mask(int, int) const { return head_mask; }
    __device__ __forceinline__ const ScoreTransform &transform(int, int) const { return head_transform; }
};

// S = transform(S), and -inf where bias or mask hides a key. first_key: of this lane's element 0 of block (0, 0). Bias and
// mask are read for all rows at once, so that they are waited for once; before the product there are no registers for them.
template <int kMTiles, int kNTiles, class Rows>
__device__ __forceinline__ void transform_scores(float (&S_acc)[kMTiles][kNTiles][4], const Rows &rows, int first_key) {
    if constexpr (!kTransformed) return;
    RowPlanes<kNTiles> planes[kMTiles][kRowsPerLane];
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) planes[m][r].read(rows.mask(m, r), rows.query(m, r), first_key);
    }
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            planes[m][r].apply(reinterpret_cast<float (&)[4 * kNTiles]>(S_acc[m]), r, rows.transform(m, r),
                               rows.mask(m, r), rows.query(m, r), first_key);
        }
    }
}

// S = -inf where the query does not see the key, by its place. first_key: of this lane's element 0 of block (0, 0).
template <int kMTiles, int kNTiles, class Rows>
__device__ __forceinline__ void mask_scores(float (&S_acc)[kMTiles][kNTiles][4], const Rows &rows, int first_key) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const Mask &mask = rows.mask(m, r);
            const int query = rows.query(m, r);
            const int begin = mask.first_key(query) - first_key, end = mask.end_key(query) - first_key;
#pragma unroll
            for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
                for (int c = 0; c < 2; ++c) {
                    const int key = n * 8 + c;
                    const bool inside = (!ATTN_WINDOW_LEFT || key >= begin) && key < end;
                    if (!inside) S_acc[m][n][2 * r + c] = -infinity();
                }
            }
        }
    }
}

// P of 16 keys as the A operand of O += P V.
template <class Element, int kMTiles, int kNTiles>
__device__ __forceinline__ void probability_fragment(u32_t (&P_frag)[kMTiles][4],
                                                     const float (&P_acc)[kMTiles][kNTiles][4], int k) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
        // A wants (row, k < 8), (row + 8, k < 8), (row, k >= 8), (row + 8, k >= 8).
        P_frag[m][0] = pack2<Element>(P_acc[m][2 * k][0], P_acc[m][2 * k][1]);
        P_frag[m][1] = pack2<Element>(P_acc[m][2 * k][2], P_acc[m][2 * k][3]);
        P_frag[m][2] = pack2<Element>(P_acc[m][2 * k + 1][0], P_acc[m][2 * k + 1][1]);
        P_frag[m][3] = pack2<Element>(P_acc[m][2 * k + 1][2], P_acc[m][2 * k + 1][3]);
    }
}

// O += P V for 16 keys and the two n8 blocks d, d + 1 of O. first_key: of this lane's element 0.
template <class Element, bool kMasked, int kMTiles, int kDTiles, class Rows>
__device__ __forceinline__ void add_product(float (&O_acc)[kMTiles][kDTiles][4], int d,
                                            const u32_t (&P_frag)[kMTiles][4], u32_t (&V_frag)[4], const Rows &rows,
                                            int first_key) {
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
                visibility_fragment<Element>(visible, rows, m, first_key);
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

// O += P V   [16 * kMTiles, 8 * kDTiles] per warp
template <class Element, bool kMasked, int kMTiles, int kNTiles, int kDTiles, class Rows>
__device__ __forceinline__ void product_pv(float (&O_acc)[kMTiles][kDTiles][4],
                                           const float (&P_acc)[kMTiles][kNTiles][4],
                                           const VFragment<kDTiles * 8> &V_smem, const Rows &rows, int first_key) {
#pragma unroll
    for (int k = 0; k < kNTiles / 2; ++k) {
        u32_t P_frag[kMTiles][4];
        probability_fragment<Element>(P_frag, P_acc, k);
#pragma unroll
        for (int d = 0; d < kDTiles; d += 2) {
            u32_t V_frag[4];
            ldmatrix_x4_trans(V_frag, V_smem.at(k * 16, d / 2));
            add_product<Element, kMasked>(O_acc, d, P_frag, V_frag, rows, first_key + k * 16);
        }
    }
}

// The same for 16 keys, from row `row` of the tile on, with the A fragment of P, and V free of NaN and infinity where a row
// does not see its key. Pairs of n8 blocks of O are dealt out to kSharers warps, and V_smem begins at this one's first.
template <class Element, int kSharers, int kMTiles, int kDTiles, class VAddress>
__device__ __forceinline__ void product_pv(float (&O_acc)[kMTiles][kDTiles][4], const u32_t (&P_frag)[kMTiles][4],
                                           const VAddress &V_smem, int row) {
#pragma unroll
    for (int d = 0; d < kDTiles; d += 2) {
        u32_t V_frag[4];
        ldmatrix_x4_trans(V_frag, V_smem.at(row, d / 2 * kSharers));
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
            mma_m16n8k16<Element>(O_acc[m][d], P_frag[m], {V_frag[0], V_frag[1]});
            mma_m16n8k16<Element>(O_acc[m][d + 1], P_frag[m], {V_frag[2], V_frag[3]});
        }
    }
}

// O *= exp(old maximum - new maximum), row by row
template <int kMTiles, int kDTiles>
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
