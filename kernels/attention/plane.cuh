// Reading bias and mask. A lane holds scores in pairs of neighbouring keys, eight keys apart, so that is how it reads:
// a pair with one access where the plan says that pairs lie so (ATTN_BIAS_PAIRS, ATTN_MASK_PAIRS), else element by element,
// at fixed distances where keys are neighbours in memory (ATTN_BIAS_DENSE, ATTN_MASK_DENSE).
#pragma once
#include "ptx/convert.cuh"
#include "ptx/lane.cuh"
#include "ptx/math.cuh"
#include "ptx/shared.cuh"
#include "ptx/types.cuh"

constexpr bool kPlanes = ATTN_MASK || ATTN_BIAS;

// One (batch, head) of an array (batch, head, row, col) of any strides.
template <class T>
struct Plane {
    const T *base;
    i64_t row_stride;
    i64_t col_stride;

    __device__ __forceinline__ const T *address(int row, int col) const {
        return base + (row * row_stride + col * col_stride);
    }
    __device__ __forceinline__ T at(int row, int col) const { return *address(row, col); }
};

// Two neighbouring elements as one access moves them. hides(i): whether element i hides its key, a bias of -inf or a mask of 0.
template <class T>
struct Pair {
    static_assert(sizeof(T) == 2, "the others stand below");
    u32_t bits;

    __device__ __forceinline__ static Pair zeros() { return {0}; }
    __device__ __forceinline__ static Pair of(T first, T second) {
        return {first.bits | static_cast<u32_t>(second.bits) << 16};
    }
    __device__ __forceinline__ static Pair at(const T *both) { return {*reinterpret_cast<const u32_t *>(both)}; }
    __device__ __forceinline__ static Pair shared(u32_t smem) { return {ld_shared(smem)}; }
    __device__ __forceinline__ T element(int i) const { return {static_cast<u16_t>(i == 0 ? bits : bits >> 16)}; }
    __device__ __forceinline__ bool hides(int i) const { return element(i).bits == (0x8000 | Bits16<T>::kExponent); }
};

template <>
struct Pair<float> {
    float2_t values;

    __device__ __forceinline__ static Pair zeros() { return {{0.0f, 0.0f}}; }
    __device__ __forceinline__ static Pair of(float first, float second) { return {{first, second}}; }
    __device__ __forceinline__ static Pair at(const float *both) { return {*reinterpret_cast<const float2_t *>(both)}; }
    __device__ __forceinline__ static Pair shared(u32_t smem) { return {ld_shared_v2(smem)}; }
    __device__ __forceinline__ float element(int i) const { return i == 0 ? values.x : values.y; }
    __device__ __forceinline__ bool hides(int i) const { return element(i) == -infinity(); }
};

template <>
struct Pair<u8_t> {
    u32_t bits;

    __device__ __forceinline__ static Pair zeros() { return {0}; }
    __device__ __forceinline__ static Pair of(u8_t first, u8_t second) {
        return {first | static_cast<u32_t>(second) << 8};
    }
    __device__ __forceinline__ static Pair at(const u8_t *both) { return {*reinterpret_cast<const u16_t *>(both)}; }
    __device__ __forceinline__ static Pair shared(u32_t smem) { return {ld_shared_u16(smem)}; }
    __device__ __forceinline__ bool hides(int i) const { return (bits & 0xffu << 8 * i) == 0; }
};

// How a tile of kRows rows lies that TMA copied: panels of 128 bytes a row, in the 128-byte swizzle. pair: the address of
// this lane's pair n in a row.
template <class T, int kRows>
struct SwizzledPlane {
    __device__ __forceinline__ static u32_t pair(u32_t tile, int row, int n) {
        constexpr int kPanelBytes = 128;
        const u32_t lane = lane_id() % 4 * 2 * sizeof(T) ^ row % 8 * 16;
        const int byte = 8 * n * sizeof(T), panel = byte / kPanelBytes;
        return tile + (panel * kRows + row) * kPanelBytes + (lane ^ byte % kPanelBytes);
    }
};

// The pairs of a lane in one row and one block of keys: elements 8 n and 8 n + 1 from its first.
template <class T, bool kPaired, bool kDense, int kCount>
struct RowPairs {
    Pair<T> pairs[kCount];

    // first: the lane's first element; `count` elements count from there on, the others become 0. Nothing is read where
    // there is none; where kPaired, the last that counts has a neighbour. All lanes of the warp read together.
    __device__ __forceinline__ void read(const T *first, i64_t col_stride, int count) {
        const i64_t step = kDense ? 1 : col_stride;
        if (!vote_any(count < 8 * kCount - 6)) {
#pragma unroll
            for (int n = 0; n < kCount; ++n) pairs[n] = pair(first, step, n);
        } else {
#pragma unroll
            for (int n = 0; n < kCount; ++n) {
                pairs[n] = Pair<T>::zeros();
                if (8 * n + (kPaired ? 0 : 1) < count) {
                    pairs[n] = pair(first, step, n);
                } else if (!kPaired && 8 * n < count) {
                    pairs[n] = Pair<T>::of(first[8 * n * step], T{});
                }
            }
        }
    }

    // The same from row `row` of a tile in shared memory, which lies as Layout says.
    template <class Layout>
    __device__ __forceinline__ void read_tile(u32_t tile, int row) {
#pragma unroll
        for (int n = 0; n < kCount; ++n) pairs[n] = Pair<T>::shared(Layout::pair(tile, row, n));
    }

  private:
    __device__ __forceinline__ static Pair<T> pair(const T *first, i64_t step, int n) {
        if constexpr (kPaired) {
            return Pair<T>::at(first + 8 * n);
        } else {
            const T *left = first + 8 * n * step;
            return Pair<T>::of(left[0], left[step]);
        }
    }
};
