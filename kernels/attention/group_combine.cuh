// O and LSE from the parts of a decode tile that its blocks have left, by the last of them (arrivals.cuh).
//
//   LSE = ln sum_s exp(LSE_s)    O = sum_s exp(LSE_s - LSE) O_s
//
// Up to 32 parts are combined at once, a lane for each LSE. Where there are more, the last block of each 32 combines
// those into one further part, and the last of these blocks combines the further parts. Parts are taken in their order, so
// the bits do not depend on who is last.
//
// A part in which a row saw no key has LSE -inf and O 0. A sink joins the sum at the end, once.
#pragma once
#include "attention/arrivals.cuh"
#include "attention/group_store.cuh"

constexpr int kParts = kWarpSize;  // combined at once
constexpr int kHalf = kParts / 2;

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
    u64_t *counts;  // of the first 32 parts, of the next, ...; of the further parts
};

// Counts of one tile's parts, those of further parts included. Where there are no more than 32, there is one.
__device__ __forceinline__ int part_ranges(const AttentionParams &p) { return (p.num_splits + kParts - 1) / kParts; }
__device__ __forceinline__ int part_counts(const AttentionParams &p) {
    const int ranges = part_ranges(p);
    return ranges > 1 ? ranges + 1 : 1;
}

// By one thread of a block, before it computes.
__device__ __forceinline__ void open_counts(const AttentionParams &p, const PartTile &tile, int split) {
    open_count(p, tile.counts + split / kParts);
    if (p.num_splits > kParts) open_count(p, tile.counts + part_ranges(p));
}

// This lane's four columns of the parts kBegin ... kBegin + kHalf - 1, zeros where there is none.
template <int kBegin>
__device__ __forceinline__ void read_parts(float4_t (&parts)[kParts], const float *O_parts, i64_t step, bool inside,
                                           int count) {
#pragma unroll
    for (int i = kBegin; i < kBegin + kHalf; ++i) {
        parts[i] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (inside && i < count) parts[i] = *reinterpret_cast<const float4_t *>(O_parts + i * step);
    }
}

// weight: of part i in lane i.
template <int kBegin>
__device__ __forceinline__ void add_parts(float4_t &total, const float4_t (&parts)[kParts], float weight) {
#pragma unroll
    for (int i = kBegin; i < kBegin + kHalf; ++i) {
        const float factor = shfl_idx(weight, i);
#pragma unroll
        for (int c = 0; c < 4; ++c) total.v[c] = fma_rn(parts[i].v[c], factor, total.v[c]);
    }
}

// Combines `count` parts from `first` on, at most kParts, of all rows of a tile: 128 columns of a row at a time, a unit a
// warp. target: the further part that they become, or -1: O and LSE themselves.
template <class Out, int kVDim, int kVParts, int kRows, int kWarps>
__device__ __forceinline__ void combine_parts(const AttentionParams &p, const Sequence &sequence, const PartTile &tile,
                                              int first, int count, int target) {
    constexpr float kLog2e = 1.4426950408889634f;
    constexpr int kWidth = kVDim * kVParts, kLaneColumns = 4, kUnitColumns = kWarpSize * kLaneColumns;
    constexpr int kUnits = (kVDim + kUnitColumns - 1) / kUnitColumns;  // of a row
    const i64_t O_step = p.split_stride * kWidth, LSE_step = p.split_stride * kVParts;
    const bool whole = target < 0;
    for (int number = warp_id(); number < kRows * kUnits; number += kWarps) {
        const QueryHead row = query_head(p, tile.kv_head, tile.first_row + number / kUnits);
        if (row.query >= sequence.seqlen_q) break;
        const i64_t query = sequence.q_row + row.query;
        const i64_t element = sequence.batch * p.lse_batch_stride + row.head * p.lse_head_stride + query;
        const int unit_column = number % kUnits * kUnitColumns + lane_id() * kLaneColumns;
        const int column = tile.v_part * kVDim + unit_column;
        const bool inside = unit_column < kVDim;
        float *LSE_parts = p.LSE_split + tile.v_part * p.split_stride + element;
        float *O_parts = p.O_split + element * kWidth + column;
        const float LSE = lane_id() < count ? LSE_parts[(first + lane_id()) * LSE_step] : -infinity();
        // All parts are under way at once; the second half of the loads is only there for more than kHalf.
        float4_t parts[kParts];
        read_parts<0>(parts, O_parts + first * O_step, O_step, inside, count);
        if (count > kHalf) read_parts<kHalf>(parts, O_parts + first * O_step, O_step, inside, count);
        float top = warp_max(LSE);
#if ATTN_SINKS
        if (whole) top = max_f32(top, p.sinks[row.head]);
#endif
        const float shift = top == -infinity() ? 0.0f : top;
        const float weight = ex2_approx((LSE - shift) * kLog2e);
        float sum = warp_sum(weight);
#if ATTN_SINKS
        if (whole) sum += ex2_approx((p.sinks[row.head] - shift) * kLog2e);
#endif
        float4_t total = {0.0f, 0.0f, 0.0f, 0.0f};
        add_parts<0>(total, parts, weight);
        if (count > kHalf) add_parts<kHalf>(total, parts, weight);
        const float factor = sum == 0.0f ? 0.0f : __frcp_rn(sum);
#pragma unroll
        for (int c = 0; c < kLaneColumns; ++c) total.v[c] *= factor;
        const float merged = sum == 0.0f ? -infinity() : top + logf(sum);
        const bool stores_lse = number % kUnits == 0 && lane_id() == 0;
        if (whole) {
            Out *O = static_cast<Out *>(p.O) + sequence.batch * p.o_batch_stride + query * p.o_row_stride +
                     row.head * p.o_head_stride + column;
            if (inside) {
                store_pair(O, total.v[0], total.v[1]);
                store_pair(O + 2, total.v[2], total.v[3]);
            }
            if (stores_lse && tile.v_part == 0 && p.LSE != nullptr) p.LSE[element] = merged;
        } else {
            if (inside) *reinterpret_cast<float4_t *>(O_parts + target * O_step) = total;
            if (stores_lse) LSE_parts[target * LSE_step] = merged;
        }
    }
}

// By all threads of a block that has left part `split`: where it is the last, it combines.
template <class Out, int kVDim, int kVParts, int kRows, int kWarps>
__device__ __forceinline__ void combine_if_last(const AttentionParams &p, const Sequence &sequence,
                                                const PartTile &tile, int split, u32_t *flag) {
    const int range = split / kParts, first = range * kParts, count = min(kParts, p.num_splits - first);
    if (!arrive_last(p, tile.counts + range, count, flag)) return;
    if (p.num_splits <= kParts) {
        combine_parts<Out, kVDim, kVParts, kRows, kWarps>(p, sequence, tile, 0, count, -1);
        return;
    }
    combine_parts<Out, kVDim, kVParts, kRows, kWarps>(p, sequence, tile, first, count, p.num_splits + range);
    const int ranges = part_ranges(p);
    if (!arrive_last(p, tile.counts + ranges, ranges, flag)) return;
    combine_parts<Out, kVDim, kVParts, kRows, kWarps>(p, sequence, tile, p.num_splits, ranges, -1);
}
