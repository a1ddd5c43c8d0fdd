// O and LSE from the parts that decode_split.cu left: one block a row of O.
//
//   LSE = ln sum_s exp(LSE_s)    O = sum_s exp(LSE_s - LSE) O_s
//
// A split in which a row saw no key has LSE -inf; its O is not read. A sink joins the sum here, once.
//
// Macros as in decode_split.cu.
#include "attention/epilogue.cuh"
#include "attention/params.cuh"
#include "attention/sequence.cuh"

constexpr int kWidth = ATTN_V_DIM * ATTN_V_PARTS;
constexpr int kThreads = 128;
constexpr int kColumns = kWidth / 4;           // threads across O, four columns each
constexpr int kStreams = kThreads / kColumns;  // splits that are read side by side
static_assert(kStreams >= 1, "a block is as wide as O");
constexpr int kMaxSplits = 256;
constexpr float kEmpty = -1.0f;  // no weight is negative; one of 0 may belong to a NaN

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = max_f32(x, shfl_bfly(x, mask));
    return x;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x += shfl_bfly(x, mask);
    return x;
}

extern "C" __global__ void __launch_bounds__(kThreads) attention_combine(const __grid_constant__ AttentionParams p) {
    constexpr float kLog2e = 1.4426950408889634f;
    __shared__ float weights[kMaxSplits];
    __shared__ float4_t sums[kStreams][kColumns];
    const i64_t element = blockIdx.x;
#if ATTN_VARLEN_Q
    const int batch = 0, head = static_cast<int>(element / p.rows_q), query = static_cast<int>(element % p.rows_q);
    // Rows behind the last sequence are nobody's.
    if (query >= clamped(p.cu_seqlens_q[p.batch], 0, p.rows_q)) return;
#else
    const int query = static_cast<int>(element % p.rows_q);
    const int head = static_cast<int>(element / p.rows_q % p.num_heads);
    const int batch = static_cast<int>(element / p.rows_q / p.num_heads);
#endif
    // Every warp works out the maximum and the sum for itself, in the same order.
    const float *LSE_parts = p.LSE_split + element;
    float top = -infinity();
    for (int split = lane_id(); split < p.num_splits; split += kWarpSize) {
        top = max_f32(top, LSE_parts[split * p.split_stride]);
    }
    top = warp_max(top);
#if ATTN_SINKS
    top = max_f32(top, p.sinks[head]);
#endif
    const float shift = top == -infinity() ? 0.0f : top;
    float sum = 0.0f;
    for (int split = lane_id(); split < p.num_splits; split += kWarpSize) {
        const float LSE = LSE_parts[split * p.split_stride];
        const float weight = ex2_approx((LSE - shift) * kLog2e);
        sum += weight;
        if (warp_id() == 0) weights[split] = LSE == -infinity() ? kEmpty : weight;
    }
    sum = warp_sum(sum);
#if ATTN_SINKS
    sum += ex2_approx((p.sinks[head] - shift) * kLog2e);
#endif
    __syncthreads();

    const int column = threadIdx.x % kColumns, stream = threadIdx.x / kColumns;
    float4_t total = {0.0f, 0.0f, 0.0f, 0.0f};
    if (stream < kStreams) {
        const float *O_parts = p.O_split + element * kWidth + column * 4;
#pragma unroll 4
        for (int split = stream; split < p.num_splits; split += kStreams) {
            const float weight = weights[split];
            if (weight == kEmpty) continue;
            const float4_t part = *reinterpret_cast<const float4_t *>(O_parts + split * p.split_stride * kWidth);
#pragma unroll
            for (int i = 0; i < 4; ++i) total.v[i] = fma_rn(part.v[i], weight, total.v[i]);
        }
        sums[stream][column] = total;
    }
    __syncthreads();
    if (stream > 0) return;
#pragma unroll
    for (int other = 1; other < kStreams; ++other) {
        const float4_t more = sums[other][column];
#pragma unroll
        for (int i = 0; i < 4; ++i) total.v[i] += more.v[i];
    }
    const float factor = sum == 0.0f ? 0.0f : __frcp_rn(sum);
    ATTN_OUT *O = static_cast<ATTN_OUT *>(p.O) + batch * p.o_batch_stride + query * p.o_row_stride +
                  head * p.o_head_stride + column * 4;
    store_pair(O, total.v[0] * factor, total.v[1] * factor);
    store_pair(O + 2, total.v[2] * factor, total.v[3] * factor);
    if (column == 0 && p.LSE != nullptr) p.LSE[element] = sum == 0.0f ? -infinity() : top + logf(sum);
}
