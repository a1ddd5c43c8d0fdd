// Bulk copies of tensor tiles (TMA): global to shared memory through a tensor map, in 128-byte swizzle where the map says so.
#pragma once
#include "ptx/types.cuh"

// 128 bytes that the driver encodes (cuTensorMapEncodeTiled): address, sizes, strides, box and swizzle of a tensor.
struct alignas(64) TensorMap {
    u64_t words[16];
};

// What L2 should do with the lines (createpolicy.fractional of all lines).
constexpr u64_t kEvictFirst = 0x12f0000000000000ull, kEvictLast = 0x14f0000000000000ull;

__device__ __forceinline__ void prefetch_tensormap(const TensorMap &map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// The block's own shared memory, as a copy's target is named. Where clusters are left out, naming a cluster's would mean a
// test and a call; the other form came with them.
#if __CUDA_ARCH__ >= 1000
#define ATTN_OWN_SHARED "shared::cta"
#else
#define ATTN_OWN_SHARED "shared::cluster"
#endif

// cp.async.bulk.tensor.4d: the box at coordinates (c0, c1, c2, c3); what lies outside the tensor becomes zero. Its bytes
// count on the barrier.
__device__ __forceinline__ void cp_async_bulk_tensor_4d(u32_t smem, const TensorMap &map, u32_t barrier, int c0, int c1,
                                                        int c2, int c3, u64_t policy) {
    asm volatile("cp.async.bulk.tensor.4d." ATTN_OWN_SHARED
                 ".global.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(smem),
                 "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "l"(policy)
                 : "memory");
}

// Orders what this thread wrote to shared memory before reads of the tensor core and of bulk copies.
__device__ __forceinline__ void fence_proxy_async_shared() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
