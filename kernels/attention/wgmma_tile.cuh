// Sizes of the Hopper kernel's tiles, and where they stand in shared memory. Macros from the plan: see fwd_wgmma.cu.
#pragma once
#include "attention/mask_blocks.cuh"
#include "attention/packed_schedule.cuh"
#include "attention/planes.cuh"
#include "attention/ring.cuh"
#include "attention/schedule.cuh"
#include "attention/shrinking_schedule.cuh"
#include "ptx/lane.cuh"
#include "ptx/types.cuh"
#include "ptx/warpgroup.cuh"

using Element = ATTN_ELEMENT;
using Out = ATTN_OUT;
constexpr int kHeadDim = ATTN_HEAD_DIM;
constexpr int kVDim = ATTN_V_DIM;
constexpr int kConsumers = ATTN_CONSUMERS;
constexpr int kBlockM = kConsumers * 64;
constexpr int kBlockN = ATTN_BLOCK_N;
constexpr int kStages = ATTN_STAGES;
constexpr int kQStages = ATTN_Q_STAGES;
constexpr int kThreads = (kConsumers + 1) * kWarpgroupSize;

// 8-bit V is transposed on its way to the tensor core (transpose_values.cuh).
constexpr bool kTransposesV = sizeof(Element) == 1;

// Keys past the end are zeros in shared memory where the array ends with them. Where only the device knows the lengths,
// rows that are no keys may be copied with them; only these, a window, a bias and a mask make P 0 beside V that is not. Where V is
// transposed, that is where it is looked at.
constexpr bool kForeignRows = ATTN_VARLEN_K || ATTN_SEQUSED_K || ATTN_PAGED;
constexpr bool kLookForNonfinite = (ATTN_WINDOW || kForeignRows || kPlanes) && !kTransposesV;
constexpr int kLookers = 2 * kWarpSize;

// Whether a warpgroup lets blocks of its tile pass that its own queries do not see: they see fewer under a window.
constexpr bool kPassesBlocks = ATTN_PASSES;

// The key blocks of a tile, but for those that a mask hides whole, from the last to the first.
template <bool kByWarp>
struct TileBlocks : KeyBlocks<kBlockN> {
    MaskBlocks<kBlockM, kBlockN, kByWarp> left;

    __device__ __forceinline__ TileBlocks(const AttentionParams &p, const Mask &mask, const QueryTile &tile)
        : KeyBlocks(mask, tile.first_query, kBlockM) {
        left.cut(p, tile, begin, end);
    }

    // The block after `block`, in their order; less than begin after the last.
    __device__ __forceinline__ int after(const AttentionParams &p, const QueryTile &tile, int block) {
        return left.before(p, tile, begin, block);
    }
};
static_assert(!(ATTN_MASK_BLOCKS && kPassesBlocks), "a warpgroup counts all blocks that pass it by");

// Keys of one copy: as many as a page holds of a block.
constexpr int kBoxRows = ATTN_PAGED ? ATTN_PAGE_ROWS : kBlockN;
static_assert(kBlockN % kBoxRows == 0 && kBlockN / kBoxRows <= kWarpSize, "a lane for each box of a block");

// Finding tiles and pages takes a warp; else one thread of it loads, alone.
constexpr bool kWarpsLoad = ATTN_VARLEN_Q || ATTN_PAGED;

// Registers of a thread after setmaxnreg, in steps of 8: what a launch gives to all threads alike, dealt out anew. A
// warpgroup that asked for more than the others have given back would wait for ever.
constexpr int kBlocksPerSM = ATTN_BLOCKS_PER_SM;
constexpr int kLaunchRegisters = 65536 / (kBlocksPerSM * kThreads) / 8 * 8;
constexpr int kLoadRegisters = kConsumers > 2 ? 32 : kWarpsLoad &&kVDim <= 64 ? 56 : 40;
constexpr int kComputeRegisters = (kLaunchRegisters * (kConsumers + 1) - kLoadRegisters) / kConsumers / 8 * 8;

// Tiles in shared memory: panels of 64 columns (of 8 bits: 128), each row 128 bytes, swizzled by TMA as wgmma reads them.
constexpr int kPanelRowBytes = 128;
constexpr int kPanel = kPanelRowBytes / sizeof(Element);
constexpr int kPanelsQK = (kHeadDim + kPanel - 1) / kPanel;
constexpr int kPanelsV = (kVDim + kPanel - 1) / kPanel;
constexpr int kQBytes = kBlockM * kPanelsQK * kPanelRowBytes;
constexpr int kKBytes = kBlockN * kPanelsQK * kPanelRowBytes;
constexpr int kVBytes = kBlockN * kPanelsV * kPanelRowBytes;
// V^T: panels of 128 keys. Two 16-byte chunks of V are transposed together, so there may be 16 rows that nobody reads.
constexpr int kVtRows = (kVDim + 31) / 32 * 32;
#if defined(ATTN_VT_STAGES)
constexpr int kVtStages = ATTN_VT_STAGES;
// Where O is added up from time to time, a place for each thread.
constexpr int kTotalBytes = ATTN_TOTAL_BLOCKS > 0 ? kConsumers * kWarpgroupSize * (kVDim / 2 + 8) * 2 : 0;
#else
constexpr int kVtStages = 0, kTotalBytes = 0;
#endif
constexpr int kVtBytes = (kBlockN + 127) / 128 * kVtRows * kPanelRowBytes;

// Bias and mask in tiles of kBlockM queries (SwizzledPlane): of a stage the bias, then the mask. 0 stages: lanes read
// global memory.
constexpr int kPlaneStages = ATTN_PLANE_STAGES;
static_assert(kPlaneTiles == kPlaneStages > 0, "tiles have stages");
template <class T>
constexpr int kPlanePanel = kPanelRowBytes / sizeof(T);  // keys of a panel
template <class T>
constexpr int kPlanePanels = (kBlockN + kPlanePanel<T> - 1) / kPlanePanel<T>;
constexpr int kBiasBytes = kBiasTiles * kBlockM * kPlanePanels<BiasElement> * kPanelRowBytes;
constexpr int kMaskBytes = kMaskTiles * kBlockM * kPlanePanels<u8_t> * kPanelRowBytes;
constexpr int kPlaneBytes = kBiasBytes + kMaskBytes;

struct SharedMemory {
    u32_t Q, K, V, planes, Vt, total;
    u32_t q_ring, k_ring, v_ring, plane_ring, vt_ring;
    u32_t v_landed;  // a barrier per stage: V is there, and nobody has looked at it
    u32_t notes;     // a word per stage: what the loading thread says of a block of V that is transposed
    u32_t found;     // a word per stage: whether V has an element that is not finite; where transposed two, one a warp
    u32_t tiles;     // of packed sequences: a TileRing

    __device__ __forceinline__ explicit SharedMemory(u32_t base) {
        Q = base;
        K = Q + kQStages * kQBytes;
        V = K + kStages * kKBytes;
        planes = V + kStages * kVBytes;
        Vt = planes + kPlaneStages * kPlaneBytes;
        total = Vt + kVtStages * kVtBytes;
        q_ring = total + kTotalBytes;
        k_ring = q_ring + Ring<kQStages>::kBytes;
        v_ring = k_ring + Ring<kStages>::kBytes;
        plane_ring = v_ring + Ring<kStages>::kBytes;
        vt_ring = plane_ring + Ring<kPlaneStages>::kBytes;
        v_landed = vt_ring + Ring<kVtStages>::kBytes;
        notes = v_landed;  // either is used
        found = v_landed + kStages * 8;
        tiles = found + kStages * 8;
    }
};

// The row of tiles that a block computes: Q's loader finds it, the others learn it.
#if ATTN_VARLEN_Q
constexpr int kToldWarps = kConsumers * 4 + 1 + (kLookForNonfinite ? kLookers / kWarpSize : 0);
using FoundTiles = PackedSchedule<kBlockM>;
using Tiles = ToldSchedule;
__device__ __forceinline__ FoundTiles find_tiles(const AttentionParams &p, const SharedMemory &smem) {
    return FoundTiles(p, smem.tiles);
}
__device__ __forceinline__ Tiles learn_tiles(const AttentionParams &, const SharedMemory &smem) {
    return Tiles(smem.tiles);
}
#else
// Without a window all tiles are alike; the kernel of 8 bits knows what to do with small ones.
constexpr bool kShrinks = kTransposesV && !ATTN_WINDOW && kConsumers > 2;
template <bool kShrinking>
struct TilesOf {
    using Type = TileSchedule<kBlockM>;
};
template <>
struct TilesOf<true> {
    using Type = ShrinkingSchedule<kConsumers>;
};
using Tiles = TilesOf<kShrinks>::Type;
__device__ __forceinline__ Tiles find_tiles(const AttentionParams &p, const SharedMemory &) { return Tiles(p); }
__device__ __forceinline__ Tiles learn_tiles(const AttentionParams &p, const SharedMemory &) { return Tiles(p); }
#endif
