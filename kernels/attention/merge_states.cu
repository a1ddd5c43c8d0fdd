// Attention over two sets of keys made one: LSE = ln(exp(LSE_a) + exp(LSE_b)), O = exp(LSE_a - LSE) O_a + exp(LSE_b - LSE) O_b.
//
// A warp works on one row of O. A set without a key for this row has LSE -inf: its O is not read, and what the other has
// goes through unchanged, bit for bit.
//
// Macros: ATTN_OUT, the type of O (f16_t, bf16_t, float); ATTN_ALIGNED, whether pairs of its elements may be accessed at once.
#include "attention/epilogue.cuh"
#include "attention/merge.cuh"
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/math.cuh"

constexpr int kThreads = 128;

__device__ __forceinline__ float2_t load_pair(const float *source) { return {source[0], source[1]}; }

template <class T>
__device__ __forceinline__ float2_t load_pair(const T *source) {
    return {to_float(source[0]), to_float(source[1])};
}

extern "C" __global__ void __launch_bounds__(kThreads) attention_merge_states(const __grid_constant__ MergeParams p) {
    constexpr float kLog2e = 1.4426950408889634f;
    const i64_t number = static_cast<i64_t>(blockIdx.x) * (kThreads / kWarpSize) + warp_id();
    if (number >= static_cast<i64_t>(p.batch) * p.rows * p.num_heads) return;
    const i64_t head = number % p.num_heads, row = number / p.num_heads % p.rows;
    const i64_t batch = number / p.num_heads / p.rows;
    const auto *O_a = static_cast<const ATTN_OUT *>(p.O_a) + batch * p.o_a_batch_stride + row * p.o_a_row_stride +
                      head * p.o_a_head_stride;
    const auto *O_b = static_cast<const ATTN_OUT *>(p.O_b) + batch * p.o_b_batch_stride + row * p.o_b_row_stride +
                      head * p.o_b_head_stride;
    auto *O = static_cast<ATTN_OUT *>(p.O) + batch * p.o_batch_stride + row * p.o_row_stride + head * p.o_head_stride;
    const float a = p.LSE_a[batch * p.lse_a_batch_stride + head * p.lse_a_head_stride + row * p.lse_a_row_stride];
    const float b = p.LSE_b[batch * p.lse_b_batch_stride + head * p.lse_b_head_stride + row * p.lse_b_row_stride];

    const float top = max_f32(a, b);
    const float shift = top == -infinity() ? 0.0f : top;
    const float weight_a = ex2_approx((a - shift) * kLog2e), weight_b = ex2_approx((b - shift) * kLog2e);
    const float sum = weight_a + weight_b;
    const bool has_a = a != -infinity(), has_b = b != -infinity();
    const float factor_a = weight_a * __frcp_rn(sum), factor_b = weight_b * __frcp_rn(sum);
    for (int column = lane_id() * 2; column < p.width; column += kWarpSize * 2) {
        float2_t total = {0.0f, 0.0f};
        if (has_a) {
            const float2_t part = load_pair(O_a + column);
            total = {part.x * factor_a, part.y * factor_a};
        }
        if (has_b) {
            const float2_t part = load_pair(O_b + column);
            total.x = has_a ? fma_rn(part.x, factor_b, total.x) : part.x;
            total.y = has_a ? fma_rn(part.y, factor_b, total.y) : part.y;
        }
        store_pair(O + column, total.x, total.y);
    }
    if (lane_id() == 0) {
        const float LSE = has_a || has_b ? top + logf(sum) : -infinity();
        p.LSE[batch * p.lse_batch_stride + head * p.lse_head_stride + row * p.lse_row_stride] = LSE;
    }
}
