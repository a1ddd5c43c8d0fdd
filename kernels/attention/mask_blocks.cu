// Finds the blocks of keys that a boolean mask hides whole from a tile of queries (mask_blocks.cuh).
//
// A thread block writes one word: each of its 32 warps looks at the mask of one block of keys, until something is shown.
//
// Macros from the plan: those of the kernel that follows, of which ATTN_BLOCK_M and ATTN_BLOCK_N count.
#include "attention/mask_blocks.cuh"
#include "ptx/lane.cuh"
#include "ptx/shared.cuh"
#include "ptx/types.cuh"

constexpr int kBlockM = ATTN_BLOCK_M, kBlockN = ATTN_BLOCK_N;
using Blocks = MaskBlocks<kBlockM, kBlockN>;

// Whether the mask, of so many rows and columns from `first` on, shows something.
__device__ __forceinline__ bool shows(const u8_t *first, i64_t row_stride, i64_t col_stride, int rows, int cols) {
    constexpr int kAtOnce = 4;
    // 16 bytes at a time where they lie so, else one.
    const bool wide = col_stride == 1 && (reinterpret_cast<u64_t>(first) | row_stride) % 16 == 0;
    const int step = wide ? 16 : 1, pieces = (cols + step - 1) / step;
    bool found = false;
#pragma unroll 1
    for (int start = 0; start < rows * pieces; start += kAtOnce * kWarpSize) {
        if (wide) {
            u64_t any = 0;
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                const int number = start + i * kWarpSize + lane_id(), row = number / pieces, col = number % pieces * 16;
                const u8_t *piece = first + row * row_stride + col;
                if (row >= rows) continue;
                if (col + 16 <= cols) {
                    const u64_t *halves = reinterpret_cast<const u64_t *>(piece);
                    any |= halves[0] | halves[1];
                } else {
                    for (int c = 0; c < cols - col; ++c) any |= piece[c];
                }
            }
            found = any != 0;
        } else {
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                const int number = start + i * kWarpSize + lane_id(), row = number / pieces, col = number % pieces;
                if (row < rows) found = found || first[row * row_stride + col * col_stride] != 0;
            }
        }
        if (vote_any(found)) return true;
    }
    return false;
}

extern "C" __global__ void __launch_bounds__(Blocks::kBits *kWarpSize)
    attention_mask_blocks(const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(16) unsigned char dynamic_smem[];
    const u32_t flags = smem_address(dynamic_smem);  // a word for each warp
    const int words = Blocks::words(p), tiles = Blocks::tiles(p);
    const int number = static_cast<int>(blockIdx.x) % words, row = static_cast<int>(blockIdx.x) / words;
    const QueryTile tile{row / tiles / p.num_heads, row / tiles % p.num_heads, row % tiles * kBlockM};
    // Along an axis that the mask is broadcast over there is one.
    if ((p.mask_head_stride == 0 && tile.head > 0) || (p.mask_batch_stride == 0 && tile.batch > 0)) return;
    const int key = (number * Blocks::kBits + warp_id()) * kBlockN;
    const u8_t *first = p.mask + (tile.batch * p.mask_batch_stride + tile.head * p.mask_head_stride +
                                  tile.first_query * p.mask_row_stride + key * p.mask_col_stride);
    // Rows that are all the same are one.
    const int rows = p.mask_row_stride == 0 ? 1 : min(kBlockM, p.plane_rows - tile.first_query);
    const bool shown = shows(first, p.mask_row_stride, p.mask_col_stride, rows, min(kBlockN, p.plane_cols - key));
    if (lane_id() == 0) st_shared(flags + warp_id() * 4, shown);
    __syncthreads();
    if (warp_id() == 0) {
        const u32_t word = ballot(ld_shared(flags + lane_id() * 4) != 0);
        if (lane_id() == 0) *Blocks::word(p, tile, number) = word;
    }
}
