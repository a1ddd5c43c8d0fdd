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

// Waits until this thread's copies of quarter `quarter` have landed, where all four were committed one after the other.
__device__ __forceinline__ void wait_quarter(int quarter) {
    if (quarter == 0) return cp_async_wait_group<3>();
    if (quarter == 1) return cp_async_wait_group<2>();
    if (quarter == 2) return cp_async_wait_group<1>();
    cp_async_wait_group<0>();
}

// Combines `count` parts from `first` on, at most kParts, of all rows of a tile, a row a warp. target: the further part that
// they become, or -1: O and LSE themselves. room: kRoomBytes of shared memory of this warp; the parts pass through it, since
// a loop that holds them all in registers is unrolled, and its instructions are as far away as the parts. They are asked for
// all at once, and added a quarter at a time, while the others are under way.
template <class Out, int kVDim, int kVParts, int kRows, int kWarps, int kRoomBytes>
__device__ __forceinline__ void combine_parts(const AttentionParams &p, const Sequence &sequence, const PartTile &tile,
                                              unsigned char *room, int first, int count, int target) {
    constexpr float kLog2e = 1.4426950408889634f;
    constexpr int kWidth = kVDim * kVParts, kRowChunks = kVDim / 4, kFit = kRoomBytes / (kRowChunks * kChunkBytes);
    constexpr int kAtOnce = kFit < kParts ? kFit : kParts;                           // parts in the room
    constexpr int kLaneChunks = (kRowChunks + kWarpSize - 1) / kWarpSize;            // of a row, four columns each
    constexpr int kPassParts = kRowChunks < kWarpSize ? kWarpSize / kRowChunks : 1;  // copied side by side
    static_assert(kAtOnce > 0, "a row of O fits");
    const i64_t O_step = p.split_stride * kWidth, LSE_step = p.split_stride * kVParts;
    const u32_t room_smem = smem_address(room);
    for (int row_number = warp_id(); row_number < kRows; row_number += kWarps) {
        const QueryHead row = query_head(p, tile.kv_head, tile.first_row + row_number);
        if (row.query >= sequence.seqlen_q) break;
        const i64_t query = sequence.q_row + row.query;
        const i64_t element = sequence.batch * p.lse_batch_stride + row.head * p.lse_head_stride + query;
        float *LSE_parts = p.LSE_split + tile.v_part * p.split_stride + element;
        float *O_parts = p.O_split + element * kWidth + tile.v_part * kVDim;
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
            const int quarter_parts = (here + 4 * kPassParts - 1) / (4 * kPassParts) * kPassParts;
            const int lane_part = lane_id() / kRowChunks, lane_chunk = lane_id() - lane_part * kRowChunks;
            const float *from = O_parts + (first + begin + lane_part) * O_step + lane_chunk * 4;
            u32_t to = room_smem + lane_id() * kChunkBytes;
            for (int quarter = 0, i = lane_part; quarter < 4; ++quarter) {
                const int end = min(here, (quarter + 1) * quarter_parts);
#pragma unroll 4
                for (; i < end; i += kPassParts) {
                    if (kRowChunks >= kWarpSize || kWarpSize % kRowChunks == 0 || lane_part < kPassParts) {
#pragma unroll
                        for (int u = 0; u < kLaneChunks; ++u) {
                            if (kRowChunks > kWarpSize && u * kWarpSize + lane_id() >= kRowChunks) break;
                            cp_async_16(to + u * kWarpSize * kChunkBytes, from + u * kWarpSize * 4, kChunkBytes);
                        }
                    }
                    from += kPassParts * O_step;
                    to += kPassParts * kRowChunks * kChunkBytes;
                }
                cp_async_commit_group();
            }
            if (begin == 0) {  // while the first parts are under way
                top = warp_max(max_f32(LSE[0], LSE[1]));
#if ATTN_SINKS
                if (target < 0) top = max_f32(top, p.sinks[row.head]);
#endif
                const float shift = top == -infinity() ? 0.0f : top;
#pragma unroll
                for (int i = 0; i < kParts / kWarpSize; ++i) weights[i] = ex2_approx((LSE[i] - shift) * kLog2e);
                sum = warp_sum(weights[0] + weights[1]);
#if ATTN_SINKS
                if (target < 0) sum += ex2_approx((p.sinks[row.head] - shift) * kLog2e);
#endif
            }
            for (int quarter = 0, i = 0; quarter < 4; ++quarter) {
                wait_quarter(quarter);
                __syncwarp();  // every lane's copies are visible
                const int stop = min(here, (quarter + 1) * quarter_parts);
#pragma unroll 4
                for (; i < stop; ++i) {
                    const int part = begin + i;
                    const float factor = shfl_idx(part < kWarpSize ? weights[0] : weights[1], part % kWarpSize);
                    const float4_t *numbers = reinterpret_cast<const float4_t *>(room) + i * kRowChunks;
#pragma unroll
                    for (int u = 0; u < kLaneChunks; ++u) {
                        const int chunk = u * kWarpSize + lane_id();
                        if (kRowChunks % kWarpSize != 0 && chunk >= kRowChunks) break;
#pragma unroll
                        for (int c = 0; c < 4; ++c)
                            totals[u].v[c] = fma_rn(numbers[chunk].v[c], factor, totals[u].v[c]);
                    }
                }
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
                Out *O = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + query * p.o_row_stride +
                         row.head * p.o_head_stride + tile.v_part * kVDim + chunk * 4;
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
                p.LSE[element] = merged;
            }
        }
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
    while (arrive_last(p, word, count, flag)) {
        combine_parts<Out, kVDim, kVParts, kRows, kWarps, kRoomBytes>(p, sequence, tile, rooms + warp_id() * kRoomBytes,
                                                                      first, count, target);
        if (target < 0) return;
        // The further parts are next.
        word = tile.counts + ranges;
        first = p.num_splits;
        count = ranges;
        target = -1;
    }
}
