// The argument of append_kv.cu; read by engine/params.py as AttentionParams is. Strides count elements.
#pragma once
#include "ptx/types.cuh"

struct AppendParams {
    const void *Q;            // (batch, seqlen_q, num_heads, head_dim)
    void *Q_rotated;          // likewise, contiguous; null where Q is not rotated
    const void *K_new;        // (batch, seqlen_new, num_kv_heads, head_dim)
    const void *V_new;        // (batch, seqlen_new, num_kv_heads, v_head_dim)
    void *K;                  // cache: (batch, seqlen_cache, num_kv_heads, head_dim), or pages
    void *V;                  // likewise
    const int *seqused_k;     // (batch): keys in the cache before
    int *seqused_after;       // (batch): and afterwards
    const int *leftpad_k;     // (batch), may be null
    const int *block_table;   // (batch, max_pages); null where the cache is in one piece
    const float *rotary_cos;  // (positions, rotary_dim / 2)
    const float *rotary_sin;  // likewise
    const float *k_descale;   // (batch, num_kv_heads); may be null
    const float *v_descale;
    i64_t q_batch_stride;
    i64_t q_row_stride;
    i64_t q_head_stride;
    i64_t k_new_batch_stride;
    i64_t k_new_row_stride;
    i64_t k_new_head_stride;
    i64_t v_new_batch_stride;
    i64_t v_new_row_stride;
    i64_t v_new_head_stride;
    i64_t k_batch_stride;
    i64_t k_row_stride;
    i64_t k_head_stride;
    i64_t v_batch_stride;
    i64_t v_row_stride;
    i64_t v_head_stride;
    i64_t block_table_batch_stride;
    i64_t k_descale_batch_stride;
    i64_t k_descale_head_stride;
    i64_t v_descale_batch_stride;
    i64_t v_descale_head_stride;
    int batch;
    int seqlen_q;
    int seqlen_new;
    int num_heads;
    int num_kv_heads;
    int head_dim;
    int v_head_dim;
    int capacity;   // keys that a sequence's part of the cache can hold
    int page_size;  // 0 where the cache is in one piece
    int num_pages;
    int positions;    // rows of rotary_cos
    int rotary_dim;   // 0: nothing is rotated
    int interleaved;  // pairs (2i, 2i + 1); else (i, i + rotary_dim / 2)
    int q_advances;   // query i stands at position seqused_k + i; else all stand at seqused_k
};
