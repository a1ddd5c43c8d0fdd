// The steps of one key block on mma.sync, for the 16 * kMTiles rows of one warp: S = Q K^T, the scores, O += P V.
#pragma once
#include "attention/mask.cuh"
#include "attention/nonfinite.cuh"
#include "attention/online_softmax.cuh"
#include "attention/score.cuh"
#include "attention/tile.cuh"
#include "ptx/mma.cuh"

template <int kDim>
using QFragment = FragmentAddress<kDim, QuadOrder::rows_then_chunks>;
template <int kDim>
using KFragment = FragmentAddress<kDim, QuadOrder::chunks_then_rows>;
template <int kDim>
using VFragment = FragmentAddress<kDim, QuadOrder::rows_then_chunks>;

// S = Q K^T   [16 * kMTiles, kBlockN] per warp
template <class Element, int kHeadDim, int kMTiles, int kNTiles>
__device__ __forceinline__ void product_qk(float (&S_acc)[kMTiles][kNTiles][4], const QFragment<kHeadDim> &Q_smem,
                                           const KFragment<kHeadDim> &K_smem) {
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
template <int kMTiles, int kNTiles>
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
template <int kMTiles, int kNTiles>
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

// O += P V   [16 * kMTiles, 8 * kDTiles] per warp
template <class Element, bool kMasked, int kMTiles, int kNTiles, int kDTiles>
__device__ __forceinline__ void product_pv(float (&O_acc)[kMTiles][kDTiles][4],
                                           const float (&P_acc)[kMTiles][kNTiles][4],
                                           const VFragment<kDTiles * 8> &V_smem, const Mask &mask, int first_query,
                                           int first_key) {
#pragma unroll
    for (int k = 0; k < kNTiles / 2; ++k) {
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
