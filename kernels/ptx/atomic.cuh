// Words of global memory through which blocks of one launch meet. Scope .gpu: all threads of the device agree on them.
//
// Source: PTX ISA, "Memory Consistency Model"; "Parallel Synchronization and Communication Instructions: atom".
#pragma once
#include "ptx/types.cuh"

// ld.relaxed: the word as somebody left it, never an older copy of the multiprocessor's own.
__device__ __forceinline__ u64_t ld_relaxed(const u64_t *gmem) {
    u64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(gmem) : "memory");
    return value;
}

// st.relaxed.
__device__ __forceinline__ void st_relaxed(u64_t *gmem, u64_t value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(gmem), "l"(value) : "memory");
}

// atom.cas.relaxed: where the word is `expected`, it becomes `value`; returns what it was.
__device__ __forceinline__ u64_t atom_cas_relaxed(u64_t *gmem, u64_t expected, u64_t value) {
    u64_t found;
    asm volatile("atom.relaxed.gpu.global.cas.b64 %0, [%1], %2, %3;"
                 : "=l"(found)
                 : "l"(gmem), "l"(expected), "l"(value)
                 : "memory");
    return found;
}

// atom.add.acq_rel: returns what the word was. Release: what this thread wrote before, and what it knew to be written
// (behind a barrier: all that its block wrote), comes before the addition. Acquire: whoever reads behind it sees all that
// came before the additions that it found.
__device__ __forceinline__ u64_t atom_add_acq_rel(u64_t *gmem, u64_t value) {
    u64_t found;
    asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;" : "=l"(found) : "l"(gmem), "l"(value) : "memory");
    return found;
}
