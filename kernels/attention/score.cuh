// What happens to a score between Q K^T and the mask. Each feature is one block here and one row in features.py.
#pragma once
#include "attention/params.cuh"
#include "ptx/math.cuh"

#if ATTN_SOFTCAP
// tanh to a relative error of about 2^-20, where tanh.approx has an absolute one of 2^-11: times the cap it would be
// a visible error of the exponent. Near 0 the Taylor series to x^9 (the next term is below 2^-24 of the sum); beyond,
// 1 - 2 / (1 + e^(2x)), where e^(2x) = inf gives 1 and e^(2x) = 0 gives -1.
__device__ __forceinline__ float tanh_accurate(float x) {
    constexpr float kTwoLog2e = 2.8853900817779268f, kSeriesEnd = 0.3f;
    const float square = x * x;
    float series = fma_rn(62.0f / 2835.0f, square, -17.0f / 315.0f);
    series = fma_rn(series, square, 2.0f / 15.0f);
    series = fma_rn(series, square, -1.0f / 3.0f);
    series = fma_rn(series * square, x, x);
    const float quotient = fma_rn(-2.0f, __frcp_rn(ex2_approx(x * kTwoLog2e) + 1.0f), 1.0f);
    return fabsf(x) < kSeriesEnd ? series : quotient;
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
