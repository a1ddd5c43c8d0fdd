// cp.async: 16 or 4 bytes from global to shared memory without a register in between.
#pragma once
#include "ptx/types.cuh"

// Copies source_bytes (0 or 16) and fills the rest of the 16 bytes with zeros: source_bytes = 0 reads nothing.
__device__ __forceinline__ void cp_async_16(u32_t smem, const void *gmem, int source_bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem), "l"(gmem), "r"(source_bytes) : "memory");
}

// createpolicy: lines that L2 gives up first, for what is read once.
__device__ __forceinline__ u64_t evict_first_policy() {
    u64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// The same, and what L2 should do with the lines.
__device__ __forceinline__ void cp_async_16(u32_t smem, const void *gmem, int source_bytes, u64_t policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(smem), "l"(gmem),
                 "r"(source_bytes), "l"(policy)
                 : "memory");
}

// cp.async of 4 bytes.
__device__ __forceinline__ void cp_async_4(u32_t smem, const void *gmem, int source_bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem), "l"(gmem), "r"(source_bytes) : "memory");
}

// Arrives at an mbarrier, as one of the arrivals that it was made for, once this thread's copies so far have landed.
__device__ __forceinline__ void cp_async_mbarrier_arrive_noinc(u32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's latest groups are still in flight.
template <int kPending>
__device__ __forceinline__ void cp_async_wait_group() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// st.shared.v4: 16 bytes from four registers.
__device__ __forceinline__ void st_shared_v4(u32_t smem, const u32_t (&value)[4]) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(smem), "r"(value[0]), "r"(value[1]), "r"(value[2]),
                 "r"(value[3])
                 : "memory");
}
