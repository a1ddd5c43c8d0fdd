// O = O_acc / row_sum, LSE = max * scale + ln(row_sum), and their stores.
#pragma once
#include "attention/online_softmax.cuh"
#include "attention/params.cuh"
#include "ptx/convert.cuh"

// Two neighbouring elements of one row.
__device__ __forceinline__ void store_pair(u16_t *target, u32_t pair) {
#if ATTN_ALIGNED
    *reinterpret_cast<u32_t *>(target) = pair;
#else
    target[0] = static_cast<u16_t>(pair);
    target[1] = static_cast<u16_t>(pair >> 16);
#endif
}

// Stores the rows of this warp that exist. A row with no key has row_sum 0: O = 0, LSE = -inf. A row that saw a NaN
// has a NaN sum and keeps it.
template <class T, int kMTiles, int kDTiles>
__device__ __forceinline__ void store_output(const AttentionParams &p, float (&O_acc)[kMTiles][kDTiles][4],
                                             const OnlineSoftmax<kMTiles> &softmax, int batch, int head,
                                             int first_query, int v_part) {
    constexpr float kLn2 = 0.69314718055994531f;
    u16_t *O_gmem =
        static_cast<u16_t *>(p.O) + batch * p.o_batch_stride + head * p.o_head_stride + v_part * (kDTiles * 8);
    float *LSE_gmem = p.LSE + (static_cast<i64_t>(batch) * p.num_heads + head) * p.seqlen_q;
    const int quad_lane = lane_id() % 4;
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const int query = first_query + m * 16 + r * 8 + lane_id() / 4;
            const float sum = quad_sum(softmax.row_sum[m][r]);
            if (query >= p.seqlen_q) continue;
            const float inverse = sum == 0.0f ? 0.0f : __frcp_rn(sum);
            u16_t *O_row = O_gmem + query * p.o_row_stride + quad_lane * 2;
#pragma unroll
            for (int d = 0; d < kDTiles; ++d) {
                store_pair(O_row + d * 8, pack2<T>(O_acc[m][d][2 * r] * inverse, O_acc[m][d][2 * r + 1] * inverse));
            }
            if (quad_lane == 0 && v_part == 0 && p.LSE != nullptr) {
                const float natural_max = softmax.row_max[m][r] * p.exponent_scale * kLn2;
                LSE_gmem[query] = sum == 0.0f ? -infinity() : natural_max + logf(sum);
            }
        }
    }
}
