// Loads and stores of whole registers, to shared memory by its 32-bit address and to global memory.
#pragma once
#include "ptx/types.cuh"

__device__ __forceinline__ u32_t ld_shared(u32_t smem) {
    u32_t value;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(smem) : "memory");
    return value;
}

// Two bytes, the upper ones of the register become 0.
__device__ __forceinline__ u32_t ld_shared_u16(u32_t smem) {
    u16_t value;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(value) : "r"(smem) : "memory");
    return value;
}

// Eight bytes to two floats.
__device__ __forceinline__ float2_t ld_shared_v2(u32_t smem) {
    float2_t value;
    asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(smem) : "memory");
    return value;
}

__device__ __forceinline__ void st_shared(u32_t smem, u32_t value) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(smem), "r"(value) : "memory");
}

// 16 bytes to four registers.
__device__ __forceinline__ void ld_shared_v4(u32_t (&value)[4], u32_t smem) {
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                 : "r"(smem)
                 : "memory");
}

__device__ __forceinline__ void st_global_v4(void *gmem, const u32_t (&value)[4]) {
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(gmem), "r"(value[0]), "r"(value[1]), "r"(value[2]),
                 "r"(value[3])
                 : "memory");
}
