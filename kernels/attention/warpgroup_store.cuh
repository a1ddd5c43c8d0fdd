// O of a warpgroup from its accumulators to global memory, and LSE.
#pragma once
#include "attention/epilogue.cuh"
#include "attention/row_store.cuh"

// Row 0 of a sequence in O, at a head.
template <class Out>
__device__ __forceinline__ Out *output_rows(const AttentionParams &p, const Sequence &sequence, int head) {
    return static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + sequence.q_row * p.o_row_stride +
           head * p.o_head_stride;
}

// The two rows of this lane that exist, query and query + 8 of the sequence.
template <class Out, int kCount>
__device__ __forceinline__ void store_rows(const AttentionParams &p, const float (&O_acc)[kCount],
                                           const float (&row_max)[kRowsPerLane], const float (&row_sum)[kRowsPerLane],
                                           const Sequence &sequence, int head, int query) {
    Out *O_gmem = output_rows<Out>(p, sequence, head);
    float *LSE_gmem = p.LSE + sequence.batch * p.lse_batch_stride + head * p.lse_head_stride + sequence.q_row;
#pragma unroll
    for (int r = 0; r < kRowsPerLane; ++r) {
        const int row = query + r * 8;
        const RowEnd end = finish_row(p, head, row_max[r], quad_sum(row_sum[r]));
        store_row(O_gmem + row * p.o_row_stride, O_acc, r, end.factor, row < sequence.seqlen_q);
        if (lane_id() % 4 == 0 && p.LSE != nullptr && row < sequence.seqlen_q) LSE_gmem[row] = end.lse;
    }
}
