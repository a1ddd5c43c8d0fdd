// NaN and infinity in V, where the tensor core reads V from shared memory: see nonfinite.cuh for what they must not do.
//
// Two warps look at each V block at the edge of a tile before anyone uses it. Where they find non-finite elements they
// put zeros in their place and raise a flag; the warpgroups then add the elements to the rows that see them, from
// global memory.
#pragma once
#include "attention/mask.cuh"
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/packed.cuh"
#include "ptx/shared.cuh"

// Nonzero in bit 15 or 31 where that half of the register is NaN or infinite.
template <class T>
__device__ __forceinline__ u32_t nonfinite_bits(u32_t pair) {
    constexpr u32_t kExponents = Bits16<T>::kExponent * 0x10001u;
    constexpr u32_t kLowest = (Bits16<T>::kMantissa + 1) * 0x10001u;
    return (pair & kExponents) + kLowest & 0x80008000u;
}

// e4m3 has NaN alone, 0x7f and 0xff: nonzero in the top bit of each such byte. The bytes do not carry into each other.
template <>
__device__ __forceinline__ u32_t nonfinite_bits<e4m3_t>(u32_t four) {
    return (four & 0x7f7f7f7fu) + 0x01010101u & 0x80808080u;
}

// All bits of the elements that are NaN or infinite.
template <class T>
__device__ __forceinline__ u32_t nonfinite_mask(u32_t word) {
    constexpr int kBits = sizeof(T) * 8;
    return (nonfinite_bits<T>(word) >> (kBits - 1)) * ((1u << kBits) - 1);
}

// Whether this thread finds a NaN or infinity in its share of kBytes bytes, of kThreads threads: 0 times it is NaN, and
// stays so in the sum.
template <class T, int kBytes, int kThreads>
__device__ __forceinline__ bool finds_nonfinite(u32_t smem, int thread) {
    static_assert(kBytes % (kThreads * 16) == 0, "whole passes");
    u32_t sum[4] = {0, 0, 0, 0};
#pragma unroll 4
    for (int offset = 0; offset < kBytes; offset += kThreads * 16) {
        u32_t words[4];
        ld_shared_v4(words, smem + offset + thread * 16);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if constexpr (sizeof(T) == 1) {
                sum[i] |= nonfinite_mask<T>(words[i]);
            } else {
                sum[i] = fma_rn_x2<T>(words[i], 0, sum[i]);
            }
        }
    }
    return (nonfinite_bits<T>(sum[0]) | nonfinite_bits<T>(sum[1]) | nonfinite_bits<T>(sum[2]) |
            nonfinite_bits<T>(sum[3])) != 0;
}

// Zeroes the non-finite elements of this thread's share.
template <class T, int kBytes, int kThreads>
__device__ __forceinline__ void zero_nonfinite(u32_t smem, int thread) {
#pragma unroll 1
    for (int offset = thread * 4; offset < kBytes; offset += kThreads * 4) {
        const u32_t word = ld_shared(smem + offset);
        st_shared(smem + offset, word & ~nonfinite_mask<T>(word));
    }
}

// O += the non-finite elements of V [begin, end) that each of the lane's two rows sees. query: of the first of them.
template <class T, int kCount>
__device__ __forceinline__ void add_nonfinite_rows(float (&O_acc)[kCount], const Mask &mask, const u16_t *V_gmem,
                                                   i64_t row_stride, int query, int begin, int end) {
    for (int key = begin; key < min(end, mask.seqlen_k); ++key) {
        const bool visible[2] = {mask.visible(query, key), mask.visible(query + 8, key)};
        const u16_t *V_row = V_gmem + key * row_stride + lane_id() % 4 * 2;
#pragma unroll
        for (int i = 0; i < kCount; i += 4) {
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                const T value{V_row[i * 2 + c]};
                if (nonfinite_bits<T>(value.bits) == 0) continue;
                if (visible[0]) O_acc[i + c] += to_float(value);
                if (visible[1]) O_acc[i + 2 + c] += to_float(value);
            }
        }
    }
}
