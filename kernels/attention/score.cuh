// What happens to a score between Q K^T and the softmax. Each feature is one block here and one row in features.py.
#pragma once
#include "attention/mask.cuh"
#include "attention/params.cuh"
#include "ptx/math.cuh"

#define ATTN_TRANSFORMED (ATTN_SCALED || ATTN_NEGATED)

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

// The factors of one head, read once per block.
struct ScoreTransform {
    float scale;
    float softcap;
    float slope;

    __device__ __forceinline__ ScoreTransform(const AttentionParams &p, int batch, int head)
        : scale(p.score_scale), softcap(p.softcap), slope(0.0f) {
#if ATTN_HEAD_SCALE
        scale *= p.head_scales[head];  // score_scale is 1, or 1 / softcap
#endif
#if ATTN_K_DESCALE
        scale *= p.k_descale[batch * p.k_descale_batch_stride + head / p.heads_per_kv_head * p.k_descale_head_stride];
#endif
#if ATTN_Q_DESCALE
        scale *= p.q_descale[batch * p.q_descale_batch_stride + head / p.heads_per_kv_head * p.q_descale_head_stride];
#endif
#if ATTN_ALIBI
        slope = p.alibi_slopes[batch * p.alibi_slopes_batch_stride + head * p.alibi_slopes_head_stride];
#endif
    }

    __device__ __forceinline__ float operator()(float s, const Mask &mask, int query, int key) const {
#if ATTN_NEGATED
        s = -s;  // a negative softmax_scale: the sign goes here, its magnitude into the scales
#endif
#if ATTN_SCALED
        s *= scale;
#endif
#if ATTN_SOFTCAP
        s = softcap * tanh_accurate(s);
#endif
#if ATTN_ALIBI
        s = fma_rn(-slope, static_cast<float>(abs(query + mask.diagonal - key)), s);
#endif
#if ATTN_BIAS
        if (mask.exists(query, key)) s += to_float(mask.bias.at(query, key));
#endif
        return s;
    }
};
