// A tile of e4m3 under way, and the descales of its head.
#pragma once
#include "attention/mask.cuh"
#include "attention/params.cuh"
#include "attention/schedule.cuh"
#include "attention/wgmma_tile.cuh"

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

    __device__ __forceinline__ Work(const AttentionParams &p, const QueryTile &tile)
        : tile(tile),
          blocks(Mask(p, find_sequence(p, tile.batch), tile.head), tile.first_query, kBlockM),
          block(blocks.end - 1) {
#if (ATTN_Q_DESCALE || ATTN_K_DESCALE) && !ATTN_SCALED
        // A scale of 0 must still send the -inf of a masked score to P = 0.
        constexpr float kLeast = 1e-30f;
        const float scale = p.exponent_scale * Descales(p, tile.batch, tile.head).qk;
        exponent_scale = scale < kLeast ? kLeast : scale;
#else
        exponent_scale = p.exponent_scale;
#endif
    }
};
