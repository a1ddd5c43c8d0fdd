// ldmatrix m8n8.b16: lane l of x4 supplies the address of row l % 8 of matrix l / 8;
// register j of lane l holds matrix j at (l/4, 2*(l%4)..), with .trans at (2*(l%4).., l/4).
#pragma once
#include "ptx/types.cuh"

// The 32-bit address of shared memory that ldmatrix, cp.async and st.shared take.
__device__ __forceinline__ u32_t smem_address(const void *pointer) {
    return static_cast<u32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void ldmatrix_x4(u32_t (&r)[4], u32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(u32_t (&r)[4], u32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
