// Attention of few queries, sm_80 and later: the time is that of reading K and V once.
//
// A tile has 16 rows, the (query, head) pairs that share a K/V head (group_rows.cuh). A block works on one tile and one
// split of its keys; each of its warps takes key tiles of its own, with its own ring of copies in flight and its own online
// softmax, so the main loop has no barrier of the block. At the end the warps merge. Where the keys are split over blocks,
// each stores its part of O with its LSE, and the last to do so makes the whole (group_combine.cuh).
//
// Splits and warps divide a sequence's key tiles by its own length alone: with a fixed number of splits its bits do not
// depend on what else is in the batch.
//
// Macros from the plan: ATTN_HEAD_DIM, ATTN_V_DIM (of one part), ATTN_V_PARTS, ATTN_BLOCK_N, ATTN_WARPS, ATTN_STAGES,
// ATTN_BLOCKS_PER_SM, ATTN_ELEMENT (f16_t, bf16_t), ATTN_KV (ATTN_ELEMENT, e4m3_t, s8_t), ATTN_OUT, ATTN_SPLIT (1 where
// there is more than one), ATTN_DEPENDENT (1 where the launch may begin beside the one before it), and the features of
// features.py.
#include "attention/group_combine.cuh"
#include "attention/group_rows.cuh"
#include "attention/group_store.cuh"
#include "attention/key_ring.cuh"
#include "attention/products8.cuh"
#include "ptx/dependence.cuh"

using Element = ATTN_ELEMENT;
using Kv = ATTN_KV;
constexpr int kHeadDim = ATTN_HEAD_DIM;
constexpr int kVDim = ATTN_V_DIM;
constexpr int kVParts = ATTN_V_PARTS;
constexpr int kBlockM = 16;
constexpr int kBlockN = ATTN_BLOCK_N;
constexpr int kWarps = ATTN_WARPS;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kStages = ATTN_STAGES;
constexpr int kNTiles = kBlockN / 8;
constexpr int kDTiles = kVDim / 8;
constexpr bool kWide = sizeof(Kv) == 2;  // K and V need no widening
// Whether it takes more than the argument to say where a block's keys are.
constexpr bool kLengthsRead = ATTN_VARLEN_Q || ATTN_VARLEN_K || ATTN_SEQUSED_K || ATTN_LEFTPAD_K;
// Which blocks let the launch behind begin: those that have a multiprocessor for themselves and do not read long. Where several
// may share one, those of the next launch would go where others have ended first, and not be spread evenly; so they go where
// there are fewer than multiprocessors, which costs blocks that read long more than is gained (docs/design/decode.md).
constexpr bool kReleases = ATTN_DEPENDENT && ATTN_BLOCKS_PER_SM == 1;
constexpr int kReleasingTiles = (3 << 20) / (kBlockN * (kHeadDim + kVDim) * static_cast<int>(sizeof(Kv)));

template <int kBytes>
struct Storage {
    using Type = u8_t;
};
template <>
struct Storage<2> {
    using Type = u16_t;
};

#if ATTN_SPLIT
using Out = float;
#else
using Out = ATTN_OUT;
#endif

using QTile = Tile<kBlockM, kHeadDim>;
using Ring = KeyRing<Storage<sizeof(Kv)>::Type, kBlockN, kHeadDim, kVDim, kStages>;
constexpr int kRingBytes = Ring::kRingBytes;
constexpr int kShareBytes = WarpShare<kVDim>::kBytes;
constexpr int kWarpBytes = kRingBytes > kShareBytes ? kRingBytes : kShareBytes;  // the share takes the ring's place

// One key tile: S = Q K^T, the scores, O += P V.
template <bool kMasked>
__device__ __forceinline__ void attend(float (&O_acc)[1][kDTiles][4], OnlineSoftmax<1> &softmax, const GroupRows &rows,
                                       const QFragment<kHeadDim> &Q_smem, u32_t stage, int first_key,
                                       float exponent_scale) {
    const u32_t V_tile = stage + Ring::KTile::kBytes;
    float S_acc[1][kNTiles][4];
    if constexpr (kWide) {
        product_qk<Element, kHeadDim>(S_acc, Q_smem, KFragment<kHeadDim>(stage, 0));
    } else {
        product_qk8<Element, Kv, kHeadDim>(S_acc, Q_smem, ByteFragments<kHeadDim, QuadOrder::chunks_then_rows>(stage));
    }
    transform_scores(S_acc, rows, first_key);
    if constexpr (kMasked) mask_scores(S_acc, rows, first_key);
    float rescale[1][kRowsPerLane];
    softmax.step(S_acc, rescale, exponent_scale);
    rescale_output(O_acc, rescale);
    if constexpr (kWide) {
        product_pv<Element, kMasked>(O_acc, S_acc, VFragment<kVDim>(V_tile, 0), rows, first_key);
    } else {
        product_pv8<Element, Kv, kMasked>(O_acc, S_acc, ByteFragments<kVDim, QuadOrder::rows_then_chunks>(V_tile), rows,
                                          first_key);
    }
}

// The lowest digit of a number that is written with digits of several extents; the others remain. A block waits for a few
// of these divisions before it can ask for its first keys.
__device__ __forceinline__ int take_digit(u32_t &number, int extent) {
    if (extent == 1) return 0;
    const u32_t rest = number / static_cast<u32_t>(extent);
    const int digit = static_cast<int>(number - rest * extent);
    number = rest;
    return digit;
}

// floor(seen * split / num_splits), in 32 bits.
__device__ __forceinline__ int part_begin(int seen, int split, int num_splits) {
#if ATTN_SPLIT
    const u32_t parts = static_cast<u32_t>(num_splits);
    const u32_t share = static_cast<u32_t>(seen) / parts, rest = seen - share * parts;
    return static_cast<int>(share * split + rest * split / parts);
#else
    return split * seen;
#endif
}

extern "C" __global__ void __launch_bounds__(kThreads, ATTN_BLOCKS_PER_SM)
    attention_decode_split(const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(128) unsigned char smem[];
    unsigned char *const rings = smem + QTile::kBytes;
    // The launch before may be under way: nothing in global memory is touched before the wait, not even lengths.
    if constexpr (ATTN_DEPENDENT && kLengthsRead) griddepcontrol_wait();

    // Blocks that read the same keys are neighbours, then the K/V heads, whose rows are neighbours in memory.
    u32_t number = blockIdx.x;
    const int v_part = take_digit(number, kVParts);
#if ATTN_VARLEN_Q
    const int kv_head = take_digit(number, p.num_kv_heads);
    const int split = take_digit(number, p.num_splits), slot = static_cast<int>(number);
    const RowTile tile = find_row_tile<kBlockM>(p, slot, p.heads_per_kv_head);
    if (!tile.exists) return;
    const Sequence sequence = find_sequence(p, tile.batch);
    const int first_row = tile.number * kBlockM;
#else
    const int row_tiles = (p.rows_q * p.heads_per_kv_head + kBlockM - 1) / kBlockM;
    const int row_tile = take_digit(number, row_tiles), first_row = row_tile * kBlockM;
    const int kv_head = take_digit(number, p.num_kv_heads);
    const int split = take_digit(number, p.num_splits), batch = static_cast<int>(number);
    [[maybe_unused]] const int slot = batch * row_tiles + row_tile;
    const Sequence sequence = find_sequence(p, batch);
#endif

    // Key tiles that some row of the tile sees; those of this split; and those that every row sees whole.
    const Mask mask(p, sequence, kv_head * p.heads_per_kv_head);
    const int first_query = first_row / p.heads_per_kv_head;
    const int last_query = min((first_row + kBlockM - 1) / p.heads_per_kv_head, sequence.seqlen_q - 1);
    const int begin_seen = mask.first_key(first_query) / kBlockN;
    const int seen = max((mask.end_key(last_query) + kBlockN - 1) / kBlockN - begin_seen, 0);
    const int begin = begin_seen + part_begin(seen, split, p.num_splits);
    const int end = begin_seen + part_begin(seen, split + 1, p.num_splits);
    const int begin_whole = (mask.first_key(last_query) + kBlockN - 1) / kBlockN;
    const int end_whole = ATTN_MASK || ATTN_BIAS ? 0 : mask.end_key(first_query) / kBlockN;

    // This warp's tiles: begin + warp, begin + warp + kWarps, ...
    Ring ring(p, sequence, kv_head, v_part * kVDim);
    int next = begin + warp_id();                   // to be copied
    constexpr int kAhead = (kStages - 1) * kWarps;  // from the tile that is read to the one that is copied
    if constexpr (ATTN_DEPENDENT && !kLengthsRead) griddepcontrol_wait();

    copy_group_queries<kBlockM, kHeadDim, kThreads>(smem, p, sequence, kv_head, first_row);
    cp_async_commit_group();
#if ATTN_SPLIT
    const i64_t group = (static_cast<i64_t>(slot) * p.num_kv_heads + kv_head) * kVParts + v_part;
    const PartTile parts = {kv_head, first_row, v_part, p.arrivals + group * part_counts(p)};
    const FoundCounts found(p, parts, split);
#endif
    const GroupRows rows(p, sequence, query_head(p, kv_head, first_row + lane_id() / 4),
                         query_head(p, kv_head, first_row + lane_id() / 4 + 8));
    float descale = 1.0f;
#if ATTN_V_DESCALE
    descale = p.v_descale[sequence.batch * p.v_descale_batch_stride + kv_head * p.v_descale_head_stride];
#endif
    float O_acc[1][kDTiles][4];
#pragma unroll
    for (int d = 0; d < kDTiles; ++d) {
#pragma unroll
        for (int i = 0; i < 4; ++i) O_acc[0][d][i] = 0.0f;
    }
    OnlineSoftmax<1> softmax;

    unsigned char *const own = rings + warp_id() * kWarpBytes;
    const u32_t stages = smem_address(own);
    ring.find_first(stages, next, kWarps, end);
    const QFragment<kHeadDim> Q_smem(smem_address(smem), 0);
    // The first kStages - 1 steps only fill the ring.
    u32_t free = 0;  // stage of the tile that is copied; the next one is that of the tile that is read
    for (int block = begin + warp_id() - kAhead; block < end; block += kWarps) {
        const bool filling = block < begin;
        if (!filling) {
            cp_async_wait_group<kStages - 2>();
        }
        // Every lane's copies of this tile are visible, and every lane has read the last one: its stage is free.
        __syncwarp();
        if (next < end) {
            ring.copy(stages + free, next * kBlockN);
            const u32_t earlier = (free == 0 ? kRingBytes : free) - Ring::kStageBytes;
            if (next + kAhead < end) ring.find(stages + earlier, (next + kAhead) * kBlockN);
            next += kWarps;
        }
        cp_async_commit_group();
        free = free + Ring::kStageBytes == kRingBytes ? 0 : free + Ring::kStageBytes;
        if (filling) {
            // Behind all keys that are asked for before, Q would come late, and every warp waits for it.
            if (block == begin + warp_id() - kAhead) {
                cp_async_wait_group<1>();
                if constexpr (!kWide) order_group_queries<kBlockM, kHeadDim, kThreads>(smem);
                __syncthreads();  // Q is there
            }
            continue;
        }
        const int first_key = block * kBlockN + lane_id() % 4 * 2;
        if (block >= begin_whole && block < end_whole) {
            attend<false>(O_acc, softmax, rows, Q_smem, stages + free, first_key, p.exponent_scale);
        } else {
            attend<true>(O_acc, softmax, rows, Q_smem, stages + free, first_key, p.exponent_scale);
        }
    }

#if ATTN_SPLIT
    if (threadIdx.x == 0) found.open(p, parts, split);
#endif
    if constexpr (kReleases) {
        if (end - begin <= kReleasingTiles) griddepcontrol_launch_dependents();
    }
    __syncwarp();  // every lane has read the ring's last tile
    write_share(WarpShare<kVDim>{own}, O_acc, softmax, rows, sequence.seqlen_q);
    __syncthreads();
    merge_and_store<Out, kVDim, kVParts, kWarps, kWarpBytes, kWide>(p, sequence, rows, rings, descale, v_part, split);
#if ATTN_SPLIT
    // Nobody reads Q any more: the flag takes its place.
    combine_if_last<ATTN_OUT, kVDim, kVParts, kBlockM, kWarps, kWarpBytes>(p, sequence, parts, rings, split,
                                                                           reinterpret_cast<u32_t *>(smem));
#endif
}
