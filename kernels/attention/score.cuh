// What happens to a score between Q K^T and the mask. Each feature is one block here and one row in features.py.
#pragma once
#include "attention/params.cuh"
#include "ptx/math.cuh"

#if ATTN_SOFTCAP
// tanh(x) = 1 - 2 / (1 + e^(2x)): absolute error below 2^-22, where tanh.approx has 2^-11, which times the cap would
// be a visible error of the exponent. e^(2x) = inf gives 1, e^(2x) = 0 gives -1.
__device__ __forceinline__ float tanh_accurate(float x) {
    constexpr float kTwoLog2e = 2.8853900817779268f;
    return fma_rn(-2.0f, __frcp_rn(ex2_approx(x * kTwoLog2e) + 1.0f), 1.0f);
}
#endif

__device__ __forceinline__ float transform_score(float s, const AttentionParams &p) {
#if ATTN_NEGATED
    s = -s;  // a negative softmax_scale: the sign goes here, its magnitude into exponent_scale
#endif
#if ATTN_SOFTCAP
    s = p.softcap * tanh_accurate(s * p.score_scale);  // score_scale = |softmax_scale| / softcap
#endif
    return s;
}
