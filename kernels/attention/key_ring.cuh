// The copies of one warp: tiles of kRows keys and their values, from global memory to the warp's own ring of stages.
//
// kRowLanes lanes stand side by side along a row and step through it; a lane keeps the same few rows of every tile, so that
// a row's address is worked out once and its chunks are fixed offsets from it. In pages, a stage has the page numbers of its
// rows, too. They are copied as keys are, kStages - 1 tiles ahead of those: where memory is busy, a number that is asked for
// one tile ahead comes too late (docs/design/decode.md).
#pragma once
#include "attention/sequence.cuh"
#include "attention/tile.cuh"
#include "ptx/lane.cuh"
#include "ptx/shared.cuh"

#if !ATTN_ALIGNED
// For arrays whose rows do not start at multiples of 16 bytes.
__device__ __forceinline__ void copy_chunk(u32_t smem, const u8_t *gmem, bool inside) {
    u32_t words[4] = {0, 0, 0, 0};
    if (inside) {
#pragma unroll
        for (int i = 0; i < kChunkBytes; ++i) words[i / 4] |= static_cast<u32_t>(gmem[i]) << i % 4 * 8;
    }
    st_shared_v4(smem, words);
}
#endif

// Kv: what K and V are stored in, u16_t or u8_t.
template <class Kv, int kRows, int kHeadDim, int kVDim, int kStages>
struct KeyRing {
    static constexpr int kChunk = kChunkBytes / static_cast<int>(sizeof(Kv));  // elements
    static constexpr int kKChunks = kHeadDim / kChunk, kVChunks = kVDim / kChunk;
    static constexpr int kBothChunks = kKChunks | kVChunks;  // what divides it, a power of two, divides both
    static constexpr int kRowLanes = kBothChunks % 8 == 0 ? 8 : kBothChunks % 4 == 0 ? 4 : 2;
    static constexpr int kPassRows = kWarpSize / kRowLanes;
    static constexpr int kLaneRows = kRows / kPassRows;
    static_assert(kRows % kPassRows == 0, "a lane has whole rows");
    // Tiles count 16-bit elements.
    using KTile = Tile<kRows, kHeadDim *static_cast<int>(sizeof(Kv)) / 2>;
    using VTile = Tile<kRows, kVDim *static_cast<int>(sizeof(Kv)) / 2>;
    static constexpr int kPagesOffset = KTile::kBytes + VTile::kBytes;
    static constexpr int kStageBytes = kPagesOffset + (ATTN_PAGED ? 128 : 0);
    static_assert(kRows * sizeof(int) <= 128, "the page numbers of a tile");
    static constexpr int kRingBytes = kStages * kStageBytes;

    const Kv *K;  // key 0 of the sequence, or of page 0
    const Kv *V;
    i64_t k_stride;  // of a key
    i64_t v_stride;
    int seqlen_k;
#if ATTN_PAGED
    const int *table;
    int first_row;  // of key 0, counted through the pages
    i64_t k_page_stride;
    i64_t v_page_stride;
    int page_size;
    int num_pages;
    u32_t magic;
    int shift;
#endif

    __device__ __forceinline__ KeyRing(const AttentionParams &p, const Sequence &sequence, int kv_head, int v_column)
        : K(static_cast<const Kv *>(p.K) + kv_head * p.k_head_stride),
          V(static_cast<const Kv *>(p.V) + kv_head * p.v_head_stride + v_column),
          k_stride(p.k_row_stride),
          v_stride(p.v_row_stride),
          seqlen_k(sequence.seqlen_k) {
#if ATTN_PAGED
        table = p.block_table + sequence.batch * p.block_table_batch_stride;
        first_row = static_cast<int>(sequence.k_row);
        k_page_stride = p.k_batch_stride;
        v_page_stride = p.v_batch_stride;
        page_size = p.page_size;
        num_pages = p.num_pages;
        magic = p.page_magic;
        shift = p.page_shift;
#else
        K += sequence.batch * p.k_batch_stride + sequence.k_row * p.k_row_stride;
        V += sequence.batch * p.v_batch_stride + sequence.k_row * p.v_row_stride;
#endif
    }

    // This lane's row i of a tile.
    static __device__ __forceinline__ int lane_row(int i) { return lane_id() / kRowLanes + i * kPassRows; }

#if ATTN_PAGED
    __device__ __forceinline__ int page_index(int row) const {
        return static_cast<int>(static_cast<u64_t>(row) * magic >> shift);
    }
#endif

    // Starts copying the page numbers of the keys first_key ... into the stage at smem. The block table says nothing about
    // keys that are not in use.
    __device__ __forceinline__ void find(u32_t smem, int first_key) const {
#if ATTN_PAGED
        const int key = first_key + lane_id();
        const bool inside = key < seqlen_k;
        __syncwarp();  // every lane has read the numbers that stood there
        if (lane_id() < kRows) {
            const u32_t target = smem + kPagesOffset + lane_id() * static_cast<u32_t>(sizeof(int));
            cp_async_4(target, inside ? table + page_index(first_row + key) : table, inside ? sizeof(int) : 0);
        }
#endif
    }

    // The page numbers of the tiles that are copied before the loop: tile, tile + step, ..., as far as they lie before end.
    // Later ones have landed when a wait has left kStages - 2 groups in flight.
    __device__ __forceinline__ void find_first(u32_t stages, int tile, int step, int end) const {
#if ATTN_PAGED
#pragma unroll
        for (int s = 0; s < kStages - 1; ++s) {
            if (tile + s * step < end) find(stages + s * kStageBytes, (tile + s * step) * kRows);
        }
        cp_async_commit_group();
        cp_async_wait_group<0>();
        __syncwarp();
#endif
    }

    // Starts copying the keys first_key ... into the stage at smem, K before V; keys past the end become zeros. In pages,
    // their numbers are there.
    __device__ __forceinline__ void copy(u32_t smem, int first_key) const {
        const int lane_chunk = lane_id() % kRowLanes;
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            const int key = first_key + lane_row(i);
            const bool inside = key < seqlen_k;
#if ATTN_PAGED
            const int row = first_row + key, slot = row - page_index(row) * page_size;
            const u32_t number = smem + kPagesOffset + lane_row(i) * static_cast<u32_t>(sizeof(int));
            const int page = clamped(static_cast<int>(ld_shared(number)), 0, num_pages - 1);
            const Kv *K_row = inside ? K + page * k_page_stride + slot * k_stride : K;
            const Kv *V_row = inside ? V + page * v_page_stride + slot * v_stride : V;
#else
            const Kv *K_row = inside ? K + key * k_stride : K;
            const Kv *V_row = inside ? V + key * v_stride : V;
#endif
            copy_row<KTile, kKChunks>(smem, K_row, lane_row(i), lane_chunk, inside);
            copy_row<VTile, kVChunks>(smem + KTile::kBytes, V_row, lane_row(i), lane_chunk, inside);
        }
    }

    template <class T, int kChunks>
    static __device__ __forceinline__ void copy_row(u32_t smem, const Kv *gmem, int row, int lane_chunk, bool inside) {
#pragma unroll
        for (int first = 0; first < kChunks; first += kRowLanes) {
            const int chunk = first + lane_chunk;
            if (kChunks % kRowLanes != 0 && chunk >= kChunks) break;
            const u32_t target = smem + row * T::kRowBytes + swizzled_chunk(row, chunk);
#if ATTN_ALIGNED
            // The parts of O that blocks leave, and Q, stay in L2; keys are read once.
            cp_async_16(target, gmem + chunk * kChunk, inside ? kChunkBytes : 0, evict_first_policy());
#else
            copy_chunk(target, gmem + chunk * kChunk, inside);
#endif
        }
    }
};
