// What kernels have beside words: 8-bit elements, and numbers that one access moves.
#pragma once
#include "ptx/words.cuh"

// 8-bit elements of a K/V cache: bytes in memory, which only conversions interpret.
struct e4m3_t {
    u8_t bits;
};
struct s8_t {
    u8_t bits;
};

// Two numbers that belong together, such as the ends of a range.
struct int2_t {
    int x;
    int y;
};

// Two floats that one access moves.
struct __align__(8) float2_t {
    float x;
    float y;
};

// Two words that one access moves.
struct __align__(8) word2_t {
    u32_t v[2];
};

// Four floats, and four words, that one access moves.
struct __align__(16) float4_t {
    float v[4];
};
struct __align__(16) word4_t {
    u32_t v[4];
};

// Something that is known when a function is compiled.
template <bool kValue>
struct Known {
    static constexpr bool value = kValue;
};
