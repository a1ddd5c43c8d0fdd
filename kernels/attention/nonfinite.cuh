// NaN and infinity in V, in blocks that some query of the tile does not see.
//
// There P is 0 for the keys that a query does not see, and 0 * NaN would carry a value that it must not know into its
// row. So in masked blocks the non-finite elements of V are taken out of the product and what they do to the rows that
// do see them is worked out by a second product: visibility (1 or 0) times a weight that says which kind they are.
// Blocks without non-finite elements, nearly all of them, pay one test per fragment.
#pragma once
#include "attention/mask.cuh"
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/math.cuh"
#include "ptx/mma.cuh"

// At most 16 keys meet in one product, so these weights cannot run into each other, and all sums are exact.
constexpr float kPlusInfinity = 1.0f, kMinusInfinity = 32.0f, kNotANumber = 1024.0f;

template <class T>
__device__ __forceinline__ float weight_of(u32_t bits) {
    constexpr u32_t kExponent = Bits16<T>::kExponent, kMantissa = Bits16<T>::kMantissa;
    if ((bits & kExponent) != kExponent) return 0.0f;
    if (bits & kMantissa) return kNotANumber;
    return bits & 0x8000u ? kMinusInfinity : kPlusInfinity;
}

// Moves the non-finite elements of a V fragment into a fragment of their weights.
template <class T>
__device__ __forceinline__ void split_nonfinite(u32_t (&V_frag)[4], u32_t (&weights)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float low = weight_of<T>(V_frag[i] & 0xffffu), high = weight_of<T>(V_frag[i] >> 16);
        weights[i] = pack2<T>(low, high);
        if (low != 0.0f) V_frag[i] &= 0xffff0000u;
        if (high != 0.0f) V_frag[i] &= 0x0000ffffu;
    }
}

// A fragment of ones where the query (row) sees the key (column), else zeros, for rows m. key: of this lane's a[0], low
// half.
template <class T, class Rows>
__device__ __forceinline__ void visibility_fragment(u32_t (&a)[4], const Rows &rows, int m, int key) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const Mask &mask = rows.mask(m, i % 2);
        const int row = rows.query(m, i % 2), col = key + i / 2 * 8;
        a[i] = pack2<T>(mask.visible(row, col), mask.visible(row, col + 1));
    }
}

// What to add to an element of O for the weights that its query sees.
__device__ __forceinline__ float nonfinite_sum(float weights) {
    const int total = static_cast<int>(weights);
    const bool plus = total % 32 != 0, minus = total / 32 % 32 != 0, nan = total / 1024 != 0;
    if (nan || (plus && minus)) return infinity() - infinity();
    if (plus) return infinity();
    return minus ? -infinity() : 0.0f;
}

// O += what the non-finite elements of one 16x16 block of V do to the rows that see them.
template <class T>
__device__ __forceinline__ void add_nonfinite(float (&O_even)[4], float (&O_odd)[4], const u32_t (&visible)[4],
                                              const u32_t (&weights)[4]) {
    float even[4] = {0.0f, 0.0f, 0.0f, 0.0f}, odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    mma_m16n8k16<T>(even, visible, {weights[0], weights[1]});
    mma_m16n8k16<T>(odd, visible, {weights[2], weights[3]});
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        O_even[i] += nonfinite_sum(even[i]);
        O_odd[i] += nonfinite_sum(odd[i]);
    }
}
