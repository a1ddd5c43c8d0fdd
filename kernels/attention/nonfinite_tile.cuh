// NaN and infinity in V, where the tensor core reads V from shared memory: see nonfinite.cuh for what they must not do.
//
// Two warps look at each V block at the edge of a tile before anyone uses it. Where they find non-finite elements they
// put zeros in their place and raise a flag; when a tile is done and stored, the warpgroups add the elements to the rows
// that see them, in global memory. There O is no array of registers, and the code is a loop: unrolled over them it would
// be as long as all the rest of the kernel, and take as long to compile.
#pragma once
#include "attention/mask.cuh"
#include "ptx/convert.cuh"
#include "ptx/cp_async.cuh"
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

// Zeroes the rows of this thread's share that are not in [begin, end). Rows are 128 bytes of panels of kRows.
template <int kRows, int kBytes, int kThreads>
__device__ __forceinline__ void zero_rows_outside(u32_t smem, int begin, int end, int thread) {
    constexpr u32_t kZeros[4] = {0, 0, 0, 0};
#pragma unroll 1
    for (int offset = thread * 16; offset < kBytes; offset += kThreads * 16) {
        const int row = offset / 128 % kRows;
        if (row < begin || row >= end) st_shared_v4(smem + offset, kZeros);
    }
}

// What an element of a row becomes by a value that its product left out.
template <class Out>
__device__ __forceinline__ void add_to(Out *element, float value) {
    element->bits = static_cast<u16_t>(pack2<Out>(to_float(*element) + value, 0.0f));
}

template <>
__device__ __forceinline__ void add_to<float>(float *element, float value) {
    *element += value;
}

// O += the non-finite elements of V [begin, end) that each of this lane's two rows sees, with kColumns columns of O stored
// by this warp. query: the first of the rows. row_sum: this lane's shares of sum P; where that is 0, so are the weights.
//
// The warp looks at V together, each lane at eight columns of a key at a time, and takes what is found one by one.
template <class T, int kColumns, class Out, class Rows>
__device__ __forceinline__ void add_nonfinite_rows(Out *O_gmem, i64_t o_row_stride, const float (&row_sum)[2],
                                                   const Mask &mask, const Rows &V_gmem, int query, int begin,
                                                   int end) {
    constexpr int kParts = kColumns / 8;  // of a row
    const int parts = (min(end, mask.seqlen_k) - begin) * kParts;
    const bool weighted[2] = {quad_sum(row_sum[0]) != 0.0f, quad_sum(row_sum[1]) != 0.0f};
#pragma unroll 1
    for (int first = 0; first < parts; first += kWarpSize) {
        const int own = first + lane_id();
        u32_t found = 0;
        if (own < parts) {
            const u16_t *columns = V_gmem.row(begin + own / kParts) + own % kParts * 8;
#pragma unroll
            for (int i = 0; i < 8; ++i) found |= nonfinite_bits<T>(columns[i]);
        }
#pragma unroll 1
        for (u32_t lanes = ballot(found != 0); lanes != 0; lanes &= lanes - 1) {
            const int each = first + first_set(lanes), key = begin + each / kParts;
            const int column = each % kParts * 8 + lane_id() % 4 * 2;
#pragma unroll 1
            for (int i = 0; i < 4; ++i) {
                const int row = query + i / 2 * 8;
                const T value{V_gmem.row(key)[column + i % 2]};
                if (nonfinite_bits<T>(value.bits) == 0 || row >= mask.seqlen_q || !mask.visible(row, key)) continue;
                const float weight = (i < 2 ? weighted[0] : weighted[1]) ? 1.0f : 0.0f;
                add_to(O_gmem + row * o_row_stride + column + i % 2, to_float(value) * weight);
            }
        }
    }
}
