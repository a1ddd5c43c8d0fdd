// Conversions between f32 and the two 16-bit formats, two elements to a register: the low half is the first element.
#pragma once
#include "ptx/types.cuh"

template <class T>
__device__ __forceinline__ u32_t pack2(float low, float high);

// cvt.rn.f16x2.f32 d, a, b: a goes to the high half.
template <>
__device__ __forceinline__ u32_t pack2<f16_t>(float low, float high) {
    u32_t result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

template <>
__device__ __forceinline__ u32_t pack2<bf16_t>(float low, float high) {
    u32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

__device__ __forceinline__ float to_float(float value) { return value; }

__device__ __forceinline__ float to_float(f16_t value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

// bf16 is the upper half of an f32.
__device__ __forceinline__ float to_float(bf16_t value) {
    return __uint_as_float(static_cast<u32_t>(value.bits) << 16);
}

// Bits of a 16-bit format that this project needs by name.
template <class T>
struct Bits16;

template <>
struct Bits16<f16_t> {
    static constexpr u32_t kExponent = 0x7c00, kMantissa = 0x03ff;
};

template <>
struct Bits16<bf16_t> {
    static constexpr u32_t kExponent = 0x7f80, kMantissa = 0x007f;
};

// Whether either half of the register is NaN or infinite.
template <class T>
__device__ __forceinline__ bool any_nonfinite2(u32_t pair) {
    constexpr u32_t kExponent = Bits16<T>::kExponent;
    return (pair & kExponent) == kExponent || (pair >> 16 & kExponent) == kExponent;
}
