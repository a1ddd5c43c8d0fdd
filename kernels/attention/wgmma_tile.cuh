// Sizes of the Hopper kernel's tiles, and where they stand in shared memory. Macros from the plan: see fwd_wgmma.cu.
#pragma once
#include "attention/ring.cuh"
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

// Only a window hides keys that exist; the keys past the end are zeros in shared memory. Where V is transposed, that is
// where it is looked at.
constexpr bool kLookForNonfinite = ATTN_WINDOW && !kTransposesV;
constexpr int kLookers = 2 * kWarpSize;

// Registers of a thread after setmaxnreg: kLoad + kConsumers * kCompute is at most the 512 of four warps of 128.
constexpr int kBlocksPerSM = ATTN_BLOCKS_PER_SM;
constexpr int kLoadRegisters = kBlocksPerSM == 2 ? 32 : kConsumers == 3 ? 32 : 40;
constexpr int kComputeRegisters = kBlocksPerSM == 2 ? 104 : kConsumers == 3 ? 160 : 232;

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
constexpr int kTotalBytes = ATTN_TOTAL_BLOCKS > 0 ? kConsumers * kWarpgroupSize * (kVDim / 2 + 4) * 4 : 0;
#else
constexpr int kVtStages = 0, kTotalBytes = 0;
#endif
constexpr int kVtBytes = (kBlockN + 127) / 128 * kVtRows * kPanelRowBytes;

struct SharedMemory {
    u32_t Q, K, V, Vt, total;
    u32_t q_ring, k_ring, v_ring, vt_ring;
    u32_t v_landed;  // a barrier per stage: V is there, and nobody has looked at it
    u32_t notes;     // a word per stage: what the loading thread says of a block of V that is transposed
    u32_t found;     // two words per stage: whether each of the looking warps found a non-finite element

    __device__ __forceinline__ explicit SharedMemory(u32_t base) {
        Q = base;
        K = Q + kQStages * kQBytes;
        V = K + kStages * kKBytes;
        Vt = V + kStages * kVBytes;
        total = Vt + kVtStages * kVtBytes;
        q_ring = total + kTotalBytes;
        k_ring = q_ring + Ring<kQStages>::kBytes;
        v_ring = k_ring + Ring<kStages>::kBytes;
        vt_ring = v_ring + Ring<kStages>::kBytes;
        v_landed = vt_ring + Ring<kVtStages>::kBytes;
        notes = v_landed;  // either is used
        found = v_landed + kStages * 8;
    }
};
