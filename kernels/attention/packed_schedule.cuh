// Which tiles a block computes where sequences are packed: how many there are is known on the device only. One warp finds
// them and tells the others through shared memory.
#pragma once
#include "attention/ring.cuh"
#include "attention/schedule.cuh"
#include "ptx/lane.cuh"
#include "ptx/shared.cuh"

#if ATTN_VARLEN_Q
// Tiles in shared memory: three words each, behind the barriers of a ring. Batch -1 ends the row of tiles.
struct TileRing {
    static constexpr int kStages = 2;
    static constexpr int kTileBytes = 16;
    static constexpr int kStateBytes = 16;  // of the warp that finds them
    static constexpr int kBytes = Ring<kStages>::kBytes + kStages * kTileBytes + kStateBytes;
    Ring<kStages> ring;

    __device__ __forceinline__ explicit TileRing(u32_t smem) : ring(smem) {}
    __device__ __forceinline__ u32_t words() const {
        return ring.barriers + Ring<kStages>::kBytes + ring.stage * kTileBytes;
    }
    __device__ __forceinline__ u32_t state() const {
        return ring.barriers + Ring<kStages>::kBytes + kStages * kTileBytes;
    }
};

// The row of tiles as all warps but one see it. All lanes of a warp call together.
class ToldSchedule {
  public:
    __device__ __forceinline__ explicit ToldSchedule(u32_t smem) : told(smem) {}

    __device__ __forceinline__ bool next() {
        told.ring.wait_full();
        const u32_t words = told.words();
        current = {static_cast<int>(ld_shared(words)), static_cast<int>(ld_shared(words + 4)),
                   static_cast<int>(ld_shared(words + 8))};
        __syncwarp();
        if (lane_id() == 0) mbarrier_arrive(told.ring.empty());
        told.ring.advance();
        return current.batch >= 0;
    }

    __device__ __forceinline__ QueryTile tile() const { return current; }

  private:
    TileRing told;
    QueryTile current;
};

// The tiles of all sequences and heads in one line, dealt out as in TileSchedule. 32 sequences are a bundle, one for each
// lane; heads of a bundle come in groups of about p.head_group tiles, each group from its most keys to its fewest, every
// second one backwards. All lanes of the warp call together.
template <int kBlockM>
class PackedSchedule {
  public:
    __device__ __forceinline__ PackedSchedule(const AttentionParams &p, u32_t smem) : p(p), told(smem) {
        int groups = 0;
#pragma unroll 1
        for (int sequence = 0; sequence < p.batch; sequence += kWarpSize) groups += find_bundle(sequence).groups;
        if (lane_id() == 0) st_shared(told.state() + 12, groups - 1);
        remember(0, 0, 0);
    }

    // Goes on to this block's next tile, the first one first, and tells the other warps; false where there is none.
    __device__ __forceinline__ bool next() {
        current = find_tile(place_in_line(turn++));
        told.ring.wait_empty();
        if (lane_id() == 0) {
            const u32_t words = told.words();
            st_shared(words, current.batch);
            st_shared(words + 4, current.head);
            st_shared(words + 8, current.first_query);
            mbarrier_arrive(told.ring.full());
        }
        told.ring.advance();
        return current.batch >= 0;
    }

    __device__ __forceinline__ QueryTile tile() const { return current; }

  private:
    const AttentionParams &p;
    TileRing told;
    QueryTile current;
    int turn = 0;

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

    // The bundle that the last tile was in: its first sequence, and tiles and groups of those before it. They are kept in
    // shared memory, since registers are few, and behind them the number of the last group of all.
    __device__ __forceinline__ void remember(int first, int before, int passed) const {
        if (lane_id() == 0) {
            st_shared(told.state(), first);
            st_shared(told.state() + 4, before);
            st_shared(told.state() + 8, passed);
        }
        __syncwarp();
    }

    // The tile at a place in the line, of batch -1 behind its end. Places are asked for in rising order.
    __device__ __forceinline__ QueryTile find_tile(int place) const {
        int first = ld_shared(told.state()), before = ld_shared(told.state() + 4), passed = ld_shared(told.state() + 8);
        Bundle bundle = find_bundle(first);
#pragma unroll 1
        while (place - before >= bundle.rows * p.num_heads) {
            before += bundle.rows * p.num_heads;
            passed += bundle.groups;
            first += kWarpSize;
            if (first >= p.batch) return {-1, 0, 0};
            bundle = find_bundle(first);
        }
        remember(first, before, passed);
        const int number = (place - before) / (bundle.heads * bundle.rows);
        const int first_head = number * bundle.heads;
        const int width = min(bundle.heads, p.num_heads - first_head);
        const int rest = place - before - first_head * bundle.rows;
        const int row = rest / width;
        const int head = first_head + rest - row * width;
        const int last = ld_shared(told.state() + 12);
        const bool falling = (last - passed - number) % 2 == 0;
        return find_row(bundle, first, falling ? row : bundle.rows - 1 - row, head);
    }

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
    __device__ __forceinline__ QueryTile find_row(const Bundle &bundle, int first, int row, int head) const {
        // The lowest level above which are no more tiles than come before this one.
        int level = 0, high = redux_max(bundle.most);
#pragma unroll 1
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
