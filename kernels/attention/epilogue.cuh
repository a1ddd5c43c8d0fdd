// O = O_acc / row_sum, LSE = max * scale + ln(row_sum), and their stores.
#pragma once
#include "attention/online_softmax.cuh"
#include "attention/params.cuh"
#include "attention/row_store.cuh"
#include "attention/sequence.cuh"

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

// Stores the rows of this warp that exist, the columns that are its own. first_query: of the warp, within the sequence.
template <class Out, int kMTiles, int kDTiles, class Sharers>
__device__ __forceinline__ void store_output(const AttentionParams &p, float (&O_acc)[kMTiles][kDTiles][4],
                                             const OnlineSoftmax<kMTiles> &softmax, const Sharers &sharers,
                                             const Sequence &sequence, int head, int first_query, int v_part) {
    Out *O_gmem = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + sequence.q_row * p.o_row_stride +
                  head * p.o_head_stride + v_part * (kDTiles * 8 * Sharers::kSharers);
    float *LSE_gmem = p.LSE + sequence.batch * p.lse_batch_stride + head * p.lse_head_stride + sequence.q_row;
    const bool stores_lse = lane_id() % 4 == 0 && sharers.rank == 0 && v_part == 0 && p.LSE != nullptr;
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const int query = first_query + m * 16 + r * 8 + lane_id() / 4;
            const bool exists = query < sequence.seqlen_q;
            const RowEnd row = finish_row(p, head, softmax.row_max[m][r], quad_sum(softmax.row_sum[m][r]));
            store_row(O_gmem + query * p.o_row_stride, reinterpret_cast<float (&)[kDTiles * 4]>(O_acc[m]), r,
                      row.factor, exists, sharers);
            if (stores_lse && exists) LSE_gmem[query] = row.lse;
        }
    }
}
