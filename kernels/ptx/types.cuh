// Fixed-width names and the two 16-bit formats. No CUDA header: everything below compiles with NVRTC alone.
#pragma once

typedef unsigned char u8_t;
typedef unsigned short u16_t;
typedef unsigned int u32_t;
typedef unsigned long long u64_t;
typedef long long i64_t;

// 16-bit floats are bits in memory and in registers; only the tensor core and cvt interpret them.
struct f16_t {
    u16_t bits;
};
struct bf16_t {
    u16_t bits;
};

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

// Four floats, and four words, that one access moves.
struct __align__(16) float4_t {
    float v[4];
};
struct __align__(16) word4_t {
    u32_t v[4];
};
