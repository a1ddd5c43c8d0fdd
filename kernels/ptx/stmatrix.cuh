// stmatrix m8n8.b16: lane l of x4 supplies the address of row l % 8 of matrix l / 8; register j of lane l is stored at
// (l/4, 2*(l%4)..) of matrix j: ldmatrix backwards.
#pragma once
#include "ptx/types.cuh"

__device__ __forceinline__ void stmatrix_x4(u32_t address, const u32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
                 "r"(r[2]), "r"(r[3])
                 : "memory");
}
