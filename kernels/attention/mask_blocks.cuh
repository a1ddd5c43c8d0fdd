// Which blocks of keys a boolean mask leaves to a tile of queries: a bit for each block, in words of 32, found by a launch of
// its own before this one (mask_blocks.cu). What it hides whole is neither copied nor computed (ATTN_MASK_BLOCKS).
#pragma once
#include "attention/params.cuh"
#include "attention/sequence.cuh"
#include "ptx/lane.cuh"

template <int kBlockM, int kBlockN>
struct MaskBlocks {
    static constexpr int kBits = 32;
    u32_t bits = 0;  // of the blocks before the one under way, in its word

    // The words of one (batch, head): tiles, and words of a tile.
    __device__ __forceinline__ static int tiles(const AttentionParams &p) {
        return (p.plane_rows + kBlockM - 1) / kBlockM;
    }
    __device__ __forceinline__ static int words(const AttentionParams &p) {
        return (p.plane_cols + kBits * kBlockN - 1) / (kBits * kBlockN);
    }
    // Along an axis that the mask is broadcast over there is one.
    __device__ __forceinline__ static u32_t *word(const AttentionParams &p, const QueryTile &tile, int number) {
        const int head = p.mask_head_stride == 0 ? 0 : tile.head, batch = p.mask_batch_stride == 0 ? 0 : tile.batch;
        const i64_t row = static_cast<i64_t>(batch * p.num_heads + head) * tiles(p) + tile.first_query / kBlockM;
        return p.mask_blocks + row * words(p) + number;
    }

    // Cuts a tile's blocks [begin, end), of which there are some, to those from the first to the last that the mask leaves;
    // to one, whatever it is, where it leaves none. The last is under way then.
    __device__ __forceinline__ void cut(const AttentionParams &p, const QueryTile &tile, int &begin, int &end) {
#if ATTN_MASK_BLOCKS
        int number = (end - 1) / kBits, first = begin / kBits;
        const u32_t after = ~0u << begin % kBits;
        bits = shown(p, tile, number) & ~0u >> (kBits - 1 - (end - 1) % kBits);
        while (bits == 0 && number > first) bits = shown(p, tile, --number);
        if (number == first) bits &= after;
        if (bits == 0) {
            end = begin + 1;
            return;
        }
        end = number * kBits + last_set(bits) + 1;
        bits ^= 1u << last_set(bits);
        u32_t low = shown(p, tile, first) & after;
        while (low == 0) low = shown(p, tile, ++first);
        begin = first * kBits + first_set(low);
#endif
    }

    // Goes on to the last block before `block` that the mask leaves; begin - 1 behind the first of the tile.
    __device__ __forceinline__ int before(const AttentionParams &p, const QueryTile &tile, int begin, int block) {
#if ATTN_MASK_BLOCKS
        if (block == begin) return block - 1;
        int number = block / kBits;
        while (bits == 0) bits = shown(p, tile, --number);
        const int last = last_set(bits);
        bits ^= 1u << last;
        return number * kBits + last;
#else
        return block - 1;
#endif
    }

  private:
    __device__ __forceinline__ static u32_t shown(const AttentionParams &p, const QueryTile &tile, int number) {
        return tile.first_query < p.plane_rows && number < words(p) ? *word(p, tile, number) : 0;
    }
};
