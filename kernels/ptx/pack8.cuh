// f32 to e4m3 in registers, four elements to a register: the lowest byte is the first element.
#pragma once
#include "ptx/types.cuh"

// cvt.rn.satfinite.e4m3x2.f32 d, a, b: a goes to the high byte. Nearest even; what lies beyond 448 becomes 448, NaN stays
// NaN. Both conversions in one asm: the compiler then merges the second into the first's register.
__device__ __forceinline__ u32_t pack4_e4m3(float e0, float e1, float e2, float e3) {
    u32_t result;
    asm("{.reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;"
        " mov.b32 %0, {low, high};}"
        : "=r"(result)
        : "f"(e0), "f"(e1), "f"(e2), "f"(e3));
    return result;
}
