// S = Q K^T and O += P V where K and V have 8-bit elements: widened to 16 bits between shared memory and the tensor core,
// with no shuffle.
//
// K: ldmatrix gives a lane four neighbouring bytes of a row, elements 4t ... 4t + 3 of 16. Even ones are taken as the first
// half of the B fragment and odd ones as the second; Q lies in the same order (group_rows.cuh).
// V: ldmatrix.trans moves pairs of bytes: a lane gets (key, key + 1) x (d, d + 1). Even bytes are the B fragment of the
// columns 2n, odd ones that of the columns 2n + 1: two accumulators hold four neighbouring columns of O.
#pragma once
#include "attention/products.cuh"
#include "attention/widen.cuh"

// Addresses within a tile of kDim bytes a row; fragments of one chunk where a row has an odd number of them.
template <int kDim, QuadOrder kOrder>
struct ByteFragments {
    static constexpr int kChunks = kDim / kChunkBytes;
    using Address = FragmentAddress<Tile<1, kDim / 2>, kOrder>;
    Address pairs;
    Address last;

    __device__ __forceinline__ ByteFragments(u32_t smem) : pairs(smem, 0), last(smem, 0, kChunks % 2 != 0) {}

    // Of chunks 2 * pair and 2 * pair + 1; where there is no second, the first twice.
    __device__ __forceinline__ u32_t at(int rows, int pair) const {
        return (2 * pair + 1 < kChunks ? pairs : last).at(rows, pair);
    }
};

// S = Q K^T   [16 * kMTiles, kBlockN] per warp
template <class Element, class Kv, int kHeadDim, int kMTiles, int kNTiles>
__device__ __forceinline__ void product_qk8(float (&S_acc)[kMTiles][kNTiles][4], const QFragment<kHeadDim> &Q_smem,
                                            const ByteFragments<kHeadDim, QuadOrder::chunks_then_rows> &K_smem) {
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) S_acc[m][n][i] = 0.0f;
        }
    }
    constexpr int kSteps = kHeadDim / 16;
#pragma unroll
    for (int pair = 0; pair < (kSteps + 1) / 2; ++pair) {
        u32_t Q_frag[2][kMTiles][4];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            if (2 * pair + c == kSteps) break;
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) ldmatrix_x4(Q_frag[c][m], Q_smem.at(m * 16, 2 * pair + c));
        }
#pragma unroll
        for (int n = 0; n < kNTiles; n += 2) {
            u32_t bytes[4];  // (n, chunk 0), (n, chunk 1), (n + 1, chunk 0), (n + 1, chunk 1)
            ldmatrix_x4(bytes, K_smem.at(n * 8, pair));
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                if (2 * pair + c == kSteps) break;
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    u32_t even, odd;
                    widen4<Element>(Kv{}, bytes[2 * i + c], even, odd);
#pragma unroll
                    for (int m = 0; m < kMTiles; ++m) {
                        mma_m16n8k16<Element>(S_acc[m][n + i], Q_frag[c][m], {even, odd});
                    }
                }
            }
        }
    }
}

// O += P V   [16 * kMTiles, 8 * kDTiles] per warp
template <class Element, class Kv, bool kMasked, int kMTiles, int kNTiles, int kDTiles, class Rows>
__device__ __forceinline__ void product_pv8(float (&O_acc)[kMTiles][kDTiles][4],
                                            const float (&P_acc)[kMTiles][kNTiles][4],
                                            const ByteFragments<kDTiles * 8, QuadOrder::rows_then_chunks> &V_smem,
                                            const Rows &rows, int first_key) {
    constexpr int kSteps = kDTiles / 2;
#pragma unroll
    for (int k = 0; k < kNTiles / 2; ++k) {
        u32_t P_frag[kMTiles][4];
        probability_fragment<Element>(P_frag, P_acc, k);
#pragma unroll
        for (int pair = 0; pair < (kSteps + 1) / 2; ++pair) {
            u32_t bytes[4];  // (keys 0-7, chunk 0), (keys 8-15, chunk 0), (keys 0-7, chunk 1), (keys 8-15, chunk 1)
            ldmatrix_x4_trans(bytes, V_smem.at(k * 16, pair));
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                if (2 * pair + c == kSteps) break;
                u32_t V_frag[4];
                widen4<Element>(Kv{}, bytes[2 * c], V_frag[0], V_frag[2]);
                widen4<Element>(Kv{}, bytes[2 * c + 1], V_frag[1], V_frag[3]);
                add_product<Element, kMasked>(O_acc, 4 * pair + 2 * c, P_frag, V_frag, rows, first_key + k * 16);
            }
        }
    }
}
