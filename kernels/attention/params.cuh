// The one argument of the attention kernels. engine/params.py reads this struct to build its bytes:
// field names, order and types are taken from here. Strides count elements; head_dim is contiguous. What every call fills
// anew stands first: one write fills it.
//
// Two layouts of sequences. Padded: (batch, seqlen, heads, head_dim). Packed ("varlen"): (total, heads, head_dim), where
// cu_seqlens says which rows are whose; batch strides are 0. In pages, the batch axis of K and V is the axis of pages.
#pragma once
#include "ptx/types.cuh"

struct AttentionParams {
    const void *Q;   // (batch, seqlen_q, num_heads, head_dim)
    const void *K;   // (batch, seqlen_k, num_kv_heads, head_dim); pages: (num_pages, page_size, num_kv_heads, head_dim)
    const void *V;   // likewise
    void *O;         // (batch, seqlen_q, num_heads, head_dim)
    float *LSE;      // (batch, num_heads, seqlen_q), packed: (num_heads, total_q); natural logarithm; may be null
    float *O_split;  // (parts, elements of LSE, v_head_dim): O of each part of the keys (group_combine.cuh)
    float *LSE_split;    // (parts, ATTN_V_PARTS, elements of LSE)
    u64_t *arrivals;     // (tiles, num_kv_heads, ATTN_V_PARTS, counts of one tile's parts): arrivals.cuh
    u32_t *mask_blocks;  // (batch, num_heads, tiles, words): blocks that the mask does not hide whole (mask_blocks.cuh)
    i64_t q_batch_stride;
    i64_t q_row_stride;
    i64_t q_head_stride;
    i64_t k_batch_stride;
    i64_t k_row_stride;
    i64_t k_head_stride;
    i64_t v_batch_stride;
    i64_t v_row_stride;
    i64_t v_head_stride;
    i64_t o_batch_stride;
    i64_t o_row_stride;
    i64_t o_head_stride;
    i64_t lse_batch_stride;
    i64_t lse_head_stride;
    int batch;  // sequences
    int num_heads;
    int num_kv_heads;
    int heads_per_kv_head;
    int head_group;  // heads whose tiles are computed together (schedule.cuh); of packed queries, tiles
    int rows_q;      // rows of one batch entry of Q: seqlen_q, or the total of packed sequences
    int rows_k;      // likewise of K; in pages: the most keys that a row of the block table can hold
    int plane_rows;  // queries and keys that bias and mask have; beyond: bias 0, mask false
    int plane_cols;
    int diagonal;             // added to the aligned key: q_offset, or 0
    int window_left;          // keys before the aligned one that a query sees; large = all
    int window_right;         // keys after it; 0 = causal
    float score_scale;        // factor of S (ATTN_SCALED)
    float softcap;            // unused without softcap
    float exponent_scale;     // exp(s - m) = 2^((s - m) * exponent_scale), > 0
    const int *cu_seqlens_q;  // (batch + 1): packed rows of Q where each sequence begins, and the end
    const int *cu_seqlens_k;  // likewise of K
    const int *seqused_k;     // (batch): keys in use
    const int *leftpad_k;     // (batch): rows of K before key 0
    const int *block_table;   // (batch, max_pages): page of keys i * page_size ...
    i64_t block_table_batch_stride;
    int page_size;
    int num_pages;
    u32_t page_magic;  // key / page_size = key * page_magic >> page_shift
    int page_shift;
    int num_splits;          // parts of the keys that are computed apart and combined
    i64_t split_stride;      // elements of LSE
    u64_t arrival_tag;       // upper bits of the words that count arrivals
    const float *k_descale;  // (batch, num_kv_heads): factor of an 8-bit K
    i64_t k_descale_batch_stride;
    i64_t k_descale_head_stride;
    const float *v_descale;  // likewise of V
    i64_t v_descale_batch_stride;
    i64_t v_descale_head_stride;
    const float *q_descale;  // (batch, num_kv_heads): factor of an 8-bit Q
    i64_t q_descale_batch_stride;
    i64_t q_descale_head_stride;
    const float *head_scales;   // (num_heads)
    const float *sinks;         // (num_heads)
    const float *alibi_slopes;  // (batch, num_heads)
    i64_t alibi_slopes_batch_stride;
    i64_t alibi_slopes_head_stride;
    const void *bias;  // (batch, num_heads, seqlen_q, seqlen_k), any strides
    i64_t bias_batch_stride;
    i64_t bias_head_stride;
    i64_t bias_row_stride;
    i64_t bias_col_stride;
    const u8_t *mask;  // likewise; nonzero = may attend
    i64_t mask_batch_stride;
    i64_t mask_head_stride;
    i64_t mask_row_stride;
    i64_t mask_col_stride;
};
