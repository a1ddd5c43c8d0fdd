// O of a warpgroup whose V was transposed (transpose_values.cuh): which columns a lane holds, and O from its accumulators to
// global memory, and LSE.
//
// Of 16 columns of O the accumulators have the even ones as 0 - 7 and the odd ones as 8 - 15: lane t of a quad holds the
// columns 4t ... 4t + 3 of each row.
#pragma once
#include "attention/epilogue.cuh"
#include "attention/nonfinite_tile.cuh"
#include "ptx/lane.cuh"

// Index of the accumulator that holds column 16 * group + 4t + i of row r.
__device__ __forceinline__ constexpr int accumulator_of(int group, int i, int r) {
    return group * 8 + i % 2 * 4 + r * 2 + i / 2;
}

// O += NaN where a row sees a NaN of V [begin, end). query: of the first of the lane's two rows. V_gmem: of key 0.
template <int kCount>
__device__ __forceinline__ void add_nan_columns(float (&O_acc)[kCount], const Mask &mask, const u8_t *V_gmem,
                                                i64_t row_stride, int query, int begin, int end) {
    for (int key = begin; key < min(end, mask.seqlen_k); ++key) {
        const bool visible[2] = {mask.visible(query, key), mask.visible(query + 8, key)};
        const u8_t *V_row = V_gmem + key * row_stride + lane_id() % 4 * 4;
#pragma unroll
        for (int group = 0; group < kCount / 8; ++group) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (nonfinite_bits<e4m3_t>(V_row[group * 16 + i]) == 0) continue;
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    if (visible[r]) O_acc[accumulator_of(group, i, r)] = infinity() - infinity();
                }
            }
        }
    }
}

// Four neighbouring elements of one row of O.
template <class T>
__device__ __forceinline__ void store_four(T *target, const float (&value)[4]) {
#if ATTN_ALIGNED
    *reinterpret_cast<word2_t *>(target) = {pack2<T>(value[0], value[1]), pack2<T>(value[2], value[3])};
#else
    store_pair(target, value[0], value[1]);
    store_pair(target + 2, value[2], value[3]);
#endif
}

template <>
__device__ __forceinline__ void store_four<float>(float *target, const float (&value)[4]) {
#if ATTN_ALIGNED
    *reinterpret_cast<float4_t *>(target) = {value[0], value[1], value[2], value[3]};
#else
    store_pair(target, value[0], value[1]);
    store_pair(target + 2, value[2], value[3]);
#endif
}

// The two rows of this lane that exist, query and query + 8 of the sequence: O = O_acc * factor / row_sum. O_acc and the
// sums are in units of 2^max_log2.
template <class Out, int kCount>
__device__ __forceinline__ void store_column_rows(const AttentionParams &p, const float (&O_acc)[kCount],
                                                  const float (&max_log2)[kRowsPerLane],
                                                  const float (&row_sum)[kRowsPerLane], float factor,
                                                  const Sequence &sequence, int head, int query) {
    Out *O_gmem = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + sequence.q_row * p.o_row_stride +
                  head * p.o_head_stride + lane_id() % 4 * 4;
    float *LSE_gmem = p.LSE + sequence.batch * p.lse_batch_stride + head * p.lse_head_stride + sequence.q_row;
#pragma unroll
    for (int r = 0; r < kRowsPerLane; ++r) {
        const int row = query + r * 8;
        const RowEnd end = finish_row_log2(p, head, max_log2[r], quad_sum(row_sum[r]));
        if (row >= sequence.seqlen_q) continue;
        Out *O_row = O_gmem + row * p.o_row_stride;
        const float by = end.factor * factor;
#pragma unroll
        for (int group = 0; group < kCount / 8; ++group) {
            float value[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) value[i] = O_acc[accumulator_of(group, i, r)] * by;
            store_four(O_row + group * 16, value);
        }
        if (lane_id() % 4 == 0 && p.LSE != nullptr) LSE_gmem[row] = end.lse;
    }
}
