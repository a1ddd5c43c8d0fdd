// 8-bit elements of K and V as 16-bit ones, in registers. Every value of e4m3 and int8 is exact in f16 and in bf16.
//
// A register of four bytes b3 b2 b1 b0 becomes two registers: the even bytes (b0 the lower half, b2 the upper) and the odd
// ones (b1, b3). Masks reach both halves at once that way.
#pragma once
#include "ptx/packed.cuh"

template <class T>
struct Widening;

template <>
struct Widening<f16_t> {
    static constexpr u32_t kOne = 0x3c003c00, kQuietNaN = 0x7e00;
    // e4m3 with its exponent and mantissa moved to where f16 has them is too small by 2^(15 - 7).
    static constexpr int kE4m3Shift = 1;
    static constexpr u32_t kE4m3Magnitude = 0x3f803f80, kE4m3Scale = 0x5c005c00;
};

template <>
struct Widening<bf16_t> {
    static constexpr u32_t kOne = 0x3f803f80, kQuietNaN = 0x7fc0;
    static constexpr int kE4m3Shift = 4;  // 2^(127 - 7)
    static constexpr u32_t kE4m3Magnitude = 0x07f007f0, kE4m3Scale = 0x7b807b80;
};

// Two e4m3 in the upper byte of each half.
template <class T>
__device__ __forceinline__ u32_t widen_e4m3_upper(u32_t halves) {
    using W = Widening<T>;
    const u32_t bits = (halves & 0x80008000u) | (halves >> W::kE4m3Shift & W::kE4m3Magnitude);
    return fma_rn_x2<T>(bits, W::kE4m3Scale, 0x80008000u);  // + -0 keeps the sign of zero
}

template <class T>
__device__ __forceinline__ void widen4(e4m3_t, u32_t bytes, u32_t &even, u32_t &odd) {
#if __CUDA_ARCH__ >= 890
    if constexpr (Bits16<T>::kExponent == Bits16<f16_t>::kExponent) {
        const u32_t pairs = byte_perm(bytes, 0, 0x3120);  // b0, b2, b1, b3
        even = cvt_f16x2_e4m3x2(static_cast<u16_t>(pairs));
        odd = cvt_f16x2_e4m3x2(static_cast<u16_t>(pairs >> 16));
        return;
    }
#endif
    even = widen_e4m3_upper<T>(bytes << 8);
    odd = widen_e4m3_upper<T>(bytes);
    // 0x7f and 0xff are NaN: the only bytes whose lower seven bits carry when 1 is added.
    const u32_t nan = ((bytes & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
    if (nan != 0) {
        even |= (nan >> 7 & 0x00010001u) * Widening<T>::kQuietNaN;
        odd |= (nan >> 15 & 0x00010001u) * Widening<T>::kQuietNaN;
    }
}

template <class T>
__device__ __forceinline__ void widen4(s8_t, u32_t bytes, u32_t &even, u32_t &odd) {
    if constexpr (Bits16<T>::kExponent == Bits16<f16_t>::kExponent) {
        // The bits of x + 128 behind those of 1024 are the f16 1024 + x + 128.
        const u32_t shifted = bytes ^ 0x80808080u;
        even = fma_rn_x2<T>((shifted & 0x00ff00ffu) | 0x64006400u, Widening<T>::kOne, 0xe480e480u);
        odd = fma_rn_x2<T>((shifted >> 8 & 0x00ff00ffu) | 0x64006400u, Widening<T>::kOne, 0xe480e480u);
    } else {
        // The lower seven bits behind those of 128 are the bf16 128 + low; the sign bit makes 256 of the 128 to take off.
        const u32_t upper = bytes >> 8;
        even =
            fma_rn_x2<T>((bytes & 0x007f007fu) | 0x43004300u, Widening<T>::kOne, (bytes & 0x00800080u) | 0xc300c300u);
        odd = fma_rn_x2<T>((upper & 0x007f007fu) | 0x43004300u, Widening<T>::kOne, (upper & 0x00800080u) | 0xc300c300u);
    }
}
