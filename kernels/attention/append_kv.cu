// Writes new keys and values behind those in the cache, and rotates them and the queries by their positions (RoPE).
//
// One block takes one row (query, or new key and value) of one sequence, all heads. Nothing here multiplies matrices:
// it moves each element once. Where the cache has no room, or the block table names no page, nothing is written.
//
// Macros: ATTN_ELEMENT of Q and the new rows, ATTN_CACHE of K and V: 16-bit, or e4m3 or int8 bytes, whose value is
// byte * descale.
#include "attention/append.cuh"
#include "ptx/convert.cuh"
#include "ptx/convert8.cuh"
#include "ptx/math.cuh"

using Element = ATTN_ELEMENT;
using Cache = ATTN_CACHE;
constexpr int kThreads = ATTN_THREADS;

// Element `d` of a row after the rotation; dimensions past rotary_dim stay.
__device__ __forceinline__ float rotated(const AppendParams &p, const Element *row, int d, int position) {
    const float own = to_float(row[d]);
    if (d >= p.rotary_dim) return own;
    const int half = p.rotary_dim / 2;
    const int pair = p.interleaved ? d / 2 : d % half;
    const bool second = p.interleaved ? d % 2 == 1 : d >= half;
    const int partner = p.interleaved ? d ^ 1 : (second ? d - half : d + half);
    const i64_t entry = static_cast<i64_t>(min(max(position, 0), p.positions - 1)) * half + pair;
    const float other = to_float(row[partner]);
    const float turned = other * p.rotary_sin[entry];
    return fma_rn(own, p.rotary_cos[entry], second ? turned : -turned);
}

// Row of the cache for key `key` of a sequence: its batch entry (or page) and row, or no room.
struct CacheRow {
    i64_t entry;
    i64_t row;
    bool exists;
};

__device__ __forceinline__ CacheRow cache_row(const AppendParams &p, int batch, int leftpad, int key) {
    if (key < 0 || key + leftpad >= p.capacity) return {0, 0, false};
    if (p.page_size == 0) return {batch, key + leftpad, true};
    const int row = key + leftpad;
    const int page = p.block_table[batch * p.block_table_batch_stride + row / p.page_size];
    return {page, row % p.page_size, page >= 0 && page < p.num_pages};
}

__device__ __forceinline__ float descale(const float *scales, i64_t batch_stride, i64_t head_stride, int batch,
                                         int head) {
    return scales == nullptr ? 1.0f : scales[batch * batch_stride + head * head_stride];
}

extern "C" __global__ void __launch_bounds__(kThreads) attention_append_kv(const __grid_constant__ AppendParams p) {
    const int rows = max(p.seqlen_new, p.Q_rotated == nullptr ? 0 : p.seqlen_q);
    const int batch = static_cast<int>(blockIdx.x) / rows, row = static_cast<int>(blockIdx.x) % rows;
    const int leftpad = p.leftpad_k == nullptr ? 0 : min(max(p.leftpad_k[batch], 0), p.capacity);
    const int before = min(max(p.seqused_k[batch] - leftpad, 0), p.capacity - leftpad);
    if (row == 0 && threadIdx.x == 0) p.seqused_after[batch] = min(leftpad + before + p.seqlen_new, p.capacity);

    if (p.Q_rotated != nullptr && row < p.seqlen_q) {
        const int position = before + (p.q_advances ? row : 0);
        const Element *Q_gmem = static_cast<const Element *>(p.Q) + batch * p.q_batch_stride + row * p.q_row_stride;
        Element *target = static_cast<Element *>(p.Q_rotated) +
                          (static_cast<i64_t>(batch) * p.seqlen_q + row) * p.num_heads * p.head_dim;
        for (int i = threadIdx.x; i < p.num_heads * p.head_dim; i += kThreads) {
            const int head = i / p.head_dim, d = i % p.head_dim;
            target[i] = from_float<Element>(rotated(p, Q_gmem + head * p.q_head_stride, d, position));
        }
    }
    if (row >= p.seqlen_new) return;
    const CacheRow place = cache_row(p, batch, leftpad, before + row);
    if (!place.exists) return;
    const Element *K_new =
        static_cast<const Element *>(p.K_new) + batch * p.k_new_batch_stride + row * p.k_new_row_stride;
    Cache *K_gmem = static_cast<Cache *>(p.K) + place.entry * p.k_batch_stride + place.row * p.k_row_stride;
    for (int i = threadIdx.x; i < p.num_kv_heads * p.head_dim; i += kThreads) {
        const int head = i / p.head_dim, d = i % p.head_dim;
        const float scale = descale(p.k_descale, p.k_descale_batch_stride, p.k_descale_head_stride, batch, head);
        const float value = rotated(p, K_new + head * p.k_new_head_stride, d, before + row);
        K_gmem[head * p.k_head_stride + d] = from_float<Cache>(value / scale);
    }
    const Element *V_new =
        static_cast<const Element *>(p.V_new) + batch * p.v_new_batch_stride + row * p.v_new_row_stride;
    Cache *V_gmem = static_cast<Cache *>(p.V) + place.entry * p.v_batch_stride + place.row * p.v_row_stride;
    for (int i = threadIdx.x; i < p.num_kv_heads * p.v_head_dim; i += kThreads) {
        const int head = i / p.v_head_dim, d = i % p.v_head_dim;
        const float scale = descale(p.v_descale, p.v_descale_batch_stride, p.v_descale_head_stride, batch, head);
        V_gmem[head * p.v_head_stride + d] = from_float<Cache>(to_float(V_new[head * p.v_new_head_stride + d]) / scale);
    }
}
