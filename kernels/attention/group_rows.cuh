// Rows of a decode tile: the query heads that share a K/V head, packed. Row r is query r / group of head
// kv_head * group + r % group, so a tile of 16 rows reads K and V once for all of them.
#pragma once
#include "attention/mask.cuh"
#include "attention/params.cuh"
#include "attention/score.cuh"
#include "attention/sequence.cuh"
#include "attention/tile.cuh"
#include "ptx/packed.cuh"

struct QueryHead {
    int query;  // within the sequence; at or past seqlen_q where there is no such row
    int head;
};

__device__ __forceinline__ QueryHead query_head(const AttentionParams &p, int kv_head, int row) {
    const int query = static_cast<u32_t>(row) / static_cast<u32_t>(p.heads_per_kv_head);
    return {query, kv_head * p.heads_per_kv_head + row - query * p.heads_per_kv_head};
}

// The two rows of a lane's accumulators: lane / 4 and lane / 4 + 8 of the tile.
struct GroupRows {
    QueryHead rows[2];
    Mask masks[2];
    ScoreTransform transforms[2];

    __device__ __forceinline__ GroupRows(const AttentionParams &p, const Sequence &sequence, QueryHead first,
                                         QueryHead second)
        : rows{first, second},
          masks{Mask(p, sequence, first.head), Mask(p, sequence, second.head)},
          transforms{ScoreTransform(p, sequence.batch, first.head), ScoreTransform(p, sequence.batch, second.head)} {}

    __device__ __forceinline__ int query(int, int r) const { return rows[r].query; }
    __device__ __forceinline__ const Mask &mask(int, int r) const { return masks[r]; }
    __device__ __forceinline__ const ScoreTransform &transform(int, int r) const { return transforms[r]; }
};

// Starts copying kRows rows of Q into a tile, zeros where a row does not exist. To be called before the keys are asked for:
// what is asked for first comes first, and behind the keys of the first stages Q would come last, with every warp waiting.
// The caller commits.
template <int kRows, int kDim, int kThreads>
__device__ __forceinline__ void copy_group_queries(unsigned char *tile, const AttentionParams &p,
                                                   const Sequence &sequence, int kv_head, int first_row) {
    using T = Tile<kRows, kDim>;
    constexpr int kChunks = kRows * T::kRowChunks, kEach = (kChunks + kThreads - 1) / kThreads;
    constexpr int kUnrolled = kEach <= 4 ? kEach : 1;
    const u16_t *Q = static_cast<const u16_t *>(p.Q);
#pragma unroll kUnrolled
    for (int i = 0; i < kEach; ++i) {
        const int number = threadIdx.x + i * kThreads;
        if (kChunks % kThreads != 0 && number >= kChunks) break;
        const int row = number / T::kRowChunks, chunk = number % T::kRowChunks;
        const QueryHead at = query_head(p, kv_head, first_row + row);
        const u16_t *gmem = Q + sequence.batch * p.q_batch_stride + (sequence.q_row + at.query) * p.q_row_stride +
                            at.head * p.q_head_stride + chunk * kChunkElements;
        load_chunk(smem_address(tile) + row * T::kRowBytes + swizzled_chunk(row, chunk), gmem, Q,
                   at.query < sequence.seqlen_q);
    }
}

// Where K has 8-bit elements, a lane's four bytes of K are the elements 4t ... 4t + 3 of 16, even ones first (widen.cuh). Q is
// put in that order here, so that its fragments come from ldmatrix all the same; each thread has waited for what it copied.
template <int kRows, int kDim, int kThreads>
__device__ __forceinline__ void order_group_queries(unsigned char *tile) {
    using T = Tile<kRows, kDim>;
    for (int number = threadIdx.x; number < kRows * T::kRowChunks; number += kThreads) {
        const int row = number / T::kRowChunks, chunk = number % T::kRowChunks;
        unsigned char *row_bytes = tile + row * T::kRowBytes;
        const word4_t words = *reinterpret_cast<const word4_t *>(row_bytes + swizzled_chunk(row, chunk));
        warp_sync();  // the lane beside has read the other chunk of the pair
        // Even elements of this chunk go to the first chunk of the pair, odd ones to the second, each to half `chunk % 2`.
        const int pair = chunk & ~1, half = chunk % 2 * (kChunkBytes / 2);
        u32_t *even = reinterpret_cast<u32_t *>(row_bytes + swizzled_chunk(row, pair) + half);
        u32_t *odd = reinterpret_cast<u32_t *>(row_bytes + swizzled_chunk(row, pair + 1) + half);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            even[i] = byte_perm(words.v[2 * i], words.v[2 * i + 1], 0x5410);
            odd[i] = byte_perm(words.v[2 * i], words.v[2 * i + 1], 0x7632);
        }
    }
}
