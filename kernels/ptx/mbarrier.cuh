// mbarrier: barriers in shared memory that count arrivals of threads and bytes of bulk copies. Phases alternate between
// parity 0 and 1; waiting for the parity of the phase before the first returns at once.
#pragma once
#include "ptx/types.cuh"

__device__ __forceinline__ void mbarrier_init(u32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to bulk copies.
__device__ __forceinline__ void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(u32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// The same; the state of the phase before.
__device__ __forceinline__ u64_t mbarrier_arrive_state(u32_t barrier) {
    u64_t state;
    asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(state) : "r"(barrier) : "memory");
    return state;
}

// Arrivals that the phase of a state still waited for.
__device__ __forceinline__ u32_t mbarrier_pending_count(u64_t state) {
    u32_t count;
    asm("mbarrier.pending_count.b64 %0, %1;" : "=r"(count) : "l"(state));
    return count;
}

// Arrives, and lets the phase wait for so many bytes more.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(u32_t barrier, u32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ bool mbarrier_try_wait_parity(u32_t barrier, u32_t parity) {
    u32_t done;
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}

// The same, and the thread may sleep for so many ns; it wakes when the phase is complete.
__device__ __forceinline__ bool mbarrier_try_wait_parity(u32_t barrier, u32_t parity, u32_t longest) {
    u32_t done;
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity), "r"(longest)
                 : "memory");
    return done != 0;
}

// Whether the phase of this parity is complete by now.
__device__ __forceinline__ bool mbarrier_test_wait_parity(u32_t barrier, u32_t parity) {
    u32_t done;
    asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}

// Returns once the phase of this parity is complete.
__device__ __forceinline__ void mbarrier_wait(u32_t barrier, u32_t parity) {
    while (!mbarrier_try_wait_parity(barrier, parity)) {
    }
}

// The same for those who are ahead of what they wait for: who asks again and again, every 36 clocks, takes the instruction
// slots of those that it waits for.
__device__ __forceinline__ void mbarrier_wait_asleep(u32_t barrier, u32_t parity) {
    constexpr u32_t kLongest = 10000000;
    while (!mbarrier_try_wait_parity(barrier, parity, kLongest)) {
    }
}
