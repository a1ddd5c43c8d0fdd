// Which tiles a block computes where sequences are packed: how many there are is known on the device only.
#pragma once
#include "attention/schedule.cuh"

#if ATTN_VARLEN_Q
// The tiles of all sequences and heads in one line, dealt out as in TileSchedule. 32 sequences are a bundle, one for each
// lane; heads of a bundle come in groups of about p.head_group tiles, each group from its most keys to its fewest, every
// second one backwards. All lanes of a warp call together; each warp finds the same.
template <int kBlockM>
struct PackedSchedule {
    const AttentionParams &p;
    int tiles;      // of all bundles
    int last = -1;  // number of the last group of all
    // The bundle that the last tile was in:
    int first = 0;   // its first sequence
    int before = 0;  // tiles of those before it
    int passed = 0;  // groups of those before it

    // What a lane knows of its sequence, and all lanes of the bundle. A tile's level is how many keys it sees, in steps of
    // kBlockM: tile m has level min(lowest + m, most), or 0 where that is less.
    struct Bundle {
        int count;  // tiles of the sequence, for one head
        int lowest;
        int most;
        int rows;    // tiles of all sequences, for one head
        int heads;   // of a group
        int groups;  // of heads

        // Tiles of the sequence above a level, 0 or more.
        __device__ __forceinline__ int above(int level) const {
            return level >= most ? 0 : count - clamped(level + 1 - lowest, 0, count);
        }
    };

    __device__ __forceinline__ explicit PackedSchedule(const AttentionParams &p) : p(p), tiles(0) {
        for (int sequence = 0; sequence < p.batch; sequence += kWarpSize) {
            const Bundle bundle = find_bundle(sequence);
            tiles += bundle.rows * p.num_heads;
            last += bundle.groups;
        }
    }

    // Place in the line of this block's tile number `turn`; at or past `tiles` there is none.
    __device__ __forceinline__ int place(int turn) const {
        const int block = turn % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
        return turn * gridDim.x + block;
    }

    // The tile at a place before `tiles`. Places are asked for in rising order.
    __device__ __forceinline__ QueryTile tile(int place) {
        Bundle bundle = find_bundle(first);
        while (place - before >= bundle.rows * p.num_heads && first < p.batch) {
            before += bundle.rows * p.num_heads;
            passed += bundle.groups;
            first += kWarpSize;
            bundle = find_bundle(first);
        }
        const int number = (place - before) / (bundle.heads * bundle.rows);
        const int first_head = number * bundle.heads;
        const int width = min(bundle.heads, p.num_heads - first_head);
        const int rest = place - before - first_head * bundle.rows;
        const int row = rest / width;
        const int head = first_head + rest - row * width;
        const bool falling = (last - passed - number) % 2 == 0;
        return find_row(bundle, falling ? row : bundle.rows - 1 - row, head);
    }

  private:
    __device__ __forceinline__ Bundle find_bundle(int first_sequence) const {
        Bundle bundle{0, 0, 0, 0, 0, 0};
        const int batch = first_sequence + lane_id();
        if (batch < p.batch) {
            const Sequence sequence = find_sequence(p, batch);
            int keys = sequence.seqlen_k;
            bundle.count = (sequence.seqlen_q + kBlockM - 1) / kBlockM;
#if ATTN_WINDOW
            bundle.lowest = (sequence.diagonal + p.window_right) / kBlockM + 1;
            keys = min(keys, p.window_left + p.window_right + kBlockM);
#else
            bundle.lowest = keys;
#endif
            bundle.most = (keys + kBlockM - 1) / kBlockM;
        }
        bundle.rows = redux_add(bundle.count);
        const int groups = clamped((bundle.rows * p.num_heads + p.head_group / 2) / p.head_group, 1, p.num_heads);
        bundle.heads = (p.num_heads + groups - 1) / groups;
        bundle.groups = bundle.rows == 0 ? 0 : (p.num_heads + bundle.heads - 1) / bundle.heads;
        return bundle;
    }

    // Tile number `row` of one head of a bundle: levels fall, and in a level come sequence after sequence.
    __device__ __forceinline__ QueryTile find_row(const Bundle &bundle, int row, int head) const {
        // The lowest level above which are no more tiles than come before this one.
        int level = 0, high = redux_max(bundle.most);
        while (level < high) {
            const int middle = (level + high) / 2;
            const bool few = redux_add(bundle.above(middle)) <= row;
            high = few ? middle : high;
            level = few ? level : middle + 1;
        }
        const int above = bundle.above(level);
        const int here = (level == 0 ? bundle.count : bundle.above(level - 1)) - above;
        const int number = row - redux_add(above);
        int end = here;  // becomes: tiles of this level up to this lane's sequence
#pragma unroll
        for (int step = 1; step < kWarpSize; step *= 2) {
            const int other = shfl_up(end, step);
            if (lane_id() >= step) end += other;
        }
        const int lane = first_set(ballot(end > number));
        const int m = shfl_idx(bundle.count - above - end, lane) + number;
        return {first + lane, head, m * kBlockM};
    }
};
#endif
