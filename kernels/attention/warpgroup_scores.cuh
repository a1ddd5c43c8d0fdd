// Scores of a warpgroup before the softmax: masked and transformed in the accumulators of S = Q K^T.
#pragma once
#include "attention/mask.cuh"
#include "attention/planes.cuh"
#include "attention/wgmma_tile.cuh"

// Bits of the lane's elements [0, 32) of a row whose key is less than `end`: element e has key e / 2 * 8 + e % 2.
__device__ __forceinline__ u32_t elements_before(int end) {
    const int count = clamped(end / 8 * 2 + min(end % 8, 2), 0, 32);
    return count == 32 ? ~0u : (1u << count) - 1;
}

// S = -inf where the query does not see the key. query, key: of this lane's element 0.
__device__ __forceinline__ void mask_scores(float (&S)[kBlockN / 2], const Mask &mask, int query, int key) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int begin = max(mask.first_key(query + r * 8) - key, 0), end = max(mask.end_key(query + r * 8) - key, 0);
#pragma unroll
        for (int part = 0; part < kBlockN; part += 128) {  // 32 elements
            const u32_t visible = elements_before(end - part) & ~elements_before(begin - part);
#pragma unroll
            for (int e = 0; e < 32 && part + e * 4 < kBlockN; ++e) {
                const int i = part / 2 + e / 2 * 4 + 2 * r + e % 2;
                if (!(visible & 1u << e)) S[i] = -infinity();
            }
        }
    }
}

// What bias and mask say of the scores that this lane holds in one block of keys, where lanes read global memory.
struct ScorePlanes {
    RowPlanes<kBlockN / 8> rows[2];

    // query, key: of this lane's element 0.
    __device__ __forceinline__ void read(const Mask &mask, int query, int key) {
#pragma unroll
        for (int r = 0; r < 2; ++r) rows[r].read(mask, query + r * 8, key);
    }
};

// S = transform(S), and -inf where bias or mask hides a key. query, key: of this lane's element 0. plane_tile: where kPlaneTiles,
// what stands in place of `planes`, and `row` the query in it.
__device__ __forceinline__ void transform_scores(float (&S)[kBlockN / 2], const ScorePlanes &planes, u32_t plane_tile,
                                                 int row, const ScoreTransform &transform, const Mask &mask, int query,
                                                 int key) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        if constexpr (kPlaneTiles) {
            RowPlanes<kBlockN / 8> own;
            own.read_tile<kBlockM>(plane_tile, row + r * 8);
            own.apply(S, r, transform, mask, query + r * 8, key);
        } else {
            planes.rows[r].apply(S, r, transform, mask, query + r * 8, key);
        }
    }
}
