// wgmma of e4m3: as wgmma.cuh, with K = 32 elements of 8 bits. B is K-major always: nothing transposes 8-bit elements.
// Fragment A in registers: a[0] (l/4, 4(l%4)..), a[1] (l/4 + 8, ..), a[2] (l/4, 16 + 4(l%4)..), a[3] (l/4 + 8, ..), four
// neighbouring elements each.
#pragma once
#include "ptx/wgmma.cuh"

// clang-format off
// N, registers of D, then the numbers of the operands that follow them.
#define WGMMA8_ROW(N, COUNT, O0, O1, O2, O3, O4, O5)                                                                  \
    __device__ __forceinline__ void wgmma_e4m3_ss(float (&d)[COUNT], u64_t a, u64_t b, bool accumulate) {             \
        asm volatile(WGMMA_ASM("m64n" #N "k32", "e4m3", COUNT, O2, "%" #O0 ", %" #O1 ", p, 1, 1")                     \
                     : WGMMA_D_##COUNT(d) : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                       \
    }                                                                                                                 \
    __device__ __forceinline__ void wgmma_e4m3_rs(float (&d)[COUNT], const u32_t *a, u64_t b, bool accumulate) {      \
        asm volatile(WGMMA_ASM("m64n" #N "k32", "e4m3", COUNT, O5,                                                    \
                               "{%" #O0 ",%" #O1 ",%" #O2 ",%" #O3 "}, %" #O4 ", p, 1, 1")                            \
                     : WGMMA_D_##COUNT(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                       \
                       "r"(static_cast<int>(accumulate)));                                                            \
    }

WGMMA8_ROW(16, 8, 8, 9, 10, 11, 12, 13)
WGMMA8_ROW(32, 16, 16, 17, 18, 19, 20, 21)
WGMMA8_ROW(48, 24, 24, 25, 26, 27, 28, 29)
WGMMA8_ROW(64, 32, 32, 33, 34, 35, 36, 37)
WGMMA8_ROW(80, 40, 40, 41, 42, 43, 44, 45)
WGMMA8_ROW(96, 48, 48, 49, 50, 51, 52, 53)
WGMMA8_ROW(112, 56, 56, 57, 58, 59, 60, 61)
WGMMA8_ROW(128, 64, 64, 65, 66, 67, 68, 69)
WGMMA8_ROW(144, 72, 72, 73, 74, 75, 76, 77)
WGMMA8_ROW(160, 80, 80, 81, 82, 83, 84, 85)
WGMMA8_ROW(176, 88, 88, 89, 90, 91, 92, 93)
WGMMA8_ROW(192, 96, 96, 97, 98, 99, 100, 101)
WGMMA8_ROW(208, 104, 104, 105, 106, 107, 108, 109)
WGMMA8_ROW(224, 112, 112, 113, 114, 115, 116, 117)
WGMMA8_ROW(240, 120, 120, 121, 122, 123, 124, 125)
WGMMA8_ROW(256, 128, 128, 129, 130, 131, 132, 133)
// clang-format on
