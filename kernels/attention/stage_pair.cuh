// Stages of a ring as values, for loops that know which one it is.
#pragma once
#include "attention/ring.cuh"

// A stage of a ring, and the parity of its round.
struct Stage {
    int number;
    u32_t full, empty;
    u32_t phase;

    Stage() = default;
    template <int kCount>
    __device__ __forceinline__ explicit Stage(const Ring<kCount> &ring)
        : number(ring.stage), full(ring.full()), empty(ring.empty()), phase(ring.phase) {}
    __device__ __forceinline__ void wait_full() const { mbarrier_wait(full, phase); }
};

// Both stages of a ring of two, the one that is next first.
struct StagePair {
    Stage first, second;

    template <int kCount>
    __device__ __forceinline__ explicit StagePair(Ring<kCount> ring) : first(ring) {
        ring.advance();
        second = Stage(ring);
    }
    // A round further.
    __device__ __forceinline__ void advance() {
        first.phase ^= 1;
        second.phase ^= 1;
    }
};

// Gives a stage back as it comes.
template <int kCount>
__device__ __forceinline__ void let_pass(Ring<kCount> &ring, bool speaks) {
    ring.wait_full();
    if (speaks) mbarrier_arrive(ring.empty());
    ring.advance();
}
