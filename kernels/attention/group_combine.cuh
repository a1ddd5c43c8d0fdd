// O and LSE from the parts of a decode tile that its blocks have left, by the last of them (arrivals.cuh).
//
//   LSE = ln sum_s exp(LSE_s)    O = sum_s exp(LSE_s - LSE) O_s
//
// Up to 64 parts are combined at once, a lane for two LSE. Where there are more, the last block of each 64 combines
// those into one further part, and the last of these blocks combines the further parts. Parts are taken in their order, so
// the bits do not depend on who is last.
//
// A part in which a row saw no key has LSE -inf and O 0. A sink joins the sum at the end, once.
#pragma once
#include "attention/arrivals.cuh"
#include "attention/group_store.cuh"

constexpr int kParts = 2 * kWarpSize;  // combined at once

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = max_f32(x, shfl_bfly(x, mask));
    return x;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x += shfl_bfly(x, mask);
    return x;
}

// What the parts of one tile have in common.
struct PartTile {
    int kv_head;
    int first_row;  // of the tile
    int v_part;     // blocks that share the columns of O leave parts each for itself
    u64_t *counts;  // of the first kParts parts, of the next, ...; of the further parts
};

// Counts of one tile's parts, those of further parts included. Where there are no more than kParts, there is one.
__device__ __forceinline__ int part_ranges(const AttentionParams &p) { return (p.num_splits + kParts - 1) / kParts; }
__device__ __forceinline__ int part_counts(const AttentionParams &p) {
    const int ranges = part_ranges(p);
    return ranges > 1 ? ranges + 1 : 1;
}

// The two words at which a block may arrive, as one of its threads finds them before it asks for keys: behind those, what
// it finds would come late.
struct FoundCounts {
    u64_t own;
    u64_t further;

    __device__ __forceinline__ FoundCounts(const AttentionParams &p, const PartTile &tile, int split)
        : own(ld_relaxed(tile.counts + split / kParts)), further(0) {
        if (p.num_splits > kParts) further = ld_relaxed(tile.counts + part_ranges(p));
    }

    // Before the block arrives.
    __device__ __forceinline__ void open(const AttentionParams &p, const PartTile &tile, int split) const {
        open_count(p, tile.counts + split / kParts, own);
        if (p.num_splits > kParts) open_count(p, tile.counts + part_ranges(p), further);
    }
};

// A row of a tile, and where its element of LSE is: worked out while nobody knows yet who is last.
struct PartRow {
    QueryHead at;
    i64_t query;    // within Q
    i64_t element;  // of LSE

    __device__ __forceinline__ PartRow(const AttentionParams &p, const Sequence &sequence, const PartTile &tile,
                                       int number)
        : at(query_head(p, tile.kv_head, tile.first_row + number)),
          query(worked_out(sequence.q_row + at.query)),
          element(worked_out(sequence.batch * p.lse_batch_stride + at.head * p.lse_head_stride + query)) {}
};

// The first row of this warp. The first warp, which waits for the answer of the count, has the last one.
template <int kWarps>
__device__ __forceinline__ int combined_row() {
    return (warp_id() + kWarps - 1) % kWarps;
}

// Combines `count` parts from `first` on, at most kParts, of all rows of a tile, a row a warp. target: the further part that
// they become, or -1: O and LSE themselves. room: kRoomBytes of shared memory of this warp; the parts pass through it, since
// a loop that holds them all in registers is unrolled, and its instructions are as far away as the parts. They are asked for
// all at once, and those that come first are added while the others are under way. Loops are unrolled no further than it takes,
// for one block runs them once: each instruction is fetched from afar. first_row: the row combined_row().
template <class Out, int kVDim, int kVParts, int kRows, int kWarps, int kRoomBytes>
__device__ __forceinline__ void combine_parts(const AttentionParams &p, const Sequence &sequence, const PartTile &tile,
                                              unsigned char *room, const PartRow &first_row, int first, int count,
                                              int target) {
    constexpr float kLog2e = 1.4426950408889634f;
    constexpr int kWidth = kVDim * kVParts, kRowChunks = kVDim / 4, kFit = kRoomBytes / (kRowChunks * kChunkBytes);
    constexpr int kLaneChunks = (kRowChunks + kWarpSize - 1) / kWarpSize;  // of a row, four columns each
    // Parts that the lanes copy side by side, and in one step; parts in the room.
    constexpr int kPassParts = kRowChunks < kWarpSize ? kWarpSize / kRowChunks : 1;
    constexpr int kStep = kPassParts < 4 ? 4 : kPassParts, kAtOnce = kFit < kParts ? kFit / kStep * kStep : kParts;
    static_assert(kAtOnce > 0 && kStep % kPassParts == 0 && kStep % 4 == 0, "a step fits");
    const i64_t O_step = p.split_stride * kWidth, LSE_step = p.split_stride * kVParts;
    const u32_t room_smem = smem_address(room);
    PartRow row = first_row;
    for (int number = combined_row<kWarps>(); row.at.query < sequence.seqlen_q;) {
        float *LSE_parts = p.LSE_split + tile.v_part * p.split_stride + row.element;
        float *O_parts = p.O_split + row.element * kWidth + tile.v_part * kVDim;
        float LSE[kParts / kWarpSize], weights[kParts / kWarpSize];  // of part lane, lane + 32
#pragma unroll
        for (int i = 0; i < kParts / kWarpSize; ++i) {
            const int part = lane_id() + i * kWarpSize;
            LSE[i] = part < count ? LSE_parts[(first + part) * LSE_step] : -infinity();
        }
        float top = 0.0f, sum = 0.0f;
        float4_t totals[kLaneChunks];
#pragma unroll
        for (int u = 0; u < kLaneChunks; ++u) totals[u] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int begin = 0; begin < count; begin += kAtOnce) {
            const int here = min(kAtOnce, count - begin);
            const int half = (here + 2 * kStep - 1) / (2 * kStep) * kStep;
            const int lane_part = lane_id() / kRowChunks, lane_chunk = lane_id() - lane_part * kRowChunks;
            const float *from = O_parts + (first + begin + lane_part) * O_step + lane_chunk * 4;
            u32_t to = room_smem + lane_id() * kChunkBytes;
            // Whole steps: zeros behind the last part.
#pragma unroll 1
            for (int i = 0, end = min(here, half);; end = here) {
#pragma unroll 1
                for (; i < end; i += kStep) {
#pragma unroll
                    for (int part = lane_part; part < kStep + lane_part; part += kPassParts) {
                        if (kRowChunks >= kWarpSize || kWarpSize % kRowChunks == 0 || lane_part < kPassParts) {
#pragma unroll
                            for (int u = 0; u < kLaneChunks; ++u) {
                                if (kRowChunks > kWarpSize && u * kWarpSize + lane_id() >= kRowChunks) break;
                                cp_async_16(to + u * kWarpSize * kChunkBytes, from + u * kWarpSize * 4,
                                            i + part < here ? kChunkBytes : 0);
                            }
                        }
                        from += kPassParts * O_step;
                        to += kPassParts * kRowChunks * kChunkBytes;
                    }
                }
                cp_async_commit_group();
                if (end == here) break;
            }
            if (begin == 0) {  // while the first parts are under way
                top = warp_max(max_f32(LSE[0], LSE[1]));
#if ATTN_SINKS
                if (target < 0) top = max_f32(top, p.sinks[row.at.head]);
#endif
                const float shift = top == -infinity() ? 0.0f : top;
#pragma unroll
                for (int i = 0; i < kParts / kWarpSize; ++i) weights[i] = ex2_approx((LSE[i] - shift) * kLog2e);
                sum = warp_sum(weights[0] + weights[1]);
#if ATTN_SINKS
                if (target < 0) sum += ex2_approx((p.sinks[row.at.head] - shift) * kLog2e);
#endif
            }
#pragma unroll 1
            for (int i = 0, end = min(here, half);; end = here) {
                if (end < here) {
                    cp_async_wait_group<1>();
                } else {
                    cp_async_wait_group<0>();
                }
                __syncwarp();  // every lane's copies are visible
#pragma unroll 1
                for (; i < end; i += 4) {
                    const u32_t part = begin + i;
                    const float own = part < kWarpSize ? weights[0] : weights[1];
                    const float4_t *numbers = reinterpret_cast<const float4_t *>(room) + i * kRowChunks;
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        const float factor = shfl_idx(own, part % kWarpSize + j);
#pragma unroll
                        for (int u = 0; u < kLaneChunks; ++u) {
                            const int chunk = u * kWarpSize + lane_id();
                            if (kRowChunks % kWarpSize != 0 && chunk >= kRowChunks) break;
#pragma unroll
                            for (int c = 0; c < 4; ++c) {
                                totals[u].v[c] = fma_rn(numbers[j * kRowChunks + chunk].v[c], factor, totals[u].v[c]);
                            }
                        }
                    }
                }
                if (end == here) break;
            }
            __syncwarp();  // every lane has read what the next parts are copied over
        }
        const float factor = sum == 0.0f ? 0.0f : __frcp_rn(sum);
#pragma unroll
        for (int u = 0; u < kLaneChunks; ++u) {
            const int chunk = u * kWarpSize + lane_id();
            if (kRowChunks % kWarpSize != 0 && chunk >= kRowChunks) break;
            float4_t &total = totals[u];
#pragma unroll
            for (int c = 0; c < 4; ++c) total.v[c] *= factor;
            if (target < 0) {
                Out *O = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + row.query * p.o_row_stride +
                         row.at.head * p.o_head_stride + tile.v_part * kVDim + chunk * 4;
                store_pair(O, total.v[0], total.v[1]);
                store_pair(O + 2, total.v[2], total.v[3]);
            } else {
                reinterpret_cast<float4_t *>(O_parts + target * O_step)[chunk] = total;
            }
        }
        if (lane_id() == 0) {
            const float merged = sum == 0.0f ? -infinity() : top + logf(sum);
            if (target >= 0) {
                LSE_parts[target * LSE_step] = merged;
            } else if (tile.v_part == 0 && p.LSE != nullptr) {
                p.LSE[row.element] = merged;
            }
        }
        number += kWarps;
        if (number >= kRows) break;
        row = PartRow(p, sequence, tile, number);
    }
}

// By all threads of a block that has left part `split`: where it is the last, it combines. rooms: kRoomBytes for each warp.
template <class Out, int kVDim, int kVParts, int kRows, int kWarps, int kRoomBytes>
__device__ __forceinline__ void combine_if_last(const AttentionParams &p, const Sequence &sequence,
                                                const PartTile &tile, unsigned char *rooms, int split, u32_t *flag) {
    const int ranges = part_ranges(p), range = split / kParts;
    u64_t *word = tile.counts + range;
    int first = range * kParts, count = min(kParts, p.num_splits - first);
    int target = ranges > 1 ? p.num_splits + range : -1;
    while (true) {
        arrive(p, word, count, flag);
        const PartRow first_row(p, sequence, tile, combined_row<kWarps>());
        if (!is_last(flag)) return;
        combine_parts<Out, kVDim, kVParts, kRows, kWarps, kRoomBytes>(p, sequence, tile, rooms + warp_id() * kRoomBytes,
                                                                      first_row, first, count, target);
        if (target < 0) return;
        // The further parts are next.
        word = tile.counts + ranges;
        first = p.num_splits;
        count = ranges;
        target = -1;
    }
}
