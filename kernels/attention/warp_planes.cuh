// Bias and mask of one warp's rows and keys in shared memory, where the warp copies them itself, a block of keys ahead:
// nobody else reads them, and so nobody waits. A chunk of 16 bytes is what one cp.async moves: rows begin at multiples of it.
#pragma once
#include "attention/planes.cuh"
#include "attention/products.cuh"
#include "attention/tile.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/lane.cuh"

// Rows as long as the keys and so much longer that what eight rows (of 32 bits: four) read at a time are other banks.
template <class T, int kRows, int kKeys>
struct PaddedPlane {
    static constexpr int kBytesOfKeys = kKeys * static_cast<int>(sizeof(T));
    static constexpr int kUnit = sizeof(T) < 4 ? kChunkBytes : 2 * kChunkBytes;  // at least what a quad reads at a time
    static constexpr int kRowBytes = (kBytesOfKeys / kUnit | 1) * kUnit;
    static constexpr int kBytes = kRows * kRowBytes;
    static constexpr int kChunks = kBytesOfKeys / kChunkBytes;  // of a row
    static constexpr int kChunkKeys = kChunkBytes / static_cast<int>(sizeof(T));
    static_assert(kBytesOfKeys % kUnit == 0, "whole chunks");

    __device__ __forceinline__ static u32_t pair(u32_t tile, int row, int n) {
        return tile + row * kRowBytes + (lane_id() % 4 * 2 + 8 * n) * static_cast<int>(sizeof(T));
    }

    // Starts copying the rows from `query` on and the keys from `key` on. What the plane does not have becomes 0: no bias,
    // hidden by the mask.
    __device__ __forceinline__ static void copy(u32_t tile, const Plane<T> &plane, const Mask &mask, int query,
                                                int key) {
        constexpr int kPassRows = kWarpSize / kChunks;  // each lane keeps its chunk and steps down
        const int chunk = lane_id() % kChunks, key_count = mask.plane_cols - key - chunk * kChunkKeys;
        int row = lane_id() / kChunks;
        const int bytes = min(max(key_count, 0), kChunkKeys) * static_cast<int>(sizeof(T));
        const int rows = mask.plane_rows - query;
        const T *source = plane.address(query + row, key + chunk * kChunkKeys);
        tile += row * kRowBytes + chunk * kChunkBytes;
        if (kPassRows * kChunks < kWarpSize && row == kPassRows) return;  // a lane too many
#pragma unroll 4
        for (; row < kRows; row += kPassRows) {
            cp_async_16(tile, source, row < rows ? bytes : 0);
            tile += kPassRows * kRowBytes;
            source += kPassRows * plane.row_stride;
        }
    }
};

template <int kMTiles, int kKeys>
struct WarpPlanes {
    using BiasTile = PaddedPlane<BiasElement, kMTiles * 16, kKeys>;
    using MaskTile = PaddedPlane<u8_t, kMTiles * 16, kKeys>;
    static constexpr int kBytes = kBiasTiles * BiasTile::kBytes + kMaskTiles * MaskTile::kBytes;
    u32_t bias, shown;

    // smem: of all warps, kBytes each.
    __device__ __forceinline__ WarpPlanes(u32_t smem, int warp)
        : bias(smem + warp * kBytes), shown(bias + kBiasTiles * BiasTile::kBytes) {}

    // Starts copying the rows from `query` on and the keys from `key` on; commits. All lanes have read what was there.
    __device__ __forceinline__ void copy(const Mask &mask, int query, int key) const {
        if constexpr (kBiasTiles) BiasTile::copy(bias, mask.bias, mask, query, key);
        if constexpr (kMaskTiles) MaskTile::copy(shown, mask.mask, mask, query, key);
        cp_async_commit_group();
    }

    // Waits for what was copied, of all lanes.
    __device__ __forceinline__ void wait() const {
        cp_async_wait_group<0>();
        warp_sync();
    }

    // S = transform(S), and -inf where bias or mask hides a key. part_key: of the tile's keys, the first that S has.
    template <int kNTiles>
    __device__ __forceinline__ void transform_scores(float (&S_acc)[kMTiles][kNTiles][4], const QueryRows &rows,
                                                     int first_key, int part_key) const {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                RowPlanes<kNTiles> own;
                own.template apply_tiles<BiasTile, MaskTile>(
                    bias + part_key * static_cast<int>(sizeof(BiasElement)), shown + part_key,
                    m * 16 + r * 8 + lane_id() / 4, reinterpret_cast<float (&)[4 * kNTiles]>(S_acc[m]), r,
                    rows.transform(m, r), rows.mask(m, r), rows.query(m, r), first_key);
            }
        }
    }
};
