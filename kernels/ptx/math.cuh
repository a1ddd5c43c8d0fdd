// Scalar f32 arithmetic, each function one PTX instruction. Kernels are compiled with -fmad=false,
// so an fma stands in the machine code exactly where one of these stands in the source.
#pragma once
#include "ptx/types.cuh"

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// fma.rn: a * b + c, rounded once.
__device__ __forceinline__ float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// ex2.approx.ftz: 2^x. 2^-inf = +0, 2^NaN = NaN.
__device__ __forceinline__ float ex2_approx(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

// max.f32 returns the other operand where one is NaN.
__device__ __forceinline__ float max_f32(float a, float b) { return fmaxf(a, b); }

// setp.nan.f32: whether one is NaN.
__device__ __forceinline__ bool is_unordered(float a, float b) { return !(a < b || a >= b); }

// max.NaN.f32, min.NaN.f32 return NaN where one is NaN.
__device__ __forceinline__ float max_nan_f32(float a, float b) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
}
__device__ __forceinline__ float min_nan_f32(float a, float b) {
    float result;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
}

// rcp.approx.ftz: 1 / x, off by one unit in the last place at most.
__device__ __forceinline__ float rcp_approx(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
