// The end of a decode block: its warps' shares of O, maximum and sum merged through shared memory, and the result stored:
// O and LSE themselves, or, where the keys are split over blocks, this block's part (group_combine.cuh).
#pragma once
#include "attention/epilogue.cuh"
#include "attention/group_rows.cuh"
#include "attention/online_softmax.cuh"

// What one warp leaves in shared memory: for each 16 columns of O and each of a lane's two rows four numbers a lane, then
// maximum and sum of the 16 rows.
template <int kVDim>
struct WarpShare {
    static constexpr int kUnits = kVDim / 16;
    static constexpr int kStatsOffset = kUnits * 2 * kWarpSize * static_cast<int>(sizeof(float4_t));
    static constexpr int kBytes = kStatsOffset + 16 * static_cast<int>(sizeof(float2_t));

    unsigned char *base;

    __device__ __forceinline__ float4_t &numbers(int unit, int r) const {
        return reinterpret_cast<float4_t *>(base)[(unit * 2 + r) * kWarpSize + lane_id()];
    }
    __device__ __forceinline__ float2_t &stats(int row) const {
        return reinterpret_cast<float2_t *>(base + kStatsOffset)[row];
    }
};

// O of the rows that exist; maximum and sum of all.
template <int kVDim, int kDTiles>
__device__ __forceinline__ void write_share(const WarpShare<kVDim> &share, const float (&O_acc)[1][kDTiles][4],
                                            const OnlineSoftmax<1> &softmax, const GroupRows &rows, int seqlen_q) {
#pragma unroll
    for (int r = 0; r < kRowsPerLane; ++r) {
        const float sum = quad_sum(softmax.row_sum[0][r]);
        if (lane_id() % 4 == 0) share.stats(lane_id() / 4 + r * 8) = {softmax.row_max[0][r], sum};
        if (rows.rows[r].query >= seqlen_q) continue;
#pragma unroll
        for (int unit = 0; unit < kDTiles / 2; ++unit) {
            const float (&first)[4] = O_acc[0][2 * unit], (&second)[4] = O_acc[0][2 * unit + 1];
            share.numbers(unit, r) = {first[2 * r], first[2 * r + 1], second[2 * r], second[2 * r + 1]};
        }
    }
}

// Where a row's end is stored.
template <class Out>
struct RowTarget {
    Out *O;
    float *LSE;  // null where nobody asked for it
};

// O and LSE, or the part of this split, fp32; O from this block's columns on.
template <class Out, int kVDim, int kVParts>
__device__ __forceinline__ RowTarget<Out> row_target(const AttentionParams &p, const Sequence &sequence, QueryHead row,
                                                     int split, int v_part) {
    const i64_t query = sequence.q_row + row.query;
    const i64_t element = sequence.batch * p.lse_batch_stride + row.head * p.lse_head_stride + query;
#if ATTN_SPLIT
    const i64_t part = split * p.split_stride + element;
    return {p.O_split + part * (kVDim * kVParts) + v_part * kVDim,
            p.LSE_split + (split * kVParts + v_part) * p.split_stride + element};
#else
    Out *O = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + query * p.o_row_stride +
             row.head * p.o_head_stride + v_part * kVDim;
    return {O, p.LSE == nullptr || v_part != 0 ? nullptr : p.LSE + element};
#endif
}

// Merges the shares of kWarps warps (kStride bytes apart from `shares` on) and stores the rows that exist. kPairs: the four
// numbers of a unit are columns 2t, 2t + 1 and 8 more; else they are columns 4t, 4t + 2, 4t + 1, 4t + 3 (products8.cuh).
template <class Out, int kVDim, int kVParts, int kWarps, int kStride, bool kPairs>
__device__ __forceinline__ void merge_and_store(const AttentionParams &p, const Sequence &sequence,
                                                const GroupRows &rows, unsigned char *shares, float descale, int v_part,
                                                int split) {
    using Share = WarpShare<kVDim>;
    const int quad_lane = lane_id() % 4;
#pragma unroll
    for (int r = 0; r < kRowsPerLane; ++r) {
        if (rows.rows[r].query >= sequence.seqlen_q) continue;
        float2_t stats[kWarps];
        float row_max = -infinity();
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
            stats[w] = Share{shares + w * kStride}.stats(lane_id() / 4 + r * 8);
            row_max = max_f32(row_max, stats[w].x);
        }
        const float shift = row_max == -infinity() ? 0.0f : row_max;
        float sum = 0.0f, factor[kWarps];
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
            factor[w] = ex2_approx((stats[w].x - shift) * p.exponent_scale);
            sum = fma_rn(stats[w].y, factor[w], sum);
        }
        const RowEnd end = finish_row(p, rows.rows[r].head, row_max, sum);
        const RowTarget<Out> target = row_target<Out, kVDim, kVParts>(p, sequence, rows.rows[r], split, v_part);
        for (int unit = warp_id(); unit < Share::kUnits; unit += kWarps) {
            float4_t total = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int w = 0; w < kWarps; ++w) {
                const float4_t numbers = Share{shares + w * kStride}.numbers(unit, r);
#pragma unroll
                for (int i = 0; i < 4; ++i) total.v[i] = fma_rn(numbers.v[i], factor[w], total.v[i]);
            }
            const float scale = end.factor * descale;
#pragma unroll
            for (int i = 0; i < 4; ++i) total.v[i] *= scale;
            Out *O = target.O + unit * 16;
            if constexpr (kPairs) {
                store_pair(O + quad_lane * 2, total.v[0], total.v[1]);
                store_pair(O + quad_lane * 2 + 8, total.v[2], total.v[3]);
            } else {
                store_pair(O + quad_lane * 4, total.v[0], total.v[2]);
                store_pair(O + quad_lane * 4 + 2, total.v[1], total.v[3]);
            }
        }
        if (warp_id() == 0 && quad_lane == 0 && target.LSE != nullptr) *target.LSE = end.lse;
    }
}
