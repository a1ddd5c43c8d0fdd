// Fixed-width names and the two 16-bit formats: all that probe kernels need, whose recorded answers name this text. No
// CUDA header: everything below compiles with NVRTC alone.
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
