"""Mutants of the Hopper kernel's descriptors, fragments and masks."""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("wgmma", HOPPER_KERNEL)

_PACK = "P[i] = pack2<Element>(S[2 * i], S[2 * i + 1]);"
_CLEAR = "for (int i = 0; i < kVDim / 2; ++i) O[i] = 0.0f;"
_O_ROWS = "V_rows + k * 16 * kPanelRowBytes / 16, true);"
_SEEN = "if (work.blocks.at_edge(work.block)) {"
_END = "end = (mask.end_key(last_query) + kBlockN - 1) / kBlockN;"
_TWO_PER = "wgmma_descriptor_128b(kBlockN * kPanelRowBytes)"

HOPPER: tuple[Mutant, ...] = (
    # fragments and descriptors
    _row(
        "wgmma_p_order",
        "P is handed to the second product with a[1] and a[2] exchanged",
        _PACK,
        "P[i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i] = pack2<Element>(S[2 * i], S[2 * i + 1]);",
        "hopper",
    ),
    _row(
        "wgmma_p_halves",
        "the two keys of each register of P are exchanged",
        _PACK,
        "P[i] = pack2<Element>(S[2 * i + 1], S[2 * i]);",
        "hopper",
    ),
    _row(
        "wgmma_p_k_halves",
        "keys 0-7 and 8-15 of each fragment of P are exchanged",
        _PACK,
        "P[i ^ 2] = pack2<Element>(S[2 * i], S[2 * i + 1]);",
        "hopper",
    ),
    _row(
        "wgmma_p_rows",
        "rows r and r + 8 of P are exchanged",
        _PACK,
        "P[i ^ 1] = pack2<Element>(S[2 * i], S[2 * i + 1]);",
        "hopper",
    ),
    _row(
        "wgmma_p_fragment",
        "every product takes a fragment of P that begins half a fragment too early",
        "P + k * 4",
        "P + k * 2",
        "hopper",
    ),
    _row(
        "wgmma_q_panel",
        "the second panel of Q is looked for behind as many rows as K has",
        "panel * kBlockM * kPanelRowBytes + bytes",
        "panel * kBlockN * kPanelRowBytes + bytes",
        "hopper_panels",
    ),
    _row(
        "wgmma_k_panel",
        "the second panel of K is looked for behind as many rows as Q has",
        "panel * kBlockN * kPanelRowBytes + bytes",
        "panel * kBlockM * kPanelRowBytes + bytes",
        "hopper_panels",
    ),
    _row(
        "wgmma_panel_missing",
        "the second panel of Q and K is the first once more",
        "const int panel = k / 4,",
        "const int panel = 0,",
        "hopper_panels",
    ),
    _row(
        "wgmma_k_step",
        "steps along head_dim are 16 bytes instead of 32: elements are multiplied twice",
        "bytes = k % 4 * 32;",
        "bytes = k % 4 * 16;",
        "hopper",
    ),
    _row(
        "wgmma_v_step",
        "each step along the keys advances 8 rows of V instead of 16",
        "k * 16 * kPanelRowBytes / 16",
        "k * 8 * kPanelRowBytes / 16",
        "hopper",
    ),
    _row(
        "wgmma_v_leading",
        "the descriptor of V says that its panels are one row apart",
        _TWO_PER,
        "wgmma_descriptor_128b(kPanelRowBytes)",
        "hopper_wide_v",
    ),
    _row(
        "wgmma_v_leading_of_q",
        "the descriptor of V says that its panels are as far apart as those of Q",
        _TWO_PER,
        "wgmma_descriptor_128b(kBlockM * kPanelRowBytes)",
        "hopper_wide_v",
    ),
    _row(
        "wgmma_stride",
        "descriptors say 512 bytes from eight rows to the next eight, where it is 1024",
        "static_cast<u64_t>(1024 >> 4) << 32",
        "static_cast<u64_t>(512 >> 4) << 32",
        "hopper",
    ),
    _row(
        "wgmma_swizzle",
        "descriptors say a swizzle of 64 bytes, and TMA wrote one of 128",
        "kSwizzle128 = 1ull << 62",
        "kSwizzle128 = 2ull << 62",
        "hopper",
    ),
    _row(
        "wgmma_format",
        "bfloat16 numbers are multiplied as float16",
        "static constexpr bool kBf16 = true;",
        "static constexpr bool kBf16 = false;",
        "hopper_sinks",
    ),
    _row(
        "wgmma_first_warpgroup",
        "every warpgroup multiplies the first 64 queries of the tile",
        "+ own * 64 * kPanelRowBytes",
        "",
        "hopper_turns",
    ),
    _row(
        "wgmma_s_accumulates",
        "S begins with what stood in its registers",
        "bytes) / 16, k > 0);",
        "bytes) / 16, true);",
        "hopper",
    ),
    _row(
        "wgmma_o_never_cleared",
        "O of a tile begins with O of the tile before",
        _CLEAR,
        "",
        "hopper",
    ),
    _row(
        "wgmma_o_never_accumulates",
        "O is that of the last block alone",
        _O_ROWS,
        _O_ROWS.replace("true", "k > 0"),
        "hopper",
    ),
    _row(
        "wgmma_half_of_o_cleared",
        "half of the columns of O begin with O of the tile before",
        _CLEAR,
        _CLEAR.replace("kVDim / 2", "kVDim / 4"),
        "hopper",
    ),
    # who is where
    _row(
        "wgmma_lane_row",
        "lanes take each other's rows for masks and stores",
        "warp_id() % 4 * 16 + lane_id() / 4;",
        "warp_id() % 4 * 16 + lane_id() % 8;",
        "hopper",
    ),
    _row(
        "wgmma_warp_row",
        "every warp of a warpgroup takes its rows for the first 16",
        "warpgroup * 64 + warp_id() % 4 * 16",
        "warpgroup * 64",
        "hopper",
    ),
    _row(
        "wgmma_lane_key",
        "keys of a lane are one apart instead of two where they are masked",
        "const int lane_key = lane_id() % 4 * 2;",
        "const int lane_key = lane_id() % 4;",
        "hopper",
        "hopper_causal",
    ),
    # masks
    _row(
        "wgmma_mask_pair",
        "of a lane's two neighbouring keys the second is masked where the first is the last seen",
        "end / 8 * 2 + min(end % 8, 2)",
        "end / 8 * 2 + min(end % 8, 1)",
        "hopper_causal",
    ),
    _row(
        "wgmma_window_left",
        "the left side of the window is one key shorter",
        "max(mask.first_key(query + r * 8) - key, 0)",
        "max(mask.first_key(query + r * 8) - key + 1, 0)",
        "hopper_window",
    ),
    _row(
        "wgmma_diagonal",
        "every query sees one key less",
        "max(mask.end_key(query + r * 8) - key, 0)",
        "max(mask.end_key(query + r * 8) - key - 1, 0)",
        "hopper_causal",
    ),
    _row(
        "wgmma_mask_rows",
        "rows r + 8 are masked as rows r",
        "mask.end_key(query + r * 8)",
        "mask.end_key(query)",
        "hopper_causal",
    ),
    _row("wgmma_mask_missing", "nothing is masked", _SEEN, "if (false) {", "hopper"),
    _row(
        "wgmma_mask_everywhere",
        "blocks that all queries see whole are masked too",
        _SEEN,
        "if (true) {",
        "hopper",
        "hopper_causal",
        equivalent="the mask of such a block lets every key through: slower, and the same bits",
    ),
    _row(
        "wgmma_edge_right",
        "the first block that is not seen whole is taken for one that is",
        "block >= end_whole",
        "block > end_whole",
        "hopper_causal",
    ),
    _row(
        "wgmma_edge_left",
        "blocks at the left side of the window are taken for whole ones",
        "block < begin_whole || ",
        "",
        "hopper_window",
    ),
    _row(
        "wgmma_whole_by_last",
        "which blocks are seen whole is asked of the last query",
        "end_whole = mask.end_key(first_query) / kBlockN;",
        "end_whole = mask.end_key(last_query) / kBlockN;",
        "hopper_causal",
    ),
    _row(
        "wgmma_last_block_dropped",
        "the last block of keys is left out where it is not full",
        _END,
        "end = mask.end_key(last_query) / kBlockN;",
        "hopper",
    ),
    _row(
        "wgmma_first_block_dropped",
        "the first block of a window is left out where it begins within the block",
        "begin = mask.first_key(first_query) / kBlockN;",
        "begin = (mask.first_key(first_query) + kBlockN - 1) / kBlockN;",
        "hopper_window",
    ),
    _row(
        "wgmma_rows_past_the_end",
        "the blocks of a tile are those that queries past the end would need as well",
        "min(first_query + rows, mask.seqlen_q) - 1;",
        "first_query + rows - 1;",
        "hopper_causal",
        equivalent="there are no keys past those that the last query sees, so the blocks only get "
        "more by ones whose keys are all masked or do not exist",
    ),
    _row(
        "wgmma_no_block",
        "a tile that sees no key has no block, and its warpgroup waits for one",
        "if (begin >= end || last_query < first_query) {",
        "if (false) {",
        "hopper_no_keys",
    ),
)
