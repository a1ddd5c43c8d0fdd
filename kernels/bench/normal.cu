// N(0, 1) times `scale`, rounded to an element type: random data of any size in no time, the same for the same seed.
//
// BENCH_ELEMENT is the type. Each thread makes pairs of numbers from the hash of their index (Box and Muller, 1958).
#include "ptx/convert8.cuh"

using Element = BENCH_ELEMENT;
constexpr int kThreads = 256;

// A bijection of 64-bit words that leaves no pattern. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", 2014 (the finaliser of SplitMix64).
__device__ __forceinline__ u64_t mixed(u64_t word) {
    word += 0x9e3779b97f4a7c15ull;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ word >> 27) * 0x94d049bb133111ebull;
    return word ^ word >> 31;
}

extern "C" __global__ void __launch_bounds__(kThreads) normal(Element *out, i64_t count, u64_t seed, float scale) {
    constexpr float kUnit = 2.3283064e-10f;  // 2^-32
    constexpr float kTurn = 6.2831853f;
    const i64_t step = static_cast<i64_t>(gridDim.x) * kThreads * 2;
    for (i64_t i = (static_cast<i64_t>(blockIdx.x) * kThreads + threadIdx.x) * 2; i < count; i += step) {
        const u64_t bits = mixed(mixed(seed) ^ static_cast<u64_t>(i));
        const float uniform = (static_cast<float>(static_cast<u32_t>(bits)) + 1.0f) * kUnit;
        const float radius = scale * sqrtf(-2.0f * __logf(uniform));
        const float angle = kTurn * (static_cast<float>(static_cast<u32_t>(bits >> 32)) * kUnit);
        out[i] = from_float<Element>(radius * __cosf(angle));
        if (i + 1 < count) out[i + 1] = from_float<Element>(radius * __sinf(angle));
    }
}
