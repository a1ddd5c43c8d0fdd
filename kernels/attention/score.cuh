// What happens to a score between Q K^T and the softmax. Each feature is one block here and one row in features.py.
#pragma once
#include "attention/mask.cuh"
#include "attention/params.cuh"
#include "ptx/math.cuh"

#define ATTN_TRANSFORMED (ATTN_SCALED || ATTN_NEGATED)
constexpr bool kTransformed = ATTN_TRANSFORMED || kPlanes;  // by numbers, a bias or a mask

#if ATTN_SOFTCAP
// tanh to a relative error below 2^-20, where tanh.approx has an absolute one of 2^-11: times the cap it would be a
// visible error of the exponent. x P(x^2) / Q(x^2), fitted on [0, 8] for the least relative error, 2^-22.7; the rest is
// rounding. Beyond 8 tanh is 1 within 2^-22. One special function instead of the two of 1 - 2 / (1 + e^(2x)), which
// needs a series near 0 besides.
__device__ __forceinline__ float tanh_accurate(float x) {
    constexpr float kEnd = 8.0f;
    x = max_nan_f32(min_nan_f32(x, kEnd), -kEnd);
    const float square = x * x;
    float top = fma_rn(1.1428413927205838e-05f, square, 0.0029510229360312223f);
    top = fma_rn(top, square, 0.12925662100315094f);
    top = fma_rn(top, square, 0.9999998807907104f);
    float bottom = fma_rn(2.4592080192454137e-07f, square, 0.00023866904666647315f);
    bottom = fma_rn(bottom, square, 0.023815549910068512f);
    bottom = fma_rn(bottom, square, 0.4625887870788574f);
    bottom = fma_rn(bottom, square, 1.0f);
    // A Newton step: the result hardly ever depends on the last bit of the approximation, which chips differ in.
    const float guess = rcp_approx(bottom);
    return top * x * fma_rn(fma_rn(-bottom, guess, 1.0f), guess, guess);
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

    // bias: what is added in the end.
    __device__ __forceinline__ float operator()(float s, const Mask &mask, int query, int key, float bias) const {
#if ATTN_NEGATED
        s = -s;  // a negative softmax_scale: the sign goes here, its magnitude into the scales
#endif
#if ATTN_BIAS && !ATTN_SOFTCAP && !ATTN_ALIBI
        s = fma_rn(s, scale, bias);
#else
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
        s += bias;
#endif
#endif
        return s;
    }
};
