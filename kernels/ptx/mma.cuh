// mma.sync m16n8k16, 16-bit operands, f32 accumulators. One function per instruction.
// Fragments (PTX ISA 9.7.14.5; attnprobe/layouts/mma_sync.py): g = lane / 4, t = lane % 4
//   A: a[0] (g, 2t..)  a[1] (g+8, 2t..)  a[2] (g, 8+2t..)  a[3] (g+8, 8+2t..)
//   B: b[0] (2t.., g)  b[1] (8+2t.., g)
//   C, D: d[0], d[1] (g, 2t..)  d[2], d[3] (g+8, 2t..)
#pragma once
#include "ptx/types.cuh"

template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const u32_t (&a)[4], const u32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_m16n8k16<f16_t>(float (&d)[4], const u32_t (&a)[4], const u32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<bf16_t>(float (&d)[4], const u32_t (&a)[4], const u32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
