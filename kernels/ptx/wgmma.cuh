// wgmma: products of a warpgroup, D = A B + D with D 64 x N in fp32 registers, K = 16 elements of 16 bits.
// Fragments (attnprobe/layouts/wgmma.py): warp w of the warpgroup has rows 16w.., of which lane l holds l / 4 and
// l / 4 + 8; d[4j..4j+3] are (l/4, 8j + 2(l%4)..), (l/4 + 8, 8j + 2(l%4)..). A in registers is the A of mma m16n8k16.
//
// The products run asynchronously: between wgmma_commit_group and the wgmma_wait_group that covers it nobody may touch
// d or a. ptxas warns (C7510) where it has to serialise them, and a test lets no such kernel pass.
#pragma once
#include "ptx/types.cuh"

// Orders the registers that this warp wrote before the products that follow.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the latest groups are still running.
template <int kPending>
__device__ __forceinline__ void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// No instruction: tells the compiler that the registers change here, so it moves no use of them across.
template <int kCount>
__device__ __forceinline__ void registers_change(float (&d)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

template <int kCount>
__device__ __forceinline__ void registers_change(u32_t (&a)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

__device__ __forceinline__ void register_changes(u64_t &value) { asm volatile("" : "+l"(value)); }

// mov.b32: a copy in a register of its own, made here. What products read A from may not be written while they run.
__device__ __forceinline__ u32_t mov_b32(u32_t value) {
    u32_t result;
    asm volatile("mov.b32 %0, %1;" : "=r"(result) : "r"(value) : "memory");
    return result;
}

// What the descriptor of a matrix in shared memory says beside its address: 128-byte swizzle, 1024 bytes from eight rows
// to the next eight, and `leading` bytes between panels of 64 columns (of an N-major B only).
__device__ __forceinline__ constexpr u64_t wgmma_descriptor_128b(u32_t leading) {
    constexpr u64_t kSwizzle128 = 1ull << 62;
    return kSwizzle128 | static_cast<u64_t>(1024 >> 4) << 32 | static_cast<u64_t>(leading >> 4) << 16;
}

__device__ __forceinline__ u64_t wgmma_descriptor(u64_t layout, u32_t smem) { return layout | (smem >> 4 & 0x3fff); }

// wgmma_ss: A [64, 16] and B [16, N] by descriptors, both K-major. wgmma_rs: A in registers, B by descriptor, N-major.
// Without `accumulate` D = A B.
template <class T>
struct WgmmaType;
template <>
struct WgmmaType<f16_t> {
    static constexpr bool kBf16 = false;
};
template <>
struct WgmmaType<bf16_t> {
    static constexpr bool kBf16 = true;
};

// clang-format off
#define WGMMA_REGS_8   "%0,%1,%2,%3,%4,%5,%6,%7"
#define WGMMA_REGS_16  WGMMA_REGS_8 "," "%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_REGS_24  WGMMA_REGS_16 "," "%16,%17,%18,%19,%20,%21,%22,%23"
#define WGMMA_REGS_32  WGMMA_REGS_24 "," "%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_REGS_40  WGMMA_REGS_32 "," "%32,%33,%34,%35,%36,%37,%38,%39"
#define WGMMA_REGS_48  WGMMA_REGS_40 "," "%40,%41,%42,%43,%44,%45,%46,%47"
#define WGMMA_REGS_56  WGMMA_REGS_48 "," "%48,%49,%50,%51,%52,%53,%54,%55"
#define WGMMA_REGS_64  WGMMA_REGS_56 "," "%56,%57,%58,%59,%60,%61,%62,%63"
#define WGMMA_REGS_72  WGMMA_REGS_64 "," "%64,%65,%66,%67,%68,%69,%70,%71"
#define WGMMA_REGS_80  WGMMA_REGS_72 "," "%72,%73,%74,%75,%76,%77,%78,%79"
#define WGMMA_REGS_88  WGMMA_REGS_80 "," "%80,%81,%82,%83,%84,%85,%86,%87"
#define WGMMA_REGS_96  WGMMA_REGS_88 "," "%88,%89,%90,%91,%92,%93,%94,%95"
#define WGMMA_REGS_104 WGMMA_REGS_96 "," "%96,%97,%98,%99,%100,%101,%102,%103"
#define WGMMA_REGS_112 WGMMA_REGS_104 "," "%104,%105,%106,%107,%108,%109,%110,%111"
#define WGMMA_REGS_120 WGMMA_REGS_112 "," "%112,%113,%114,%115,%116,%117,%118,%119"
#define WGMMA_REGS_128 WGMMA_REGS_120 "," "%120,%121,%122,%123,%124,%125,%126,%127"

#define WGMMA_D8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_D_8(d) WGMMA_D8(d, 0)
#define WGMMA_D_16(d) WGMMA_D_8(d), WGMMA_D8(d, 8)
#define WGMMA_D_24(d) WGMMA_D_16(d), WGMMA_D8(d, 16)
#define WGMMA_D_32(d) WGMMA_D_24(d), WGMMA_D8(d, 24)
#define WGMMA_D_40(d) WGMMA_D_32(d), WGMMA_D8(d, 32)
#define WGMMA_D_48(d) WGMMA_D_40(d), WGMMA_D8(d, 40)
#define WGMMA_D_56(d) WGMMA_D_48(d), WGMMA_D8(d, 48)
#define WGMMA_D_64(d) WGMMA_D_56(d), WGMMA_D8(d, 56)
#define WGMMA_D_72(d) WGMMA_D_64(d), WGMMA_D8(d, 64)
#define WGMMA_D_80(d) WGMMA_D_72(d), WGMMA_D8(d, 72)
#define WGMMA_D_88(d) WGMMA_D_80(d), WGMMA_D8(d, 80)
#define WGMMA_D_96(d) WGMMA_D_88(d), WGMMA_D8(d, 88)
#define WGMMA_D_104(d) WGMMA_D_96(d), WGMMA_D8(d, 96)
#define WGMMA_D_112(d) WGMMA_D_104(d), WGMMA_D8(d, 104)
#define WGMMA_D_120(d) WGMMA_D_112(d), WGMMA_D8(d, 112)
#define WGMMA_D_128(d) WGMMA_D_120(d), WGMMA_D8(d, 120)

#define WGMMA_ASM(SHAPE, TYPE, COUNT, P, OPERANDS) \
    "{.reg .pred p; setp.ne.b32 p, %" #P ", 0; wgmma.mma_async.sync.aligned." SHAPE ".f32." TYPE "." TYPE " {" WGMMA_REGS_##COUNT "}, " OPERANDS ";}"

// N, registers of D, then the numbers of the operands that follow them.
#define WGMMA_ROW(N, COUNT, O0, O1, O2, O3, O4, O5)                                                                   \
    template <class T>                                                                                                \
    __device__ __forceinline__ void wgmma_ss(float (&d)[COUNT], u64_t a, u64_t b, bool accumulate) {                  \
        if constexpr (WgmmaType<T>::kBf16)                                                                            \
            asm volatile(WGMMA_ASM("m64n" #N "k16", "bf16", COUNT, O2, "%" #O0 ", %" #O1 ", p, 1, 1, 0, 0")           \
                         : WGMMA_D_##COUNT(d) : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                   \
        else                                                                                                          \
            asm volatile(WGMMA_ASM("m64n" #N "k16", "f16", COUNT, O2, "%" #O0 ", %" #O1 ", p, 1, 1, 0, 0")            \
                         : WGMMA_D_##COUNT(d) : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                   \
    }                                                                                                                 \
    template <class T>                                                                                                \
    __device__ __forceinline__ void wgmma_rs(float (&d)[COUNT], const u32_t *a, u64_t b, bool accumulate) {           \
        if constexpr (WgmmaType<T>::kBf16)                                                                            \
            asm volatile(WGMMA_ASM("m64n" #N "k16", "bf16", COUNT, O5,                                                \
                                   "{%" #O0 ",%" #O1 ",%" #O2 ",%" #O3 "}, %" #O4 ", p, 1, 1, 1")                     \
                         : WGMMA_D_##COUNT(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                   \
                           "r"(static_cast<int>(accumulate)));                                                        \
        else                                                                                                          \
            asm volatile(WGMMA_ASM("m64n" #N "k16", "f16", COUNT, O5,                                                 \
                                   "{%" #O0 ",%" #O1 ",%" #O2 ",%" #O3 "}, %" #O4 ", p, 1, 1, 1")                     \
                         : WGMMA_D_##COUNT(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                   \
                           "r"(static_cast<int>(accumulate)));                                                        \
    }

WGMMA_ROW(16, 8, 8, 9, 10, 11, 12, 13)
WGMMA_ROW(32, 16, 16, 17, 18, 19, 20, 21)
WGMMA_ROW(48, 24, 24, 25, 26, 27, 28, 29)
WGMMA_ROW(64, 32, 32, 33, 34, 35, 36, 37)
WGMMA_ROW(80, 40, 40, 41, 42, 43, 44, 45)
WGMMA_ROW(96, 48, 48, 49, 50, 51, 52, 53)
WGMMA_ROW(112, 56, 56, 57, 58, 59, 60, 61)
WGMMA_ROW(128, 64, 64, 65, 66, 67, 68, 69)
WGMMA_ROW(144, 72, 72, 73, 74, 75, 76, 77)
WGMMA_ROW(160, 80, 80, 81, 82, 83, 84, 85)
WGMMA_ROW(176, 88, 88, 89, 90, 91, 92, 93)
WGMMA_ROW(192, 96, 96, 97, 98, 99, 100, 101)
WGMMA_ROW(208, 104, 104, 105, 106, 107, 108, 109)
WGMMA_ROW(224, 112, 112, 113, 114, 115, 116, 117)
WGMMA_ROW(240, 120, 120, 121, 122, 123, 124, 125)
WGMMA_ROW(256, 128, 128, 129, 130, 131, 132, 133)
// clang-format on
