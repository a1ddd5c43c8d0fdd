// O = O_acc / row_sum, LSE = max * scale + ln(row_sum), and their stores.
#pragma once
#include "attention/online_softmax.cuh"
#include "attention/params.cuh"
#include "attention/sequence.cuh"
#include "ptx/convert.cuh"

// Two neighbouring elements of one row of O.
template <class T>
__device__ __forceinline__ void store_pair(T *target, float first, float second) {
    const u32_t pair = pack2<T>(first, second);
#if ATTN_ALIGNED
    *reinterpret_cast<u32_t *>(target) = pair;
#else
    target[0].bits = static_cast<u16_t>(pair);
    target[1].bits = static_cast<u16_t>(pair >> 16);
#endif
}

template <>
__device__ __forceinline__ void store_pair<float>(float *target, float first, float second) {
#if ATTN_ALIGNED
    *reinterpret_cast<float2_t *>(target) = {first, second};
#else
    target[0] = first;
    target[1] = second;
#endif
}

// What remains of a row: O = O_acc * factor, LSE.
struct RowEnd {
    float factor;
    float lse;
};

// A row with no key has sum 0: O = 0, LSE = -inf. A row that saw a NaN has a NaN sum and keeps it. A sink is one more
// logit in the sum, without a value: it may well be the maximum. Where the keys are split it joins when they are combined.
// O_acc and the sum are in units of 2^max_log2.
__device__ __forceinline__ RowEnd finish_row_log2(const AttentionParams &p, int head, float max_log2, float sum) {
    constexpr float kLn2 = 0.69314718055994531f;
    float shrink = 1.0f;
#if ATTN_SINKS && !ATTN_SPLIT
    constexpr float kLog2e = 1.4426950408889634f;
    const float sink_log2 = p.sinks[head] * kLog2e;
    const float with_sink = max_f32(max_log2, sink_log2);
    if (with_sink != -infinity()) {
        shrink = ex2_approx(max_log2 - with_sink);
        sum = fma_rn(sum, shrink, ex2_approx(sink_log2 - with_sink));
        max_log2 = with_sink;
    }
#endif
    if (sum == 0.0f) return {0.0f, -infinity()};
    return {__frcp_rn(sum) * shrink, max_log2 * kLn2 + logf(sum)};
}

__device__ __forceinline__ RowEnd finish_row(const AttentionParams &p, int head, float row_max, float sum) {
    const float max_log2 = row_max * p.exponent_scale;
    return finish_row_log2(p, head, max_log2, sum);
}

// Stores the rows of this warp that exist. first_query: of the warp, within the sequence.
template <class Out, int kMTiles, int kDTiles>
__device__ __forceinline__ void store_output(const AttentionParams &p, const float (&O_acc)[kMTiles][kDTiles][4],
                                             const OnlineSoftmax<kMTiles> &softmax, const Sequence &sequence, int head,
                                             int first_query, int v_part) {
    Out *O_gmem = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + sequence.q_row * p.o_row_stride +
                  head * p.o_head_stride + v_part * (kDTiles * 8);
    float *LSE_gmem = p.LSE + sequence.batch * p.lse_batch_stride + head * p.lse_head_stride + sequence.q_row;
    const int quad_lane = lane_id() % 4;
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const int query = first_query + m * 16 + r * 8 + lane_id() / 4;
            const float sum = quad_sum(softmax.row_sum[m][r]);
            if (query >= sequence.seqlen_q) continue;
            const RowEnd row = finish_row(p, head, softmax.row_max[m][r], sum);
            const float factor = row.factor;
            Out *O_row = O_gmem + query * p.o_row_stride + quad_lane * 2;
#pragma unroll
            for (int d = 0; d < kDTiles; ++d) {
                store_pair(O_row + d * 8, O_acc[m][d][2 * r] * factor, O_acc[m][d][2 * r + 1] * factor);
            }
            if (quad_lane == 0 && v_part == 0 && p.LSE != nullptr) LSE_gmem[query] = row.lse;
        }
    }
}
