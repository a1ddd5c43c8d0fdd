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
    const AttentionParams &p;
    int whole;       // tiles of a head
    int warpgroups;  // of a small tile
    int turn = 0;
    int place = 0;  // in the line, of the tile whose turn it is

    __device__ __forceinline__ explicit ShrinkingSchedule(const AttentionParams &p) : p(p) {
        const int blocks = gridDim.x;
        const int rounds = heads() * ((p.rows_q + kWhole - 1) / kWhole) / blocks;
        whole = min(rounds * blocks / heads(), p.rows_q / kWhole);
        // The fewest warpgroups with which what is left is one round.
        for (warpgroups = 1; warpgroups < kConsumers; ++warpgroups) {
            if (heads() * (whole + small()) <= (rounds + 1) * blocks) break;
        }
        if (warpgroups == kConsumers) whole = p.rows_q / kWhole;
    }

    // Goes on to this block's next tile, the first one first; false where there is none.
    __device__ __forceinline__ bool next() {
        place = place_in_line(turn++);
        return place < heads() * (whole + small());
    }

    __device__ __forceinline__ ShrunkTile tile() const {
        const int whole_tiles = heads() * whole;
        const bool is_whole = place < whole_tiles;
        const int number = is_whole ? place : place - whole_tiles, of_head = is_whole ? whole : small();
        const int head = number / of_head, m = number - head * of_head;
        const int first_query = is_whole ? m * kWhole : whole * kWhole + m * warpgroups * kRows;
        const int batch = p.batch == 1 ? 0 : head / p.num_heads;  // what it keeps of a division takes registers
        return {{batch, head - batch * p.num_heads, first_query}, is_whole ? kConsumers : warpgroups};
    }

  private:
    // Of all batch entries.
    __device__ __forceinline__ int heads() const { return p.num_heads * p.batch; }
    // Small tiles of a head.
    __device__ __forceinline__ int small() const {
        return (p.rows_q - whole * kWhole + warpgroups * kRows - 1) / (warpgroups * kRows);
    }
};
