// The one argument of the attention kernels. attention/launch.py reads this struct to build its bytes:
// field names, order and types are taken from here. Strides count elements; head_dim is contiguous.
#pragma once
#include "ptx/types.cuh"

struct AttentionParams {
    const void *Q;  // (batch, seqlen_q, num_heads, head_dim)
    const void *K;  // (batch, seqlen_k, num_kv_heads, head_dim)
    const void *V;  // (batch, seqlen_k, num_kv_heads, head_dim)
    void *O;        // (batch, seqlen_q, num_heads, head_dim)
    float *LSE;     // (batch, num_heads, seqlen_q), contiguous; natural logarithm; may be null
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
    int num_heads;
    int heads_per_kv_head;
    int seqlen_q;
    int seqlen_k;
    int diagonal;               // the key that query 0 is aligned with; seqlen_k - seqlen_q is bottom-right
    int window_left;            // keys before the aligned one that a query sees; large = all
    int window_right;           // keys after it; 0 = causal
    float score_scale;          // factor of S (ATTN_SCALED)
    float softcap;              // unused without softcap
    float exponent_scale;       // exp(s - m) = 2^((s - m) * exponent_scale), > 0
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
