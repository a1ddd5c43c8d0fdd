// Attention forward of e4m3 on wgmma and TMA, sm_90a: O = softmax(mask(transform(Q K^T))) V, LSE, with Q, K, V and P in e4m3.
//
// As fwd_wgmma.cu, with one step more: wgmma takes 8-bit operands with neighbouring k side by side only, so two warps of the
// loading warpgroup transpose V (transpose_values.cuh), in an order of keys that lets P stay where S was computed.
//
// q_descale * k_descale goes into the scale of the softmax, v_descale into the last factor of O. P is taken times 2^8, so
// that it uses e4m3's range (narrow_softmax.cuh); sums of P and everything else are f32. The tensor core adds 8-bit
// products with 14 bits (docs/numerics.md).
//
// Macros from the plan: those of fwd_wgmma.cu, and ATTN_PROMOTED,
// ATTN_TOTAL_BLOCKS, ATTN_VT_STAGES.
#include "attention/narrow_softmax.cuh"
#include "attention/transpose_values.cuh"
#include "attention/transposed_columns.cuh"
#include "attention/turns.cuh"
#include "attention/warpgroup_scores.cuh"
#include "attention/wgmma_tile.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/wgmma8.cuh"

constexpr int kStepK = 32;  // elements of k of one product

// Whether the tensor core sums over one block of keys only, and f32 additions over all of them: its own sums have 14 bits.
constexpr bool kPromoted = ATTN_PROMOTED;

// Or blocks after which O is added to a total in shared memory; 0: never.
constexpr int kTotalBlocks = ATTN_TOTAL_BLOCKS;

// S = Q K^T   [64, kBlockN]
__device__ __forceinline__ void product_qk8(float (&S)[kBlockN / 2], u32_t Q_smem, u32_t K_smem) {
    constexpr u64_t kLayout = wgmma_descriptor_128b(0);
    const u64_t Q_rows = wgmma_descriptor(kLayout, Q_smem), K_rows = wgmma_descriptor(kLayout, K_smem);
#pragma unroll
    for (int k = 0; k < (kHeadDim + kStepK - 1) / kStepK; ++k) {
        const int panel = k / 4, bytes = k % 4 * kStepK;
        wgmma_e4m3_ss(S, Q_rows + (panel * kBlockM * kPanelRowBytes + bytes) / 16,
                      K_rows + (panel * kBlockN * kPanelRowBytes + bytes) / 16, k > 0);
    }
}

// Steps [kBegin, kEnd) of O += P V   [64, kVDim], or O = P V
template <int kBegin, int kEnd>
__device__ __forceinline__ void product_pv8(float (&O)[kVDim / 2], const u32_t (&P)[kBlockN / 8], u32_t Vt_smem,
                                            bool accumulate) {
    const u64_t Vt_rows = wgmma_descriptor(wgmma_descriptor_128b(0), Vt_smem);
#pragma unroll
    for (int k = kBegin; k < kEnd; ++k) {
        const int panel = k / 4, bytes = k % 4 * kStepK;
        wgmma_e4m3_rs(O, P + k * 4, Vt_rows + (panel * kVtRows * kPanelRowBytes + bytes) / 16, k > 0 || accumulate);
    }
}

#ifndef X_A
#define X_A kSteps  // steps of P V issued at once with Q K^T
#endif
#ifndef X_B
#define X_B kSteps  // and until the first part of P
#endif
#ifndef X_SPLIT
#define X_SPLIT 0
#endif
#ifndef X_UNROLL
#define X_UNROLL 1
#endif
#ifndef X_KA
#define X_KA 64
#endif
#ifndef X_QREG
#define X_QREG 0
#endif
template <int kValue>
struct Int { static constexpr int value = kValue; };
#ifndef X_HALF
#define X_HALF 0
#endif
#ifndef X_SPEC
#define X_SPEC 0
#endif
#ifndef X_TIME
#define X_TIME 0
#endif
#ifndef X_HOLD
#define X_HOLD 1
#endif
constexpr int kSteps = kBlockN / kStepK;
extern "C" { __device__ unsigned x_time[16 * 32 * 8]; __device__ unsigned long long x_clock[132 * 2]; }
__device__ __forceinline__ unsigned clock32() { unsigned r; asm volatile("mov.u32 %0, %clock;" : "=r"(r) :: "memory"); return r; }
__device__ __forceinline__ unsigned long long clock64_() { unsigned long long r; asm volatile("mov.u64 %0, %clock64;" : "=l"(r) :: "memory"); return r; }
__device__ __forceinline__ unsigned long long gtimer() { unsigned long long r; asm volatile("mov.u64 %0, %globaltimer;" : "=l"(r) :: "memory"); return r; }
#if X_TIME
#define MARK(slot) { const int it = work.blocks.end - 1 - work.block - 48; \
   if (blockIdx.x == 5 && lane_id() == 0 && it >= 0 && it < 32) x_time[((warp_id() - 4) * 32 + it) * 8 + slot] = clock32(); }
#else
#define MARK(slot)
#endif

// O of a thread, added up in shared memory, and the maxima in whose units it is.
struct Total {
    static constexpr int kStride = kConsumers * kWarpgroupSize * 16;
    static constexpr int kPer = X_HALF_TOTAL ? 8 : 4;  // elements of 16 bytes
    static constexpr int kMaxima = kVDim / 2 / kPer * kStride;  // behind O
    u32_t smem;

    __device__ __forceinline__ Total(u32_t smem, int thread) : smem(smem + thread * 16) {}

    __device__ __forceinline__ void begin() const {
#pragma unroll
        for (int i = 0; i < kVDim / 2; i += kPer) st_shared_v4(smem + i / kPer * kStride, {0, 0, 0, 0});
        const u32_t none = __float_as_uint(-infinity());
        st_shared_v4(smem + kMaxima, {none, none, none, none});
    }

    // O += total; and the total becomes O where it goes on.
    template <bool kLast, int kCount>
    __device__ __forceinline__ void add(float (&O)[kCount], const float (&now)[kRowsPerLane],
                                        float exponent_scale) const {
        u32_t words[4];
        ld_shared_v4(words, smem + kMaxima);
        float factors[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            const float before = __uint_as_float(words[r]);
            // -inf - -inf, of a row that has seen no key yet, is NaN.
            factors[r] = before == now[r] ? 1.0f : ex2_approx((before - now[r]) * exponent_scale);
            words[r] = __float_as_uint(now[r]);
        }
        if constexpr (!kLast) st_shared_v4(smem + kMaxima, words);
#pragma unroll
        for (int i = 0; i < kCount; i += kPer) {
            ld_shared_v4(words, smem + i / kPer * kStride);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
#if X_HALF_TOTAL
                const int at = i + 2 * j;
                O[at] = fma_rn(__uint_as_float(words[j] << 16), factors[j % 2], O[at]);
                O[at + 1] = fma_rn(__uint_as_float(words[j] & 0xffff0000u), factors[j % 2], O[at + 1]);
                words[j] = pack2<bf16_t>(O[at], O[at + 1]);
#else
                O[i + j] = fma_rn(__uint_as_float(words[j]), factors[j / 2], O[i + j]);
                words[j] = __float_as_uint(O[i + j]);
#endif
            }
            if constexpr (!kLast) st_shared_v4(smem + i / kPer * kStride, words);
        }
    }
};

// q_descale * k_descale and v_descale of one head.
struct Descales {
    float qk = 1.0f;
    float v = 1.0f;

    __device__ __forceinline__ Descales(const AttentionParams &p, int batch, int head) {
        const int kv_head = head / p.heads_per_kv_head;
#if ATTN_Q_DESCALE && !ATTN_SCALED
        qk *= p.q_descale[batch * p.q_descale_batch_stride + kv_head * p.q_descale_head_stride];
#endif
#if ATTN_K_DESCALE && !ATTN_SCALED
        qk *= p.k_descale[batch * p.k_descale_batch_stride + kv_head * p.k_descale_head_stride];
#endif
#if ATTN_V_DESCALE
        v *= p.v_descale[batch * p.v_descale_batch_stride + kv_head * p.v_descale_head_stride];
#endif
    }
};

// A tile under way: what a warpgroup must know of it.
struct Work {
    QueryTile tile;
    KeyBlocks<kBlockN> blocks;
    int block;  // that S or P is of
    float exponent_scale;
    float v_descale;

    __device__ __forceinline__ Work(const AttentionParams &p, const QueryTile &tile)
        : tile(tile),
          blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM),
          block(blocks.end - 1) {
        const Descales descales(p, tile.batch, tile.head);
        v_descale = descales.v;
#if (ATTN_Q_DESCALE || ATTN_K_DESCALE) && !ATTN_SCALED
        // A scale of 0 must still send the -inf of a masked score to P = 0.
        constexpr float kLeast = 1e-30f;
        const float scale = p.exponent_scale * descales.qk;
        exponent_scale = scale < kLeast ? kLeast : scale;
#else
        exponent_scale = p.exponent_scale;
#endif
    }
};

__device__ __forceinline__ void compute(const AttentionParams &p, const SharedMemory &smem, int warpgroup) {
    Tiles tiles = learn_tiles(p, smem);
    tiles.next();  // the grid has no more blocks than there are tiles
    Ring<kQStages> Q_ring(smem.q_ring);
    Ring<kStages> K_ring(smem.k_ring);
    Ring<kVtStages> Vt_ring(smem.vt_ring);
    const Turns turns(warpgroup);
    const int warp_row = warpgroup * 64 + warp_id() % 4 * 16 + lane_id() / 4;  // of this lane's element 0, in the tile
    const int lane_key = lane_id() % 4 * 2;
    const bool speaks = lane_id() == 0;  // for its warp

    float S[kBlockN / 2], O[kVDim / 2];
    float O_block[kVDim / 2];                             // where promoted
    float (&O_sum)[kVDim / 2] = kPromoted ? O_block : O;  // of the tensor core
    u32_t P[kBlockN / 8];
    NarrowSoftmax softmax;
    Total total(smem.total, threadIdx.x - kWarpgroupSize);

    // Issues S = Q K^T of the next block.
    const auto issue_qk = [&]() {
        registers_change(S);
        wgmma_fence();
        product_qk8(S, smem.Q + Q_ring.stage * kQBytes + warpgroup * 64 * kPanelRowBytes,
                    smem.K + K_ring.stage * kKBytes);
        wgmma_commit_group();
    };
    // Issues O += P V of the block that P is of.
    const auto issue_pv = [&](bool accumulate) {
        registers_change(O_sum);
        wgmma_fence();
        product_pv8<0, kSteps>(O_sum, P, smem.Vt + Vt_ring.stage * kVtBytes, accumulate && !kPromoted);
        wgmma_commit_group();
    };
    // S is complete: gives back K, and after the last block Q, and makes the scores final.
    const auto finish_qk = [&](const Work &work) {
        registers_change(S);
        if (speaks) mbarrier_arrive(K_ring.empty());
        K_ring.advance();
        if (work.block == work.blocks.begin) {
            if (speaks) mbarrier_arrive(Q_ring.empty());
            Q_ring.advance();
        }
        const Mask mask(p, find_sequence(p, work.tile.batch), work.tile.head);
        const int query = work.tile.first_query + warp_row, key = work.block * kBlockN + lane_key;
#if ATTN_TRANSFORMED
        const ScoreTransform transform(p, work.tile.batch, work.tile.head);
        transform_scores(S, ScorePlanes(), 0, 0, transform, mask, query, key);
#endif
        if (work.blocks.at_edge(work.block)) mask_scores(S, mask, query, key);
    };
    // O is complete up to this block: gives back V^T, and adds what the product left out.
    const auto finish_pv = [&](const Work &work, int block, bool last) {
        registers_change(O_sum);
        if constexpr (kPromoted) {
#pragma unroll
            for (int i = 0; i < kVDim / 2; ++i) {
                O[i] = last ? O[i] + O_block[i] : fma_rn(O_block[i], softmax.rescale[i % 4 / 2], O[i]);
            }
        }
        if constexpr (kLookWhileTransposing) {
            const u32_t found = smem.found + Vt_ring.stage * 8;
            // Lane 0 gives the stage back, so lane 0 reads what the next round writes over.
            if (work.blocks.at_edge(block) && vote_any(speaks && (ld_shared(found) | ld_shared(found + 4)))) {
                const QueryTile &tile = work.tile;
                const u8_t *V_gmem = static_cast<const u8_t *>(p.V) + tile.batch * p.v_batch_stride +
                                     tile.head / p.heads_per_kv_head * p.v_head_stride;
                add_nan_columns(O, Mask(p, find_sequence(p, tile.batch), tile.head), V_gmem, p.v_row_stride,
                                tile.first_query + warp_row, block * kBlockN, (block + 1) * kBlockN);
            }
        }
        if (speaks) mbarrier_arrive(Vt_ring.empty());
        Vt_ring.advance();
    };
    const auto finish_tile = [&](const Work &work) {
        finish_pv(work, work.block, true);
        if constexpr (kTotalBlocks > 0) total.add<true>(O, softmax.row_max, work.exponent_scale);
        float max_log2[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            max_log2[r] = softmax.row_max[r] * work.exponent_scale - NarrowRange::kOffset;
        }
        store_column_rows<Out>(p, O, max_log2, softmax.row_sum, work.v_descale, find_sequence(p, work.tile.batch),
                               work.tile.head, work.tile.first_query + warp_row);
    };

#if X_SPLIT
    constexpr int kA = X_KA, kB = kBlockN - kA, kStepsA = kA / kStepK;
    float S_a[kA / 2], S_b[kB / 2];
    u32_t P_a[kA / 8], P_b[kB / 8], Q[X_QREG ? kHeadDim / 8 : 4];
    float sums[kRowsPerLane];
    bool accumulate = false;
    const auto products_qk = [&](auto &S, int stage, int row) {
        constexpr u64_t kLayout = wgmma_descriptor_128b(0);
        const u64_t Q_rows = wgmma_descriptor(kLayout, smem.Q + Q_ring.stage * kQBytes + warpgroup * 64 * kPanelRowBytes),
                    K_rows = wgmma_descriptor(kLayout, smem.K + stage * kKBytes + row * kPanelRowBytes);
        registers_change(S);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < (kHeadDim + kStepK - 1) / kStepK; ++k) {
            const int panel = k / 4, bytes = k % 4 * kStepK;
            const u64_t rows = K_rows + (panel * kBlockN * kPanelRowBytes + bytes) / 16;
#if X_QREG
            wgmma_e4m3_rs(S, Q + k * 4, rows, k > 0);
#else
            wgmma_e4m3_ss(S, Q_rows + (panel * kBlockM * kPanelRowBytes + bytes) / 16, rows, k > 0);
#endif
        }
        wgmma_commit_group();
    };
    const auto products_pv = [&](auto &P, auto first, auto steps, u32_t Vt_smem, bool onto) {
        const u64_t Vt_rows = wgmma_descriptor(wgmma_descriptor_128b(0), Vt_smem);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < steps.value; ++k) {
            const int step = first.value + k, panel = step / 4, bytes = step % 4 * kStepK;
            wgmma_e4m3_rs(O, P + k * 4, Vt_rows + (panel * kVtRows * kPanelRowBytes + bytes) / 16, k > 0 || onto);
        }
        wgmma_commit_group();
    };
    for (bool more_tiles = true; more_tiles; more_tiles = tiles.next()) {
        Work work(p, tiles.tile());
        const Mask mask(p, find_sequence(p, work.tile.batch), work.tile.head);
        Q_ring.wait_full();
#if X_QREG
        {
            const int lane = lane_id(), row = warp_id() % 4 * 16 + lane % 16;
            const u32_t Q_smem = smem.Q + Q_ring.stage * kQBytes + warpgroup * 64 * kPanelRowBytes;
#pragma unroll
            for (int k = 0; k < kHeadDim / 32; ++k) {
                u32_t w[4];
                ldmatrix_x4(w, Q_smem + k / 4 * kBlockM * kPanelRowBytes + row * kPanelRowBytes + ((k % 4 * 2 + lane / 16) ^ row % 8) * 16);
#pragma unroll
                for (int i = 0; i < 4; ++i) Q[k * 4 + i] = w[i];
            }
            warp_sync();
            if (speaks) mbarrier_arrive(Q_ring.empty());
            Q_ring.advance();
            registers_change(Q);
        }
#endif
        softmax.begin();
        accumulate = false;
        if constexpr (kTotalBlocks > 0) total.begin();
        int until_total = kTotalBlocks;
        K_ring.wait_full();
        products_qk(S_a, K_ring.stage, 0);
        products_qk(S_b, K_ring.stage, kA);
        wgmma_wait_group<0>();
        u32_t Vt_given_back = 0;
        const auto part = [&](auto &S, auto &P, auto spec, int key, bool edge) {
            registers_change(S);
            registers_change(P);
            if (edge) mask_scores(S, mask, work.tile.first_query + warp_row, key + lane_key);
            constexpr int kWords = sizeof(P) / 4;
            const bool outgrown = softmax.outgrown(S);
            softmax.template powers<0, spec.value>(P, sums, S, work.exponent_scale);
            if (vote_any(outgrown)) {
                softmax.template follow<false>(S, work.exponent_scale);
                softmax.template powers<0, spec.value>(P, sums, S, work.exponent_scale);
                wgmma_wait_group<0>();
                registers_change(O);
                softmax.rescale_output(O);
                registers_change(O);
            }
            softmax.template powers<spec.value, kWords>(P, sums, S, work.exponent_scale);
            softmax.template add<false>(sums);
            registers_change(P);
            if constexpr (X_HOLD) softmax.hold();
        };
        const auto step = [&](auto more, auto first) {
            const bool edge = work.blocks.at_edge(work.block);
            MARK(0)
            if constexpr (!first.value) wgmma_wait_group<2>();
            part(S_a, P_a, Int<X_SPEC>(), work.block * kBlockN, edge);
            MARK(1)
            Vt_ring.wait_full();
            const u32_t Vt = smem.Vt + Vt_ring.stage * kVtBytes;
            products_pv(P_a, Int<0>(), Int<kStepsA>(), Vt, accumulate);
            const u32_t K_empty = K_ring.empty();
            K_ring.advance();
            if constexpr (more.value) {
                K_ring.wait_full();
                MARK(2)
                products_qk(S_a, K_ring.stage, 0);
                MARK(3)
                wgmma_wait_group<2>();
            } else {
                wgmma_wait_group<1>();
            }
            if (speaks) mbarrier_arrive(K_empty);
            if (Vt_given_back && speaks) mbarrier_arrive(Vt_given_back);
            part(S_b, P_b, Int<(X_SPEC < kB / 8 ? X_SPEC : kB / 8)>(), work.block * kBlockN + kA, edge);
            MARK(4)
            products_pv(P_b, Int<kStepsA>(), Int<kSteps - kStepsA>(), Vt, true);
            Vt_given_back = Vt_ring.empty();
            Vt_ring.advance();
            accumulate = true;
            MARK(5)
            if constexpr (more.value) products_qk(S_b, K_ring.stage, kA);
            MARK(6)
            --work.block;
        };
        while (work.block - work.blocks.begin >= X_UNROLL) {
            step(Int<1>(), Int<1>());
            if constexpr (X_UNROLL > 1) step(Int<1>(), Int<0>());
            if constexpr (X_UNROLL > 2) step(Int<1>(), Int<0>());
            if constexpr (X_UNROLL > 3) step(Int<1>(), Int<0>());
            wgmma_wait_group<0>();
            if constexpr (kTotalBlocks > 0) {
                until_total -= X_UNROLL;
                accumulate = until_total != 0;
                if (!accumulate) {
                    until_total = kTotalBlocks;
                    registers_change(O);
                    total.add<false>(O, softmax.row_max, work.exponent_scale);
                    registers_change(O);
                }
            }
        }
        while (X_UNROLL > 1 && work.block > work.blocks.begin) {
            step(Int<1>(), Int<1>());
            wgmma_wait_group<0>();
        }
        step(Int<0>(), Int<1>());
        wgmma_wait_group<0>();
        registers_change(O);
        if (speaks) mbarrier_arrive(Vt_given_back);
#if !X_QREG
        if (speaks) mbarrier_arrive(Q_ring.empty());
        Q_ring.advance();
#endif
        if constexpr (kTotalBlocks > 0) total.add<true>(O, softmax.row_max, work.exponent_scale);
        float max_log2[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) max_log2[r] = softmax.row_max[r] * work.exponent_scale - NarrowRange::kOffset;
        store_column_rows<Out>(p, O, max_log2, softmax.row_sum, work.v_descale, find_sequence(p, work.tile.batch),
                               work.tile.head, work.tile.first_query + warp_row);
    }
#else
    Work work(p, tiles.tile());
    Q_ring.wait_full();
    K_ring.wait_full();
    turns.wait();
    issue_qk();
    turns.pass_on();
    wgmma_wait_group<0>();
    bool accumulate;
    for (;;) {
        finish_qk(work);
        softmax.follow<true>(S, work.exponent_scale);
        float sums[kRowsPerLane];
        softmax.powers<0, kBlockN / 8>(P, sums, S, work.exponent_scale);
        softmax.add<true>(sums);
        if constexpr (kPromoted) {
#pragma unroll
            for (int i = 0; i < kVDim / 2; ++i) O[i] = 0.0f;
        }
        accumulate = false;
        if constexpr (kTotalBlocks > 0) total.begin();
        int until_total = kTotalBlocks;
        while (work.block > work.blocks.begin) {
            MARK(0)
            K_ring.wait_full();
            turns.wait();
            issue_qk();
            MARK(1)
            Vt_ring.wait_full();
            MARK(2)
            const u32_t Vt = smem.Vt + Vt_ring.stage * kVtBytes;
            const bool onto = accumulate && !kPromoted;
            registers_change(O_sum);
            wgmma_fence();
            product_pv8<0, X_A>(O_sum, P, Vt, onto);
            if constexpr (X_A == kSteps) wgmma_commit_group();
            turns.pass_on();
            accumulate = true;
            MARK(3)

            --work.block;
            wgmma_wait_group<X_A == kSteps ? 1 : 0>();
            MARK(4)
            finish_qk(work);
            u32_t P_next[kBlockN / 8];
            const bool outgrown = softmax.outgrown(S);
#if X_HALF > 0
            if constexpr (X_A < X_B) product_pv8<X_A, X_B>(O_sum, P, Vt, onto);
#endif
            softmax.powers<0, X_SPEC>(P_next, sums, S, work.exponent_scale);
            softmax.rescale[0] = softmax.rescale[1] = 1.0f;
            const bool follows = vote_any(outgrown);
            if (follows) {
                softmax.follow<false>(S, work.exponent_scale);
                softmax.powers<0, X_SPEC>(P_next, sums, S, work.exponent_scale);
            }
#if X_HALF > 0
            softmax.powers<X_SPEC, X_HALF>(P_next, sums, S, work.exponent_scale);
#pragma unroll
            for (int i = 0; i < X_HALF; ++i) asm volatile("" : "+r"(P_next[i])::"memory");
            product_pv8<X_B, kSteps>(O_sum, P, Vt, onto);
            wgmma_commit_group();
            softmax.powers<X_HALF, kBlockN / 8>(P_next, sums, S, work.exponent_scale);
#else
            softmax.powers<X_SPEC, kBlockN / 8>(P_next, sums, S, work.exponent_scale);
#endif
            softmax.add<false>(sums);
            registers_change(P_next);
            MARK(5)
            if constexpr (X_HOLD) softmax.hold();  // or the compiler waits before the softmax, which is to run under the product
            if constexpr (kPromoted) {
                if (follows) softmax.rescale_output(O);
            }
            wgmma_wait_group<0>();
            MARK(6)
            if constexpr (!kPromoted) {
                registers_change(O);
                if (follows) softmax.rescale_output(O);
            }
            // Only now may anybody write the registers that the product reads.
#pragma unroll
            for (int i = 0; i < kBlockN / 8; ++i) P[i] = mov_b32(P_next[i]);
            finish_pv(work, work.block + 1, false);
            if constexpr (kTotalBlocks > 0) {
                accumulate = --until_total != 0;
                if (!accumulate) {
                    until_total = kTotalBlocks;
                    total.add<false>(O, softmax.row_max, work.exponent_scale);
                }
            }
        }
        const bool more = tiles.next();
        Vt_ring.wait_full();
        turns.wait();
        if (!more) break;
        // The last product runs while the next tile is found and begun.
        issue_pv(accumulate);
        turns.pass_on();
        const Work next(p, tiles.tile());
        Q_ring.wait_full();
        K_ring.wait_full();
        turns.wait();
        issue_qk();
        turns.pass_on();
        wgmma_wait_group<1>();
        finish_tile(work);
        wgmma_wait_group<0>();
        work = next;
    }
    issue_pv(accumulate);
    turns.pass_on();
    wgmma_wait_group<0>();
    finish_tile(work);
    turns.end();
#endif
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerSM)
    attention_fwd_wgmma_fp8(const __grid_constant__ TensorMap Q_map, const __grid_constant__ TensorMap K_map,
                            const __grid_constant__ TensorMap V_map, const __grid_constant__ AttentionParams p) {
    extern __shared__ __align__(1024) unsigned char dynamic_smem[];
    const SharedMemory smem(smem_address(dynamic_smem));
    if (threadIdx.x == 0) {
        Ring<kQStages>::init(smem.q_ring, kConsumers * 4);
        Ring<kStages>::init(smem.k_ring, kConsumers * 4);
        Ring<kStages>::init(smem.v_ring, kTransposers);
        Ring<kVtStages>::init(smem.vt_ring, kConsumers * 4, kTransposers);
        fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_id() < 4) {
        setmaxnreg_dec<kLoadRegisters>();
        if (threadIdx.x == 0) {
            load_queries_and_keys(p, Q_map, K_map, K_map, smem);
        } else if (threadIdx.x == kWarpSize) {
            load_noted_values(p, V_map, smem);
        } else if (warp_id() >= 2) {
            transpose_values(smem, warp_id() - 2);
        }
    } else {
        setmaxnreg_inc<kComputeRegisters>();
        if (threadIdx.x == 128 && blockIdx.x < 132) { x_clock[blockIdx.x * 2] = clock64_(); }
        // The reduction changes nothing, but tells the compiler that all lanes have the same warpgroup: what depends on it
        // needs no registers of theirs.
        compute(p, smem, redux_max(warp_id() / 4 - 1));
        if (threadIdx.x == 128 && blockIdx.x < 132) { x_clock[blockIdx.x * 2 + 1] = clock64_(); }
    }
}
