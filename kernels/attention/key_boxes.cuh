// Copies of K and V blocks by TMA: in one piece one box a panel, in pages a box for each page that a block has keys in.
#pragma once
#include "attention/params.cuh"
#include "attention/sequence.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/lane.cuh"
#include "ptx/tma.cuh"

// Copies kRows rows from (row, head, batch) of a tensor into a tile; its bytes count on `barrier`.
template <int kRows, int kPanels>
__device__ __forceinline__ void load_panels(u32_t tile, const TensorMap &map, u32_t barrier, int row, int head,
                                            int batch, u64_t policy) {
    mbarrier_arrive_expect_tx(barrier, kRows * kPanels * kPanelRowBytes);
#pragma unroll
    for (int i = 0; i < kPanels; ++i) {
        cp_async_bulk_tensor_4d(tile + i * kRows * kPanelRowBytes, map, barrier, i * kPanel, row, head, batch, policy);
    }
}

#if ATTN_PAGED
// Lane i of a warp knows where box i of the next block lies. A page number is read long before it is needed: only `load`
// waits for it.
struct KeyBoxes {
    static constexpr int kBoxes = kBlockN / kBoxRows;
    const AttentionParams &p;
    int batch;
    int kv_head;
    int first;  // row of key 0, counted through the pages
    int end;    // rows that have a page, at least
    int page;
    int row;  // within the page; -1: the box has no key

    __device__ __forceinline__ KeyBoxes(const AttentionParams &p, const Sequence &sequence, int kv_head)
        : p(p),
          batch(sequence.batch),
          kv_head(kv_head),
          first(static_cast<int>(sequence.k_row)),
          end(first + sequence.seqlen_k) {}

    // The next block will be `block`.
    __device__ __forceinline__ void find(int block) {
        const int number = first + block * kBlockN + lane_id() * kBoxRows;
        page = 0;
        row = -1;
        if (lane_id() < kBoxes && number < end) {  // of pages without keys the table says nothing
            const int index = static_cast<int>(static_cast<u64_t>(number) * p.page_magic >> p.page_shift);
            page = p.block_table[batch * p.block_table_batch_stride + index];
            row = number - index * p.page_size;
        }
    }

    // Copies the block that was found into a tile; its bytes count on `barrier`. A box past the end is behind the last page
    // for the copy, which makes it zeros.
    template <int kPanels>
    __device__ __forceinline__ void load(u32_t tile, const TensorMap &map, u32_t barrier, int, bool issues) const {
        if (issues) mbarrier_arrive_expect_tx(barrier, kBlockN * kPanels * kPanelRowBytes);
        const int number = row < 0 ? p.num_pages : clamped(page, 0, p.num_pages - 1);
#pragma unroll 1
        for (int box = 0; box < kBoxes; ++box) {
            const int box_page = shfl_idx(number, box), box_row = shfl_idx(row, box);
            if (!issues) continue;
#pragma unroll
            for (int i = 0; i < kPanels; ++i) {
                cp_async_bulk_tensor_4d(tile + (i * kBlockN + box * kBoxRows) * kPanelRowBytes, map, barrier,
                                        i * kPanel, box_row, kv_head, box_page, kEvictLast);
            }
        }
    }
};
#else
struct KeyBoxes {
    int first;  // row of key 0
    int kv_head;
    int batch;

    __device__ __forceinline__ KeyBoxes(const AttentionParams &, const Sequence &sequence, int kv_head)
        : first(static_cast<int>(sequence.k_row)), kv_head(kv_head), batch(ATTN_VARLEN_K ? 0 : sequence.batch) {}

    __device__ __forceinline__ void find(int) {}

    template <int kPanels>
    __device__ __forceinline__ void load(u32_t tile, const TensorMap &map, u32_t barrier, int block,
                                         bool issues) const {
        if (!issues) return;
        load_panels<kBlockN, kPanels>(tile, map, barrier, first + block * kBlockN, kv_head, batch, kEvictLast);
    }
};
#endif
