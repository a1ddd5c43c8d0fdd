// NaN and infinity in V that the threads of a block read: see nonfinite.cuh for what they must not do.
//
// Each V block at the edge of a tile is looked at after its copy, by the threads that copied, or would have. Where non-finite
// elements are found, zeros are put in their place; the warps then add the elements to the rows that see them, from global
// memory.
#pragma once
#include "attention/nonfinite_tile.cuh"
#include "attention/tile.cuh"

// Whether there is a NaN or infinity in this thread's chunks of the tile of V at smem, which are those that it copies where
// threads do; if so, zeros take their places.
template <class T, class VTile, int kThreads>
__device__ __forceinline__ bool take_copied_nonfinite(u32_t smem) {
    u32_t sum[4] = {0, 0, 0, 0};
    for_own_chunks<VTile, kThreads>(smem, [&](u32_t chunk) {
        u32_t words[4];
        ld_shared_v4(words, chunk);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] = fma_rn_x2<T>(words[i], 0, sum[i]);
    });
    const bool found = (nonfinite_bits<T>(sum[0]) | nonfinite_bits<T>(sum[1]) | nonfinite_bits<T>(sum[2]) |
                        nonfinite_bits<T>(sum[3])) != 0;
    if (found) {
        for_own_chunks<VTile, kThreads>(smem, [&](u32_t chunk) {
#pragma unroll 1
            for (int i = 0; i < kChunkBytes; i += 4) {
                const u32_t word = ld_shared(chunk + i);
                st_shared(chunk + i, word & ~nonfinite_mask<T>(word));
            }
        });
    }
    return found;
}

// O += the non-finite elements of the rows [begin, end) of V that each of the lane's two rows sees. query: of the first of
// them; sharers: which columns of O are this warp's.
template <class T, int kCount, class Rows, class Sharers>
__device__ __forceinline__ void add_nonfinite_rows(float (&O_acc)[kCount], const Sharers &sharers, const Mask &mask,
                                                   const Rows &V_gmem, int query, int begin, int end) {
#pragma unroll 1
    for (int key = begin; key < min(end, mask.seqlen_k); ++key) {
        const bool visible[2] = {mask.visible(query, key), mask.visible(query + 8, key)};
        const u16_t *V_row = V_gmem.row(key) + lane_id() % 4 * 2;
#pragma unroll
        for (int i = 0; i < kCount; i += 4) {
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                const T value{V_row[sharers.column(i / 4) + c]};
                if (nonfinite_bits<T>(value.bits) == 0) continue;
                if (visible[0]) O_acc[i + c] += to_float(value);
                if (visible[1]) O_acc[i + 2 + c] += to_float(value);
            }
        }
    }
}
