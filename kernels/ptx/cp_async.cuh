// cp.async: 16 bytes from global to shared memory without a register in between.
#pragma once
#include "ptx/types.cuh"

// Copies source_bytes (0 or 16) and fills the rest of the 16 bytes with zeros: source_bytes = 0 reads nothing.
__device__ __forceinline__ void cp_async_16(u32_t smem, const void *gmem, int source_bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem), "l"(gmem), "r"(source_bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's latest groups are still in flight.
template <int kPending>
__device__ __forceinline__ void cp_async_wait_group() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
