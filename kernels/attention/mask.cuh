// Which keys a query sees. Query i is aligned with key i + seqlen_k - seqlen_q (bottom-right: the last query sees the
// last key) and sees window_left keys before it and window_right keys after it, both inclusive.
#pragma once
#include "attention/params.cuh"

struct Mask {
    int seqlen_k;
#if ATTN_WINDOW
    int offset;  // seqlen_k - seqlen_q
    int left;
    int right;

    __device__ __forceinline__ explicit Mask(const AttentionParams &p)
        : seqlen_k(p.seqlen_k), offset(p.seqlen_k - p.seqlen_q), left(p.window_left), right(p.window_right) {}

    __device__ __forceinline__ int first_key(int query) const { return max(query + offset - left, 0); }
    __device__ __forceinline__ int end_key(int query) const { return min(query + offset + right + 1, seqlen_k); }
#else
    __device__ __forceinline__ explicit Mask(const AttentionParams &p) : seqlen_k(p.seqlen_k) {}

    __device__ __forceinline__ int first_key(int) const { return 0; }
    __device__ __forceinline__ int end_key(int) const { return seqlen_k; }
#endif

    __device__ __forceinline__ bool visible(int query, int key) const {
        return key >= first_key(query) && key < end_key(query);
    }
};
