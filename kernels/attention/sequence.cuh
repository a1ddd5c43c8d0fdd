// Where a sequence lies and how long it is: padded or packed, in one piece or in pages.
//
// Lengths come from device memory and are not believed: each is cut to what the arrays hold, so that no value of
// cu_seqlens, seqused_k or block_table leads outside them.
#pragma once
#include "attention/params.cuh"
#include "attention/tile.cuh"
#include "ptx/lane.cuh"

struct Sequence {
    int batch;    // number of the sequence
    i64_t q_row;  // row of Q, O and LSE where it begins, within its batch entry
    i64_t k_row;  // row of K and V where it begins
    int seqlen_q;
    int seqlen_k;
    int diagonal;   // the key that its query 0 is aligned with
    int first_key;  // keys before it are not the sequence's own: rows of its first page
};

// kBlockM queries of one head of one batch element.
struct QueryTile {
    int batch;
    int head;
    int first_query;
};

__device__ __forceinline__ int clamped(int value, int low, int high) { return min(max(value, low), high); }

// Rows [begin, end) of sequence `batch` in an array of `rows` packed rows.
__device__ __forceinline__ int2_t packed_rows(const int *cu_seqlens, int batch, int rows) {
    const int begin = clamped(cu_seqlens[batch], 0, rows);
    return {begin, clamped(cu_seqlens[batch + 1], begin, rows)};
}

__device__ __forceinline__ int sequence_queries(const AttentionParams &p, int batch) {
#if ATTN_VARLEN_Q
    const int2_t rows = packed_rows(p.cu_seqlens_q, batch, p.rows_q);
    return rows.y - rows.x;
#else
    return p.rows_q;
#endif
}

__device__ __forceinline__ Sequence find_sequence(const AttentionParams &p, int batch) {
    Sequence result{batch, 0, 0, p.rows_q, p.rows_k, p.diagonal, 0};
#if ATTN_VARLEN_Q
    const int2_t q_rows = packed_rows(p.cu_seqlens_q, batch, p.rows_q);
    result.q_row = q_rows.x;
    result.seqlen_q = q_rows.y - q_rows.x;
#endif
#if ATTN_VARLEN_K
    const int2_t k_rows = packed_rows(p.cu_seqlens_k, batch, p.rows_k);
    result.k_row = k_rows.x;
    result.seqlen_k = k_rows.y - k_rows.x;
#endif
#if ATTN_LEFTPAD_K
    const int leftpad = clamped(p.leftpad_k[batch], 0, result.seqlen_k);
    result.k_row += leftpad;
    result.seqlen_k -= leftpad;
#endif
#if ATTN_SEQUSED_K
#if ATTN_LEFTPAD_K
    result.seqlen_k = clamped(p.seqused_k[batch] - leftpad, 0, result.seqlen_k);
#else
    result.seqlen_k = clamped(p.seqused_k[batch], 0, result.seqlen_k);
#endif
#endif
#if ATTN_BOTTOM_RIGHT
    result.diagonal += result.seqlen_k - result.seqlen_q;
#endif
#if ATTN_PAGE_ROWS && ATTN_LEFTPAD_K
    // Copies take whole groups of rows out of pages: keys are counted from the first row of the page that key 0 is in.
    result.first_key = static_cast<int>(result.k_row) % p.page_size;
    result.k_row -= result.first_key;
    result.seqlen_k += result.first_key;
    result.diagonal += result.first_key;
#endif
    return result;
}

// Which kRows queries of which sequence a block computes.
struct RowTile {
    int batch;
    int number;  // of the tile within its sequence; rows number * kRows ...
    bool exists;
};

#if ATTN_VARLEN_Q
// The tiles of all sequences, one after the other: tile `slot` is found by counting. Every warp counts for itself, 32
// sequences a step. A query makes rows_per_query rows; the grid has rows_q * rows_per_query / kRows + batch slots, which is
// never too few.
template <int kRows>
__device__ __forceinline__ RowTile find_row_tile(const AttentionParams &p, int slot, int rows_per_query = 1) {
    int before = 0;  // tiles of the sequences before this step
    for (int first = 0; first < p.batch; first += kWarpSize) {
        const int batch = first + lane_id();
        const int queries = batch < p.batch ? sequence_queries(p, batch) : 0;
        int end = (queries * rows_per_query + kRows - 1) / kRows;  // becomes: tiles up to this lane's sequence
#pragma unroll
        for (int step = 1; step < kWarpSize; step *= 2) {
            const int other = shfl_up(end, step);
            if (lane_id() >= step) end += other;
        }
        const u32_t past = ballot(before + end > slot);
        if (past != 0) {
            const int lane = first_set(past);
            const int begin = before + (lane == 0 ? 0 : shfl_idx(end, lane - 1));
            return {first + lane, slot - begin, true};
        }
        before += shfl_idx(end, kWarpSize - 1);
    }
    return {0, 0, false};
}
#endif

// Rows of K or V of one head of a sequence in pages: each row is looked up.
struct PagedRows {
    static constexpr bool kPaged = true;
    const u16_t *base;
    const int *pages;
    i64_t page_stride;
    i64_t row_stride;
    int first;  // row of key 0
    int page_size;
    int num_pages;
    u32_t magic;
    int shift;

    __device__ __forceinline__ const u16_t *row(int key) const {
        const int number = first + key, index = static_cast<int>(static_cast<u64_t>(number) * magic >> shift);
        const int page = clamped(pages[index], 0, num_pages - 1);
        return base + page * page_stride + (number - index * page_size) * row_stride;
    }
};

#if ATTN_PAGED
using KeyRows = PagedRows;
#else
using KeyRows = GmemRows;
#endif

// Rows of K or V of one head of a sequence. base: of batch 0, row 0 of that head.
__device__ __forceinline__ KeyRows key_rows(const AttentionParams &p, const Sequence &sequence, const u16_t *base,
                                            i64_t batch_stride, i64_t row_stride) {
#if ATTN_PAGED
    const int *pages = p.block_table + sequence.batch * p.block_table_batch_stride;
    return {base,        pages,       batch_stride, row_stride,  static_cast<int>(sequence.k_row),
            p.page_size, p.num_pages, p.page_magic, p.page_shift};
#else
    return {base + sequence.batch * batch_stride + sequence.k_row * row_stride, row_stride};
#endif
}
