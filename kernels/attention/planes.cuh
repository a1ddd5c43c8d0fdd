// What bias and mask say of the scores that a lane holds in one block of keys. Each comes in a tile in shared memory
// (ATTN_BIAS_TILES, ATTN_MASK_TILES) or is read from global memory by the lanes. Of those that lanes read the first may be
// read before the scores are there, so that the product hides the latency; a mask beside a bias is read when the bias
// has been added, into the same registers.
#pragma once
#include "attention/mask.cuh"
#include "attention/plane.cuh"
#include "attention/score.cuh"

constexpr bool kBiasTiles = ATTN_BIAS_TILES, kMaskTiles = ATTN_MASK_TILES;
constexpr bool kPlaneTiles = kBiasTiles || kMaskTiles;

// Of one row: kCount pairs of keys. S holds two rows; element 4 n + 2 r + i of it is the lane's key 8 n + i of row r.
template <int kCount>
struct RowPlanes {
#if ATTN_BIAS
    RowPairs<BiasElement, ATTN_BIAS_PAIRS, ATTN_BIAS_DENSE, kCount> bias;
#endif
#if ATTN_MASK
    RowPairs<u8_t, ATTN_MASK_PAIRS, ATTN_MASK_DENSE, kCount> shown;
#endif

    // Reads the first of them from global memory. key: the lane's first in the block, also below.
    __device__ __forceinline__ void read(const Mask &mask, int query, int key) {
#if ATTN_BIAS
        bias.read(mask.bias.address(query, key), mask.bias.col_stride, keys_left(mask, query, key));
#elif ATTN_MASK
        read_mask(shown, mask, query, key);
#endif
    }

    // S = transform(S), and -inf where a bias of -inf, or the mask, hides the key.
    __device__ __forceinline__ void apply(float (&S)[4 * kCount], int r, const ScoreTransform &transform,
                                          const Mask &mask, int query, int key) {
        add(S, r, transform, mask, query, key);
#if ATTN_BIAS && ATTN_MASK
        read_mask(shown, mask, query, key);
#endif
        hide(S, r);
    }

    // The same with what comes in tiles, from row `row` of them.
    template <class BiasLayout, class MaskLayout>
    __device__ __forceinline__ void apply_tiles(u32_t bias_tile, u32_t mask_tile, int row, float (&S)[4 * kCount],
                                                int r, const ScoreTransform &transform, const Mask &mask, int query,
                                                int key) {
#if ATTN_BIAS
        bias.template read_tile<BiasLayout>(bias_tile, row);
#endif
        add(S, r, transform, mask, query, key);
#if ATTN_MASK_TILES
        shown.template read_tile<MaskLayout>(mask_tile, row);
#elif ATTN_MASK
        read_mask(shown, mask, query, key);
#endif
        hide(S, r);
    }

  private:
    // S = transform(S), and -inf where a bias of -inf hides the key.
    __device__ __forceinline__ void add(float (&S)[4 * kCount], int r, const ScoreTransform &transform,
                                        const Mask &mask, int query, int key) const {
#if ATTN_TRANSFORMED
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float &s = S[4 * n + 2 * r + i];
                s = transform(s, mask, query, key + 8 * n + i, added(n, i));
            }
        }
#endif
#if ATTN_BIAS
        hide_by_bias(S, r);
#endif
    }

    // S = -inf where the mask hides the key.
    __device__ __forceinline__ void hide(float (&S)[4 * kCount], int r) const {
#if ATTN_MASK
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                if (shown.pairs[n].hides(i)) S[4 * n + 2 * r + i] = -infinity();
            }
        }
#endif
    }

    // Keys from `key` on that bias and mask have for the query: for others there is no bias, and the mask hides them.
    __device__ __forceinline__ static int keys_left(const Mask &mask, int query, int key) {
        return query < mask.plane_rows ? mask.plane_cols - key : 0;
    }

    template <class Pairs>
    __device__ __forceinline__ static void read_mask(Pairs &shown, const Mask &mask, int query, int key) {
        shown.read(mask.mask.address(query, key), mask.mask.col_stride, keys_left(mask, query, key));
    }

    __device__ __forceinline__ float added(int n, int i) const {
#if ATTN_BIAS
        return to_float(bias.pairs[n].element(i));
#else
        return 0.0f;
#endif
    }

#if ATTN_BIAS
    // A bias of -inf has made the score -inf, or NaN where it was +inf or NaN: only then it is looked at again.
    __device__ __forceinline__ void hide_by_bias(float (&S)[4 * kCount], int r) const {
        bool unordered = false;
#pragma unroll
        for (int n = 0; n < kCount; ++n) unordered = unordered || is_unordered(S[4 * n + 2 * r], S[4 * n + 2 * r + 1]);
        if (!vote_any(unordered)) return;
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                if (bias.pairs[n].hides(i)) S[4 * n + 2 * r + i] = -infinity();
            }
        }
    }
#endif
};
