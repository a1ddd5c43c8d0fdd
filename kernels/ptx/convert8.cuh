// f32 to the 16-bit formats and to the two 8-bit formats of a K/V cache, one element at a time. The e4m3 conversion is
// done in integers: cvt has it from sm_89 on only.
#pragma once
#include "ptx/convert.cuh"

template <class T>
__device__ __forceinline__ T from_float(float value) {
    return {static_cast<u16_t>(pack2<T>(value, 0.0f))};
}

// Nearest even; what lies beyond 448 becomes 448, NaN stays NaN (0x7f).
template <>
__device__ __forceinline__ e4m3_t from_float<e4m3_t>(float value) {
    constexpr float kMost = 448.0f, kLeastNormal = 0.015625f, kSubnormalsPerUnit = 512.0f;
    constexpr u32_t kMantissaCut = 20;                // of 23 bits three stay
    constexpr u32_t kExponentShift = (127 - 7) << 3;  // difference of the biases, in the result's bits
    const u32_t sign = __float_as_uint(value) >> 31 << 7;
    if (value != value) return {static_cast<u8_t>(sign | 0x7fu)};
    const float magnitude = fminf(fabsf(value), kMost);
    if (magnitude < kLeastNormal) {
        return {static_cast<u8_t>(sign | static_cast<u32_t>(__float2int_rn(magnitude * kSubnormalsPerUnit)))};
    }
    u32_t bits = __float_as_uint(magnitude);
    bits += (1u << (kMantissaCut - 1)) - 1u + (bits >> kMantissaCut & 1u);
    return {static_cast<u8_t>(sign | ((bits >> kMantissaCut) - kExponentShift))};
}

// Nearest even, cut to -128 ... 127; NaN becomes 0.
template <>
__device__ __forceinline__ s8_t from_float<s8_t>(float value) {
    const float cut = fminf(fmaxf(value, -128.0f), 127.0f);
    return {static_cast<u8_t>(value != value ? 0 : __float2int_rn(cut))};
}
