// Which queries of which head and sequence a block of the mma.sync kernel computes.
#pragma once
#include "attention/params.cuh"
#include "attention/sequence.cuh"

// kBlockM queries of one head: those of block number `row_block`, of all that share columns of O.
template <int kBlockM>
struct BlockRows {
    bool exists = true;
    int head;
    int first_query;
    Sequence sequence;

    __device__ __forceinline__ BlockRows(const AttentionParams &p, int row_block) {
#if ATTN_VARLEN_Q
        const int slots = p.rows_q / kBlockM + p.batch;
        head = row_block / slots;
        const RowTile tile = find_row_tile<kBlockM>(p, row_block % slots);
        exists = tile.exists;
        if (!exists) return;
        sequence = find_sequence(p, tile.batch);
        const int number = tile.number;
#else
#if ATTN_WINDOW && !ATTN_WINDOW_LEFT
        // The longest tiles of all heads come first, and when the multiprocessors run out of tiles, those left are short.
        const int heads = p.num_heads * p.batch;
        const int number = row_block / heads, any_head = row_block % heads;
#else
        // Blocks of one head are neighbours and share its K and V in L2.
        const int slots = (p.rows_q + kBlockM - 1) / kBlockM;
        const int number = row_block % slots, any_head = row_block / slots;
#endif
        head = any_head % p.num_heads;
        sequence = find_sequence(p, any_head / p.num_heads);
#endif
        // The last queries come first: under a causal mask they have the most keys.
        first_query = ((sequence.seqlen_q + kBlockM - 1) / kBlockM - 1 - number) * kBlockM;
    }
};
