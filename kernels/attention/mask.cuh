// Which keys a query sees. Query i is aligned with key i + diagonal (bottom-right: diagonal = seqlen_k - seqlen_q, the last
// query is aligned with the last key) and sees window_left keys before it and window_right keys after it, both inclusive.
// A boolean mask, and a bias of -inf, hide single keys.
#pragma once
#include "attention/params.cuh"
#include "attention/plane.cuh"
#include "attention/sequence.cuh"
#include "ptx/convert.cuh"
#include "ptx/math.cuh"

#if ATTN_BIAS_F32
using BiasElement = float;
#else
using BiasElement = ATTN_ELEMENT;
#endif

struct Mask {
    int seqlen_q;
    int seqlen_k;
    int diagonal;
    int lowest;  // the first key of the sequence
    int left;
    int right;
    int plane_rows;  // what bias and mask have of queries and keys
    int plane_cols;
    Plane<u8_t> mask;
    Plane<BiasElement> bias;

    __device__ __forceinline__ Mask(const AttentionParams &p, const Sequence &sequence, int head)
        : seqlen_q(sequence.seqlen_q),
          seqlen_k(sequence.seqlen_k),
          diagonal(sequence.diagonal),
          lowest(sequence.first_key),
          left(p.window_left),
          right(p.window_right),
          plane_rows(min(sequence.seqlen_q, p.plane_rows)),
          plane_cols(min(sequence.seqlen_k, p.plane_cols)),
          mask{p.mask + sequence.batch * p.mask_batch_stride + head * p.mask_head_stride, p.mask_row_stride,
               p.mask_col_stride},
          bias{static_cast<const BiasElement *>(p.bias) + sequence.batch * p.bias_batch_stride +
                   head * p.bias_head_stride,
               p.bias_row_stride, p.bias_col_stride} {}

#if ATTN_WINDOW_LEFT
    __device__ __forceinline__ int first_key(int query) const { return max(query + diagonal - left, lowest); }
#else
    __device__ __forceinline__ int first_key(int) const { return lowest; }
#endif
#if ATTN_WINDOW
    __device__ __forceinline__ int end_key(int query) const { return min(query + diagonal + right + 1, seqlen_k); }
#else
    __device__ __forceinline__ int end_key(int) const { return seqlen_k; }
#endif

    // Whether (query, key) is an element of S that exists and that bias and mask have.
    __device__ __forceinline__ bool exists(int query, int key) const { return query < plane_rows && key < plane_cols; }

    // Whether the boolean mask leaves the key to the query. Not asked for keys out of the window.
    __device__ __forceinline__ bool shown(int query, int key) const {
#if ATTN_MASK
        return exists(query, key) && mask.at(query, key) != 0;
#else
        return true;
#endif
    }

    // The same of mask and bias.
    __device__ __forceinline__ bool allowed(int query, int key) const {
        bool result = shown(query, key);
#if ATTN_BIAS
        result = result && !(exists(query, key) && to_float(bias.at(query, key)) == -infinity());
#endif
        return result;
    }

    __device__ __forceinline__ bool visible(int query, int key) const {
        return key >= first_key(query) && key < end_key(query) && allowed(query, key);
    }
};
