// Buffers in shared memory that one side fills and another empties, in turn, behind two barriers each.
#pragma once
#include "ptx/mbarrier.cuh"

// One side's place in a ring. Barriers: `full` of each stage, then `empty` of each stage.
template <int kStages>
struct Ring {
    static constexpr int kBytes = 2 * kStages * 8;  // of its barriers
    u32_t barriers;
    int stage = 0;
    u32_t phase = 0;  // parity of the round

    __device__ __forceinline__ explicit Ring(u32_t barriers) : barriers(barriers) {}

    static __device__ __forceinline__ void init(u32_t barriers, int readers, int writers = 1) {
        for (int i = 0; i < kStages; ++i) {
            mbarrier_init(barriers + i * 8, writers);
            mbarrier_init(barriers + (kStages + i) * 8, readers);
        }
    }

    __device__ __forceinline__ u32_t full() const { return barriers + stage * 8; }
    __device__ __forceinline__ u32_t empty() const { return barriers + (kStages + stage) * 8; }
    __device__ __forceinline__ void wait_full() const { mbarrier_wait(full(), phase); }
    // In the first round every stage is empty: the phase before the first counts as complete.
    __device__ __forceinline__ void wait_empty() const { mbarrier_wait_asleep(empty(), phase ^ 1); }

    __device__ __forceinline__ void advance() {
        if (kStages == 1 || ++stage == kStages) {
            stage = 0;
            phase ^= 1;
        }
    }
};
