// The copies of one warp: tiles of kRows keys and their values, from global memory to the warp's own ring of stages.
//
// kRowLanes lanes stand side by side along a row and step through it; a lane keeps the same few rows of every tile, so that
// a row's address is worked out once and its chunks are fixed offsets from it. In pages, the page numbers of the tile that
// is copied next are fetched one tile ahead of their use.
#pragma once
#include "attention/sequence.cuh"
#include "attention/tile.cuh"
#include "ptx/lane.cuh"

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
template <class Kv, int kRows, int kHeadDim, int kVDim>
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
    static constexpr int kStageBytes = KTile::kBytes + VTile::kBytes;

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
    int pages[kLaneRows];  // of this lane's rows of the tile that is copied next
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

    // Looks up where the keys first_key ... lie; to be called once before each `copy` of them.
    __device__ __forceinline__ void find(int first_key) {
#if ATTN_PAGED
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            const int key = first_key + lane_row(i);
            // The block table says nothing about keys that are not in use.
            pages[i] = key < seqlen_k ? table[page_index(first_row + key)] : 0;
        }
#endif
    }

    // Starts copying the keys first_key ... into the stage at smem, K before V; keys past the end become zeros.
    __device__ __forceinline__ void copy(u32_t smem, int first_key) const {
        const int lane_chunk = lane_id() % kRowLanes;
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            const int key = first_key + lane_row(i);
            const bool inside = key < seqlen_k;
#if ATTN_PAGED
            const int row = first_row + key, slot = row - page_index(row) * page_size;
            const int page = clamped(pages[i], 0, num_pages - 1);
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
            cp_async_16(target, gmem + chunk * kChunk, inside ? kChunkBytes : 0);
#else
            copy_chunk(target, gmem + chunk * kChunk, inside);
#endif
        }
    }
};
