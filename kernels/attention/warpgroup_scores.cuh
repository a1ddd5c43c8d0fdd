// Scores of a warpgroup before the softmax: masked and transformed in the accumulators of S = Q K^T.
#pragma once
#include "attention/mask.cuh"
#include "attention/score.cuh"
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

#if ATTN_TRANSFORMED
__device__ __forceinline__ void transform_scores(float (&S)[kBlockN / 2], const ScoreTransform &transform,
                                                 const Mask &mask, int query, int key) {
#pragma unroll
    for (int i = 0; i < kBlockN / 2; ++i) {
        S[i] = transform(S[i], mask, query + i % 4 / 2 * 8, key + i / 4 * 8 + i % 2);
    }
}
#endif
