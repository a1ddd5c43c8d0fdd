// Both products of a warpgroup with operands of 16 bits: S from shared memory, O from P in registers.
#pragma once
#include "attention/wgmma_tile.cuh"
#include "ptx/convert.cuh"
#include "ptx/wgmma.cuh"

// S = Q K^T   [64, kBlockN]
__device__ __forceinline__ void product_qk(float (&S)[kBlockN / 2], u32_t Q_smem, u32_t K_smem) {
    constexpr u64_t kLayout = wgmma_descriptor_128b(0);
    u64_t Q_rows = wgmma_descriptor(kLayout, Q_smem), K_rows = wgmma_descriptor(kLayout, K_smem);
    // Nobody sees that their low bits are 0: added to as a whole they take one instruction a step, put together anew four.
    register_changes(Q_rows);
    register_changes(K_rows);
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
        const int panel = k / 4, bytes = k % 4 * 32;
        wgmma_ss<Element>(S, Q_rows + (panel * kBlockM * kPanelRowBytes + bytes) / 16,
                          K_rows + (panel * kBlockN * kPanelRowBytes + bytes) / 16, k > 0);
    }
}

// O += P V   [64, kVDim]
__device__ __forceinline__ void product_pv(float (&O)[kVDim / 2], const u32_t (&P)[kBlockN / 4], u32_t V_smem) {
    const u64_t V_rows = wgmma_descriptor(wgmma_descriptor_128b(kBlockN * kPanelRowBytes), V_smem);
#pragma unroll
    for (int k = 0; k < kBlockN / 16; ++k) {
        wgmma_rs<Element>(O, P + k * 4, V_rows + k * 16 * kPanelRowBytes / 16, true);
    }
}

// The A fragments of P: two neighbouring 64x8 accumulator blocks are one fragment.
__device__ __forceinline__ void pack_p(u32_t (&P)[kBlockN / 4], const float (&S)[kBlockN / 2]) {
#pragma unroll
    for (int i = 0; i < kBlockN / 4; ++i) P[i] = pack2<Element>(S[2 * i], S[2 * i + 1]);
}
