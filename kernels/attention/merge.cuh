// The argument of merge_states.cu; read by engine/params.py as AttentionParams is. Strides count elements.
#pragma once
#include "ptx/types.cuh"

struct MergeParams {
    const void *O_a;     // (batch, rows, num_heads, width), width contiguous
    const void *O_b;     // likewise
    void *O;             // likewise
    const float *LSE_a;  // (batch, num_heads, rows)
    const float *LSE_b;  // likewise
    float *LSE;          // likewise
    i64_t o_a_batch_stride;
    i64_t o_a_row_stride;
    i64_t o_a_head_stride;
    i64_t o_b_batch_stride;
    i64_t o_b_row_stride;
    i64_t o_b_head_stride;
    i64_t o_batch_stride;
    i64_t o_row_stride;
    i64_t o_head_stride;
    i64_t lse_a_batch_stride;
    i64_t lse_a_head_stride;
    i64_t lse_a_row_stride;
    i64_t lse_b_batch_stride;
    i64_t lse_b_head_stride;
    i64_t lse_b_row_stride;
    i64_t lse_batch_stride;
    i64_t lse_head_stride;
    i64_t lse_row_stride;
    int batch;
    int rows;
    int num_heads;
    int width;
};
