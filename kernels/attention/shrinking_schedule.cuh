// Order of tiles where all are alike: whole ones, and at the end of the line tiles of fewer warpgroups.
//
// Blocks that each compute a row of equal tiles are done together, but for the last round, in which some have none. Here
// what is left for the last round is cut into tiles of one or two warpgroups, as many as there are blocks, and takes less time.
// Of kConsumers warpgroups the others let the keys of such a tile pass. Bits of a row do not depend on the tile it is in.
#pragma once
#include "attention/schedule.cuh"

struct ShrunkTile : QueryTile {
    int warpgroups;
};

template <int kConsumers>
struct ShrinkingSchedule {
    static constexpr int kRows = 64;  // of a warpgroup
    static constexpr int kWhole = kConsumers * kRows;
    int num_heads;
    int whole, whole_tiles;  // tiles of a head, and of all heads
    int small, tiles;        // those after them, and all tiles of all heads
    int warpgroups;          // of a small tile
    int turn = 0;
    int place = 0;  // in the line, of the tile whose turn it is

    __device__ __forceinline__ explicit ShrinkingSchedule(const AttentionParams &p) : num_heads(p.num_heads) {
        const int heads = p.num_heads * p.batch, blocks = gridDim.x;
        const int rounds = heads * ((p.rows_q + kWhole - 1) / kWhole) / blocks;
        whole = min(rounds * blocks / heads, p.rows_q / kWhole);
        const int rest = p.rows_q - whole * kWhole, places = (rounds + 1) * blocks;
        // The fewest warpgroups with which what is left is one round.
        for (warpgroups = 1; warpgroups < kConsumers; ++warpgroups) {
            if (heads * (whole + tiles_of(rest)) <= places) break;
        }
        if (warpgroups == kConsumers) whole = p.rows_q / kWhole;
        small = tiles_of(p.rows_q - whole * kWhole);
        whole_tiles = heads * whole;
        tiles = whole_tiles + heads * small;
    }

    // Goes on to this block's next tile, the first one first; false where there is none.
    __device__ __forceinline__ bool next() {
        place = place_in_line(turn++);
        return place < tiles;
    }

    __device__ __forceinline__ ShrunkTile tile() const {
        const bool is_whole = place < whole_tiles;
        const int number = is_whole ? place : place - whole_tiles, of_head = is_whole ? whole : small;
        const int head = number / of_head, m = number - head * of_head;
        const int first_query = is_whole ? m * kWhole : whole * kWhole + m * warpgroups * kRows;
        const int batch = head / num_heads;
        return {{batch, head - batch * num_heads, first_query}, is_whole ? kConsumers : warpgroups};
    }

  private:
    // Small tiles that so many rows of a head take.
    __device__ __forceinline__ int tiles_of(int rows) const { return (rows + warpgroups * kRows - 1) / (warpgroups * kRows); }
};
