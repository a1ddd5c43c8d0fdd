// Rows of O from accumulators to global memory, 16 bytes a lane where they are aligned.
#pragma once
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/shared.cuh"

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

// The n8 blocks of accumulators are neighbours in O.
struct AllColumns {
    __device__ __forceinline__ int column(int block) const { return block * 8; }
};

// One row of O = O_acc * factor: of accumulator elements 2 * r, 2 * r + 1 of each four. The lanes of a quad call together.
// columns: where in O each n8 block of the accumulators begins.
template <class Out, int kCount, class Columns = AllColumns>
__device__ __forceinline__ void store_row(Out *O_row, const float (&O_acc)[kCount], int r, float factor, bool exists,
                                          const Columns &columns = {}) {
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
                if (exists) st_global_v4(O_row + columns.column(first / 4 + g * 4 + quad_lane), w[g]);
            }
        }
    } else {
        if (!exists) return;
#pragma unroll
        for (int i = 2 * r; i < kCount; i += 4) {
            store_pair(O_row + columns.column(i / 4) + quad_lane * 2, O_acc[i] * factor, O_acc[i + 1] * factor);
        }
    }
}
