"""Mutants of the indexing: heads, batches, tiles, strides, widths, and where results are stored."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Edit, Mutant

_mutant = partial(Mutant, family="indexing")

_KV_HEAD = "const int kv_head = head / p.heads_per_kv_head;"
_BATCH_OFFSET = "sequence.batch * p.q_batch_stride"
_BEGIN = "block >= begin_block; block = next_block, ++turn) {"
_END_BLOCK = "(mask.end_key(last_query) + kBlockN - 1) / kBlockN;"
_NEXT_KEY = "next_key = next_block * KTile::kRows;"
_NEXT_V = "copy_values(next, next_key);"
_K_ROWS = "p.k_batch_stride, p.k_row_stride);"
_V_ROWS = "p.v_batch_stride, p.v_row_stride);"
_O_BASE = "sequence.batch * p.o_batch_stride + sequence.q_row * p.o_row_stride +"
_OUTSIDE = "const bool exists = query < sequence.seqlen_q;"
_FIRST_K = "load_tile<KTile, kThreads>(K_tiles + stage * KTile::kBytes, K_gmem, first_key,"
_STORES_LSE = "sharers.rank == 0 && v_part == 0 && p.LSE != nullptr;"
_STEP = "const u16_t *gmem = rows.base + (first_row + thread_row) * rows.row_stride"
_OVERFLOW = "flash-attention #767, #2611: offsets past 2^31"
_MODEL = "a kernel that assumed K and V of one stride, on a model that keeps them otherwise"

INDEXING: tuple[Mutant, ...] = (
    _mutant(
        "gqa_interleaved",
        "query head h reads K/V head h % num_kv_heads",
        (Edit(_KV_HEAD, "const int kv_head = head % (p.num_heads / p.heads_per_kv_head);"),),
        ("heads",),
        field="PyTorch #193893",
    ),
    _mutant(
        "gqa_ignored",
        "every query head reads K/V head 0",
        (Edit(_KV_HEAD, "const int kv_head = 0;"),),
        ("heads",),
    ),
    _mutant(
        "v_of_query_head",
        "V is taken from the K/V head before the right one",
        (
            Edit(
                "static_cast<const u16_t *>(p.V) + kv_head * p.v_head_stride",
                "static_cast<const u16_t *>(p.V) + max(kv_head - 1, 0) * p.v_head_stride",
            ),
        ),
        ("heads",),
    ),
    _mutant(
        "q_batch_ignored",
        "every batch entry reads Q of the first",
        (Edit(_BATCH_OFFSET, "0 * p.q_batch_stride"),),
        ("heads",),
    ),
    _mutant(
        "q_batch_32_bits",
        "the offset of a batch entry of Q is computed in 32 bits",
        (
            Edit(
                _BATCH_OFFSET,
                "static_cast<int>(static_cast<u32_t>(sequence.batch) * "
                "static_cast<u32_t>(p.q_batch_stride))",
            ),
        ),
        ("far_apart",),
        field=_OVERFLOW,
    ),
    _mutant(
        "k_stride_of_v",
        "K is read with the row stride of V",
        (Edit(_K_ROWS, _K_ROWS.replace("p.k_row_stride", "p.v_row_stride")),),
        ("widths",),
        field=_MODEL,
    ),
    _mutant(
        "v_stride_of_k",
        "V is read with the row stride of K",
        (Edit(_V_ROWS, _V_ROWS.replace("p.v_row_stride", "p.k_row_stride")),),
        ("widths",),
        field=_MODEL,
    ),
    _mutant(
        "k_taken_for_contiguous",
        "the row stride of K is computed from its shape",
        (
            Edit(
                _K_ROWS,
                _K_ROWS.replace(
                    "p.k_row_stride",
                    "static_cast<i64_t>(p.num_heads / p.heads_per_kv_head) * kHeadDim",
                ),
            ),
        ),
        ("heads_first", "gaps"),
        field=_MODEL,
    ),
    _mutant(
        "head_stride_is_head_dim",
        "the head stride of V is taken for head_dim",
        (Edit("kv_head * p.v_head_stride", "kv_head * static_cast<i64_t>(kHeadDim)"),),
        ("heads_first", "gaps"),
    ),
    _mutant(
        "o_head_stride_ignored",
        "O is stored as if its heads were neighbours",
        (Edit("head * p.o_head_stride", "head * static_cast<i64_t>(kDTiles * 8)"),),
        ("out_gaps",),
    ),
    _mutant(
        "o_batch_ignored",
        "every batch entry stores its O over that of the first",
        (Edit(_O_BASE, _O_BASE.replace("sequence.batch * p.o_batch_stride + ", "")),),
        ("heads",),
    ),
    _mutant(
        "lse_heads_swapped",
        "LSE is stored with batch and head exchanged",
        (
            Edit(
                "sequence.batch * p.lse_batch_stride + head * p.lse_head_stride",
                "sequence.batch * p.lse_head_stride + head * p.lse_batch_stride",
            ),
        ),
        ("heads",),
    ),
    _mutant(
        "head_and_batch_swapped",
        "blocks count batches before heads",
        (
            Edit("head = any_head % p.num_heads;", "head = any_head / p.batch;"),
            Edit(
                "find_sequence(p, any_head / p.num_heads);",
                "find_sequence(p, any_head % p.batch);",
            ),
        ),
        ("heads",),
        (),
        equivalent="both orders give each (batch, head, tile) to exactly one block, and blocks "
        "share nothing: only the order of the work changes",
    ),
    _mutant(
        "first_tile_first",
        "the first queries are computed first instead of last",
        (
            Edit(
                "((sequence.seqlen_q + kBlockM - 1) / kBlockM - 1 - number) * kBlockM;",
                "number * kBlockM;",
            ),
        ),
        ("causal",),
        (),
        equivalent="each tile is still computed once, by another block; the order was chosen for "
        "the balance of causal masks",
    ),
    _mutant(
        "last_block_dropped",
        "the last block of keys is left out where it is not whole",
        (Edit(_END_BLOCK, "mask.end_key(last_query) / kBlockN;"),),
        ("plain",),
    ),
    _mutant(
        "first_block_dropped",
        "the loop ends before the first block of keys",
        (Edit(_BEGIN, _BEGIN.replace(">= begin_block", "> begin_block")),),
        ("plain",),
    ),
    _mutant(
        "first_block_doubled",
        "the block before the first one is the first one once more",
        (
            Edit(_BEGIN, _BEGIN.replace(">= begin_block", ">= begin_block - 1")),
            Edit("if (block > begin_block) {", "if (block >= begin_block) {", 3),
            Edit(_NEXT_KEY, _NEXT_KEY.replace("next_block", "max(next_block, 0)"), 2),
            Edit("first_key = block * kBlockN +", "first_key = max(block, 0) * kBlockN +"),
        ),
        ("plain",),
    ),
    _mutant(
        "last_block_doubled",
        "the second block that is read is the first one again, and the last one is lost",
        (Edit(_NEXT_KEY, _NEXT_KEY.replace("next_block", "block"), 2),),
        ("plain",),
    ),
    _mutant(
        "v_one_block_late",
        "V of each block is that of the block before, from the second on",
        (Edit(_NEXT_V, _NEXT_V.replace("next_key", "block * KTile::kRows"), 2),),
        ("plain",),
    ),
    _mutant(
        "first_k_wrong_tile",
        "the first tile of K that is loaded is tile 0",
        (Edit(_FIRST_K, _FIRST_K.replace("first_key", "0")),),
        ("plain",),
    ),
    _mutant(
        "q_wrong_tile",
        "every block of queries loads the first tile of Q",
        (
            Edit(
                "(Q_tile, Q_gmem, block_query, sequence.seqlen_q);",
                "(Q_tile, Q_gmem, 0, sequence.seqlen_q);",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "q_rows_of_warp",
        "every warp reads the rows of Q of the first",
        (Edit("(QAddress(Q_tile, warp_row));", "(QAddress(Q_tile, 0));"),),
        ("plain",),
    ),
    _mutant(
        "store_outside",
        "rows past the last query are stored too: over whatever follows in memory",
        (Edit(_OUTSIDE, "const bool exists = true;"),),
        ("heads",),
    ),
    _mutant(
        "store_one_row_less",
        "the last query is not stored",
        (Edit(_OUTSIDE, _OUTSIDE.replace("seqlen_q;", "seqlen_q - 1;")),),
        ("plain",),
    ),
    _mutant(
        "head_dim_128_of_256",
        "the score sums over the first 128 channels only",
        (Edit("k < kHeadDim / 16; ++k)", "k < (kHeadDim < 128 ? kHeadDim : 128) / 16; ++k)", 2),),
        ("wide",),
        field="a kernel of head_dim 128 used at 256",
    ),
    _mutant(
        "head_dim_256_chunks_wrap",
        "the number of a panel wraps at 2: channels from 128 on overwrite the first ones",
        (
            Edit(
                "T::place(row, chunk) + i * T::kPanelStep,",
                "T::place(row, chunk) + i % 2 * T::kPanelStep,",
            ),
            Edit(
                "cp_async_16(smem + row * T::kRowBytes + i * T::kPanelStep,",
                "cp_async_16(smem + row * T::kRowBytes + i % 2 * T::kPanelStep,",
            ),
        ),
        ("wide",),
        field="a kernel of head_dim 128 used at 256",
    ),
    _mutant(
        "head_dim_256_row_bytes",
        "a row of a fragment is two panels long, whatever head_dim is",
        (
            Edit(
                "const int panel = chunk_pair / 4 * kPanelStep,",
                "const int panel = chunk_pair / 4 % 2 * kPanelStep,",
            ),
        ),
        ("wide",),
        field="a kernel of head_dim 128 used at 256",
    ),
    _mutant(
        "odd_width_rows",
        "where chunks do not fill whole rows of threads, the row is counted by panels",
        (
            Edit(
                "const int row = number / T::kRowChunks, chunk = number % T::kRowChunks;",
                "const int row = number / (T::kRowBytes / kChunkBytes), chunk = "
                "number % T::kRowChunks;",
            ),
        ),
        ("odd_width",),
    ),
    _mutant(
        "odd_width_last_pass",
        "where chunks do not fill whole passes of threads, the last pass is left out",
        (
            Edit(
                "for (int start = 0; start < kChunks; start += kThreads) {",
                "for (int start = 0; start + kThreads <= kChunks; start += kThreads) {",
            ),
        ),
        ("odd_width",),
    ),
    _mutant(
        "v_part_of_load",
        "every part of V loads the first columns",
        (Edit("kv_head * p.v_head_stride + v_part * kVDim", "kv_head * p.v_head_stride"),),
        ("parts",),
    ),
    _mutant(
        "v_part_of_store",
        "every part of O is stored at the first columns",
        (Edit("+ v_part * (kDTiles * 8 * Sharers::kSharers);", ";"),),
        ("parts",),
    ),
    _mutant(
        "v_part_lse",
        "every part stores LSE, not only the first",
        (Edit(_STORES_LSE, _STORES_LSE.replace("v_part == 0 && ", "")),),
        ("parts",),
        (),
        equivalent="each part computes the scores whole, in the same order: the same bits are "
        "stored twice",
    ),
)
