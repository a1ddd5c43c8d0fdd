// Arithmetic on two 16-bit floats in one register, and what brings 8-bit numbers there.
#pragma once
#include "ptx/types.cuh"

// fma.rn: a * b + c in both halves, each rounded once; subnormals are kept.
template <class T>
__device__ __forceinline__ u32_t fma_rn_x2(u32_t a, u32_t b, u32_t c);

template <>
__device__ __forceinline__ u32_t fma_rn_x2<f16_t>(u32_t a, u32_t b, u32_t c) {
    u32_t result;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

template <>
__device__ __forceinline__ u32_t fma_rn_x2<bf16_t>(u32_t a, u32_t b, u32_t c) {
    u32_t result;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

#if __CUDA_ARCH__ >= 890
// cvt.rn.f16x2.e4m3x2: the lower byte becomes the lower half. Exact; NaN stays NaN.
__device__ __forceinline__ u32_t cvt_f16x2_e4m3x2(u16_t pair) {
    u32_t result;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(result) : "h"(pair));
    return result;
}
#endif

// prmt: byte i of the result is byte (selector >> 4 * i & 7) of b:a, a the lower four.
__device__ __forceinline__ u32_t byte_perm(u32_t a, u32_t b, u32_t selector) { return __byte_perm(a, b, selector); }
