// Which tiles a block computes, and which key blocks each of them needs.
#pragma once
#include "attention/mask.cuh"
#include "attention/sequence.cuh"

// Place in the line of tiles of this block's tile number `turn`. Block b of a grid of G takes b, then 2G - 1 - b, then
// 2G + b, ...: forwards and backwards, and where neighbours in the line are alike the sums come out alike.
__device__ __forceinline__ int place_in_line(int turn) {
    const int block = turn % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    return turn * gridDim.x + block;
}

// The tiles of all heads in one line. Heads come in groups whose K and V fit into L2 together. Under a causal mask the
// last queries of a group have the most keys: the tiles of the last group get shorter, those of the one before it longer,
// and so on, so that neighbours in the line are always alike.
template <int kBlockM>
struct TileSchedule {
    int m_blocks;
    int num_heads;
    int tiles;
    int group;  // heads of a group
    int heads;  // of all batch elements
    int turn = 0;
    int place = 0;  // in the line, of the tile whose turn it is

    __device__ __forceinline__ explicit TileSchedule(const AttentionParams &p)
        : m_blocks((p.rows_q + kBlockM - 1) / kBlockM),
          num_heads(p.num_heads),
          tiles(m_blocks * p.num_heads * p.batch),
          group(p.head_group),
          heads(p.num_heads * p.batch) {}

    // Goes on to this block's next tile, the first one first; false where there is none.
    __device__ __forceinline__ bool next() {
        place = place_in_line(turn++);
        return place < tiles;
    }

    __device__ __forceinline__ QueryTile tile() const {
        const int number = place / (group * m_blocks);
        const int first_head = number * group;
        const int width = min(group, heads - first_head);
        const int rest = place - first_head * m_blocks;
        const int row = rest / width;
        const int head = first_head + rest - row * width;
        const bool shortening = ((heads - 1) / group - number) % 2 == 0;
        const int m = shortening ? m_blocks - 1 - row : row;
        const int batch = head / num_heads;
        return {batch, head - batch * num_heads, m * kBlockM};
    }
};

// Blocks of kBlockN keys that some query of a tile sees, begin to end - 1, and among them those that every query sees
// whole: the others are at its edge. A tile that sees no key gets one block, all of it masked: O = 0 comes out.
template <int kBlockN>
struct KeyBlocks {
    int begin;
    int end;
    int begin_whole;
    int end_whole;

    __device__ __forceinline__ KeyBlocks(const Mask &mask, int first_query, int rows) {
        const int last_query = min(first_query + rows, mask.seqlen_q) - 1;
        begin = mask.first_key(first_query) / kBlockN;
        end = (mask.end_key(last_query) + kBlockN - 1) / kBlockN;
        begin_whole = (mask.first_key(last_query) + kBlockN - 1) / kBlockN;
        end_whole = mask.end_key(first_query) / kBlockN;
        if (begin >= end || last_query < first_query) {
            begin = end_whole = 0;
            end = 1;
        }
    }

    __device__ __forceinline__ bool at_edge(int block) const { return block < begin_whole || block >= end_whole; }

    // Whether some query of the tile may not see some key of the block.
    __device__ __forceinline__ bool may_hide(int block) const { return kPlanes || at_edge(block); }
};
