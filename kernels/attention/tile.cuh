// A tile of Q, K or V in shared memory: kRows x kDim 16-bit elements, swizzled. A row takes whole panels of 64 elements (128
// bytes, all banks once), whatever kDim is; what lies past kDim is not read. Its panels stand side by side, or each panel of
// all rows by itself, as bulk copies write them.
//
// A row is cut into chunks of 16 bytes, the unit of cp.async and of one ldmatrix row. Chunk c of row r stands at
// position c ^ (r % 8): the eight rows that one 8x8 matrix reads lie in eight different groups of four banks.
#pragma once
#include "ptx/cp_async.cuh"
#include "ptx/lane.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/types.cuh"

constexpr int kChunkBytes = 16;
constexpr int kChunkElements = 8;
constexpr int kPanelBytes = 128;
constexpr int kPanelElements = 64;

// Global rows of one (batch, head): element (row, d) is at base[row * row_stride + d].
struct GmemRows {
    static constexpr bool kPaged = false;
    const u16_t *base;
    i64_t row_stride;

    __device__ __forceinline__ const u16_t *row(int number) const { return base + number * row_stride; }
};

__device__ __forceinline__ u32_t swizzled_chunk(int row, int chunk) { return (chunk ^ (row % 8)) * kChunkBytes; }

// kPanelsApart: each panel of all rows by itself.
template <int kTileRows, int kDim, bool kPanelsApart = false>
struct Tile {
    static constexpr int kRows = kTileRows;
    static constexpr int kPanels = (kDim + kPanelElements - 1) / kPanelElements;
    static constexpr int kRowBytes = (kPanelsApart ? 1 : kPanels) * kPanelBytes;         // from a row to the next
    static constexpr int kPanelStep = kPanelsApart ? kRows * kPanelBytes : kPanelBytes;  // from a panel to the next
    static constexpr int kBytes = kRows * kPanels * kPanelBytes;
    static constexpr int kRowChunks = kDim / kChunkElements;
    // Where a row is whole panels, eight lanes copy it, a chunk of each panel each: what lies between a lane's chunks is
    // known when the kernel is compiled, and each row costs one address.
    static constexpr int kRowLanes = kRowChunks % 8 == 0 ? 8 : kRowChunks;
    static constexpr int kLaneChunks = kRowChunks / kRowLanes;

    // Whether kThreads threads copy whole rows at a time, and all of them every time.
    template <int kThreads>
    __device__ __forceinline__ static constexpr bool covered_by() {
        return kThreads % kRowLanes == 0 && kRows * kRowLanes % kThreads == 0;
    }

    // Where a chunk stands, bytes.
    __device__ __forceinline__ static u32_t place(int row, int chunk) {
        return row * kRowBytes + chunk / 8 * kPanelStep + swizzled_chunk(row, chunk % 8);
    }
};

#if !ATTN_ALIGNED
// For arrays whose rows do not start at multiples of 16 bytes: eight 2-byte loads and one 16-byte store.
__device__ __forceinline__ void copy_chunk(u32_t smem, const u16_t *gmem, bool inside) {
    u32_t pairs[4] = {0, 0, 0, 0};
    if (inside) {
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[i] = gmem[2 * i] | static_cast<u32_t>(gmem[2 * i + 1]) << 16;
    }
    st_shared_v4(smem, pairs);
}
#endif

// Starts copying one chunk, or zeros where it lies outside: then nothing is read. The caller commits.
__device__ __forceinline__ void load_chunk(u32_t smem, const u16_t *gmem, const u16_t *anywhere, bool inside) {
#if ATTN_ALIGNED
    cp_async_16(smem, inside ? gmem : anywhere, inside ? kChunkBytes : 0);
#else
    copy_chunk(smem, gmem, inside);
#endif
}

// Starts copying rows first_row ... first_row + kRows - 1 into the tile at smem; rows outside [0, row_count) become
// zeros, so that memory past the end is never read. The caller commits.
template <class T, int kThreads, class Rows>
__device__ __forceinline__ void load_tile(u32_t smem, const Rows &rows, int first_row, int row_count) {
    constexpr int kRows = T::kRows;
    if constexpr (T::template covered_by<kThreads>()) {
        // The threads cover whole rows: each keeps its chunks and steps down.
        constexpr int kRowsPerPass = kThreads / T::kRowLanes;
        const int chunk = threadIdx.x % T::kRowLanes;
        const int thread_row = threadIdx.x / T::kRowLanes;
        const u16_t *gmem = rows.base;
        if constexpr (!Rows::kPaged) {
            gmem = rows.base + (first_row + thread_row) * rows.row_stride + chunk * kChunkElements;
        }
#pragma unroll
        for (int pass = 0; pass < kRows / kRowsPerPass; ++pass) {
            const int row = thread_row + pass * kRowsPerPass;
            const bool inside = first_row + row < row_count;
            // Where a row lies is asked for those that exist only: a block table says nothing about others.
            if constexpr (Rows::kPaged) {
                gmem = inside ? rows.row(first_row + row) + chunk * kChunkElements : rows.base;
            }
#pragma unroll
            for (int i = 0; i < T::kLaneChunks; ++i) {
                load_chunk(smem + T::place(row, chunk) + i * T::kPanelStep, gmem + i * kPanelElements, rows.base,
                           inside);
            }
            if constexpr (!Rows::kPaged) {
                gmem += kRowsPerPass * rows.row_stride;
            }
        }
    } else {
        constexpr int kChunks = kRows * T::kRowChunks;
        // Unrolled, addresses of all passes are kept from block to block, and bias and mask need the registers.
        constexpr int kUnrolled = ATTN_BIAS || ATTN_MASK ? 1 : kChunks / kThreads + 1;
#pragma unroll kUnrolled
        for (int start = 0; start < kChunks; start += kThreads) {
            const int number = start + threadIdx.x;
            if (kChunks % kThreads != 0 && number >= kChunks) break;
            const int row = number / T::kRowChunks, chunk = number % T::kRowChunks;
            const bool inside = first_row + row < row_count;
            const u16_t *gmem = inside ? rows.row(first_row + row) + chunk * kChunkElements : rows.base;
            load_chunk(smem + T::place(row, chunk), gmem, rows.base, inside);
        }
    }
}

// The same for a tile of which every row exists. Where the threads cover whole rows, each steps through memory without a
// test.
template <class T, int kThreads, class Rows>
__device__ __forceinline__ void load_whole_tile(u32_t smem, const Rows &rows, int first_row) {
    constexpr int kRowsPerPass = kThreads / T::kRowLanes;
    if constexpr (ATTN_ALIGNED && !Rows::kPaged && T::template covered_by<kThreads>() && kRowsPerPass % 8 == 0) {
        const int thread_row = threadIdx.x / T::kRowLanes, chunk = threadIdx.x % T::kRowLanes;
        const u16_t *gmem = rows.row(first_row + thread_row) + chunk * kChunkElements;
        smem += T::place(thread_row, chunk);  // whose swizzle a pass of 8 rows does not change
#pragma unroll
        for (int row = 0; row < T::kRows; row += kRowsPerPass) {
#pragma unroll
            for (int i = 0; i < T::kLaneChunks; ++i) {
                cp_async_16(smem + row * T::kRowBytes + i * T::kPanelStep, gmem + i * kPanelElements, kChunkBytes);
            }
            gmem += kRowsPerPass * rows.row_stride;
        }
    } else {
        load_tile<T, kThreads>(smem, rows, first_row, first_row + T::kRows);
    }
}

// Calls f with the address of each chunk of the tile at smem that this thread copied by load_tile.
template <class T, int kThreads, class F>
__device__ __forceinline__ void for_own_chunks(u32_t smem, F f) {
    constexpr int kRows = T::kRows;
    constexpr int kChunks = kRows * T::kRowChunks;
    if constexpr (T::template covered_by<kThreads>()) {
        constexpr int kRowsPerPass = kThreads / T::kRowLanes;
        const int thread_row = threadIdx.x / T::kRowLanes, chunk = threadIdx.x % T::kRowLanes;
#pragma unroll
        for (int pass = 0; pass < kRows / kRowsPerPass; ++pass) {
            const int row = thread_row + pass * kRowsPerPass;
#pragma unroll
            for (int i = 0; i < T::kLaneChunks; ++i) {
                f(smem + T::place(row, chunk) + i * T::kPanelStep);
            }
        }
    } else {
#pragma unroll 1
        for (int number = threadIdx.x; number < kChunks; number += kThreads) {
            f(smem + T::place(number / T::kRowChunks, number % T::kRowChunks));
        }
    }
}

// What each lane passes to ldmatrix.x4, and how the address moves through the tile.
//
// kQuadOrder says which lane supplies which of the four 8x8 matrices, so that result r[i] is the register that the
// mma wants at i:
//   rows_then_chunks  matrices (rows 0-7, chunk 0), (rows 8-15, chunk 0), (rows 0-7, chunk 1), (rows 8-15, chunk 1):
//                     A of m16n8k16 from a row-major tile; with .trans, B of two n8 blocks from rows of k
//   chunks_then_rows  matrices (rows 0-7, chunk 0), (rows 0-7, chunk 1), (rows 8-15, chunk 0), (rows 8-15, chunk 1):
//                     B of two n8 blocks from rows of n
enum class QuadOrder { rows_then_chunks, chunks_then_rows };

template <class T, QuadOrder kOrder, bool kByXor = false>
struct FragmentAddress {
    static constexpr int kRowBytes = T::kRowBytes, kPanelStep = T::kPanelStep;
    u32_t row_start;   // address of this lane's row
    u32_t swizzle;     // this lane's chunk 0 or 1, swizzled
    u32_t offset = 0;  // of rows that are known to the compiler

    // smem: a multiple of 128, so that a chunk's place among eight is bits 4 to 6 of its address.
    // one_chunk: chunk 0 stands in for chunk 1 too, where the tile has no further one.
    __device__ __forceinline__ FragmentAddress(u32_t smem, int first_row, bool one_chunk = false) {
        const int lane = lane_id();
        const int row = kOrder == QuadOrder::rows_then_chunks ? lane % 16 : lane % 8 + lane / 16 * 8;
        const int chunk = one_chunk ? 0 : kOrder == QuadOrder::rows_then_chunks ? lane / 16 : lane / 8 % 2;
        row_start = smem + (first_row + row) * kRowBytes;
        swizzle = swizzled_chunk(row, chunk);
    }

    // The same so many bytes further, in another tile.
    __device__ __forceinline__ FragmentAddress moved(u32_t bytes) const {
        FragmentAddress result = *this;
        result.row_start += bytes;
        return result;
    }

    // The same so many pairs of chunks further, within the first panel.
    __device__ __forceinline__ FragmentAddress beside(int chunk_pairs) const {
        FragmentAddress result = *this;
        result.swizzle ^= chunk_pairs * 2 * kChunkBytes;
        return result;
    }

    // The same so many rows further.
    __device__ __forceinline__ FragmentAddress below(int rows) const {
        FragmentAddress result = *this;
        result.offset += rows * kRowBytes;
        return result;
    }

    // The same in one register that is there all the time: the compiler would rather work it out anew for each block.
    __device__ __forceinline__ FragmentAddress kept() const {
        static_assert(kByXor, "else there are two");
        FragmentAddress result = *this;
        result.row_start = shfl_idx(static_cast<int>(row_start + swizzle), lane_id());
        result.swizzle = 0;
        return result;
    }

    // Address for the 16x16 block that starts `rows` rows (a multiple of 16) and `chunk_pair` pairs of chunks further:
    // the pair number enters the swizzle by XOR, since the lane's own chunk is bit 0 of the chunk number. kByXor: so that
    // a tile has four addresses, for the four pairs of a panel, and what is added to them is known to the compiler.
    __device__ __forceinline__ u32_t at(int rows, int chunk_pair) const {
#if ATTN_BIAS || ATTN_MASK
        return row_start + (swizzle ^ chunk_pair % 4 * 2 * kChunkBytes) +
               (offset + rows * kRowBytes + chunk_pair / 4 * kPanelStep);
#else
        const int panel = chunk_pair / 4 * kPanelStep, bytes = chunk_pair % 4 * 2 * kChunkBytes;
        if constexpr (kByXor) return ((row_start + swizzle) ^ bytes) + (offset + rows * kRowBytes + panel);
        return row_start + offset + rows * kRowBytes + panel + (swizzle ^ bytes);
#endif
    }
};

// An address as it is, or in a register of its own.
template <bool kKept, class Address>
__device__ __forceinline__ Address kept(const Address &address) {
    if constexpr (kKept) {
        return address.kept();
    } else {
        return address;
    }
}
