// prefetch: asks a cache for a line of memory and waits for nothing.
#pragma once

__device__ __forceinline__ void prefetch_l2(const void *gmem) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(gmem) : "memory");
}
