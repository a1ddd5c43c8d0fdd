// O of a warpgroup from its accumulators to global memory, and LSE.
#pragma once
#include "attention/epilogue.cuh"
#include "ptx/lane.cuh"
#include "ptx/shared.cuh"

// Transposes 4x4 words over a quad, kGroups times: lane t gives its column pair of four blocks of eight columns, and gets
// the whole of block t, 16 bytes. Step by step for all groups, so that their shuffles overlap.
template <int kGroups>
__device__ __forceinline__ void quad_transpose(u32_t (&w)[kGroups][4]) {
    const bool odd = lane_id() & 1, upper = lane_id() & 2;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const u32_t got = shfl_bfly(odd ? w[g][i] : w[g][i + 1], 1);
            w[g][i] = odd ? got : w[g][i];
            w[g][i + 1] = odd ? w[g][i + 1] : got;
        }
    }
    // Even lanes hold what lanes 0, 1 (or 2, 3) have of blocks 0 and 2, odd ones of blocks 1 and 3.
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const u32_t got = shfl_bfly(upper ? w[g][i] : w[g][i + 2], 2);
            w[g][i] = upper ? got : w[g][i];
            w[g][i + 2] = upper ? w[g][i + 2] : got;
        }
    }
}

// One row of O = O_acc * factor: of accumulator elements 2 * r, 2 * r + 1 of each four. The lanes of a quad call together.
template <class Out, int kCount>
__device__ __forceinline__ void store_row(Out *O_row, const float (&O_acc)[kCount], int r, float factor, bool exists) {
    const int quad_lane = lane_id() % 4;
    if constexpr (sizeof(Out) == 2 && kCount % 16 == 0 && ATTN_ALIGNED) {
        constexpr int kGroups = kCount % 64 == 0 ? 4 : kCount / 16 % 3 == 0 ? 3 : 1;  // as many as registers allow
#pragma unroll
        for (int first = 0; first < kCount; first += kGroups * 16) {
            u32_t w[kGroups][4];
#pragma unroll
            for (int i = 0; i < kGroups * 16; i += 4) {
                const int at = first + i + 2 * r;
                w[i / 16][i / 4 % 4] = pack2<Out>(O_acc[at] * factor, O_acc[at + 1] * factor);
            }
            quad_transpose(w);
#pragma unroll
            for (int g = 0; g < kGroups; ++g) {
                if (exists) st_global_v4(O_row + (first / 4 + g * 4 + quad_lane) * 8, w[g]);
            }
        }
    } else {
        if (!exists) return;
#pragma unroll
        for (int i = 2 * r; i < kCount; i += 4) {
            store_pair(O_row + i / 4 * 8 + quad_lane * 2, O_acc[i] * factor, O_acc[i + 1] * factor);
        }
    }
}

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
