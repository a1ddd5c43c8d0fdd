// NaN and infinity in V, taken out of a whole tile before anyone uses it: see nonfinite.cuh for what they must not do.
//
// Each V block at the edge of a tile is looked at after its copy. Where non-finite elements are found, zeros are put in
// their place and a flag is raised; the warps then add the elements to the rows that see them, from global memory.
#pragma once
#include "attention/mask.cuh"
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/packed.cuh"
#include "attention/tile.cuh"
#include "ptx/shared.cuh"

// Nonzero in bit 15 or 31 where that half of the register is NaN or infinite.
template <class T>
__device__ __forceinline__ u32_t nonfinite_bits(u32_t pair) {
    constexpr u32_t kExponents = Bits16<T>::kExponent * 0x10001u;
    constexpr u32_t kLowest = (Bits16<T>::kMantissa + 1) * 0x10001u;
    return (pair & kExponents) + kLowest & 0x80008000u;
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
        for (int i = 0; i < 4; ++i) sum[i] = fma_rn_x2<T>(words[i], 0, sum[i]);
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
        st_shared(smem + offset, word & ~((nonfinite_bits<T>(word) >> 15) * 0xffffu));
    }
}

// Whether this thread copied a NaN or infinity into the tile of V at smem; if so, zeros take their places.
template <class T, int kRows, int kDim, int kThreads>
__device__ __forceinline__ bool take_copied_nonfinite(u32_t smem) {
    u32_t sum[4] = {0, 0, 0, 0};
    for_own_chunks<kRows, kDim, kThreads>(smem, [&](u32_t chunk) {
        u32_t words[4];
        ld_shared_v4(words, chunk);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] = fma_rn_x2<T>(words[i], 0, sum[i]);
    });
    const bool found = (nonfinite_bits<T>(sum[0]) | nonfinite_bits<T>(sum[1]) | nonfinite_bits<T>(sum[2]) |
                        nonfinite_bits<T>(sum[3])) != 0;
    if (found) {
        for_own_chunks<kRows, kDim, kThreads>(smem, [&](u32_t chunk) {
#pragma unroll 1
            for (int i = 0; i < kChunkBytes; i += 4) {
                const u32_t word = ld_shared(chunk + i);
                st_shared(chunk + i, word & ~((nonfinite_bits<T>(word) >> 15) * 0xffffu));
            }
        });
    }
    return found;
}

// O += the non-finite elements of the rows [begin, end) of V that each of the lane's two rows sees. query: of the first of
// them.
template <class T, int kCount, class Rows>
__device__ __forceinline__ void add_nonfinite_rows(float (&O_acc)[kCount], const Mask &mask, const Rows &V_gmem,
                                                   int query, int begin, int end) {
#pragma unroll 1
    for (int key = begin; key < min(end, mask.seqlen_k); ++key) {
        const bool visible[2] = {mask.visible(query, key), mask.visible(query + 8, key)};
        const u16_t *V_row = V_gmem.row(key) + lane_id() % 4 * 2;
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
