"""Mutants of the masks: which keys a query sees, and what becomes of the others."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Argument, Define, Edit, Mutant

_mutant = partial(Mutant, family="masks")

_FIRST = "return max(query + diagonal - left, lowest);"
_END = "return min(query + diagonal + right + 1, seqlen_k);"
_HIDE = "if (!inside) S_acc[m][n][2 * r + c] = -infinity();"
_ROW = "const int query = rows.query(m, r); const int begin"
_CAUSAL_FIELD = "PyTorch #103082, #110213"
_WINDOW_FIELD = "transformers #39408, flash-attention #2199"

MASKS: tuple[Mutant, ...] = (
    _mutant(
        "causal_one_more",
        "a query sees one key after the last that it may see",
        (Edit(_END, _END.replace("right + 1", "right + 2")),),
        ("causal",),
        field=_CAUSAL_FIELD,
    ),
    _mutant(
        "causal_one_less",
        "a query does not see the key that it is aligned with",
        (Edit(_END, _END.replace("right + 1", "right")),),
        ("causal",),
        field=_CAUSAL_FIELD,
    ),
    _mutant(
        "causal_top_left",
        "query 0 is aligned with key 0 although there are more keys than queries",
        (Argument("diagonal", "0", lambda fields: 0),),
        ("causal",),
        field=_CAUSAL_FIELD,
    ),
    _mutant(
        "causal_ignored",
        "the macro of the window is off: every query sees every key",
        (Define("ATTN_WINDOW", "0", lambda macros: 0),),
        ("causal",),
    ),
    _mutant(
        "offset_ignored",
        "a chunk of queries is masked as if it stood at the beginning",
        (Argument("diagonal", "0", lambda fields: 0),),
        ("offset",),
    ),
    _mutant(
        "window_left_one_more",
        "the window reaches one key too far back",
        (Edit(_FIRST, _FIRST.replace("- left", "- left - 1")),),
        ("window",),
        field=_WINDOW_FIELD,
    ),
    _mutant(
        "window_left_one_less",
        "the window excludes its first key",
        (Edit(_FIRST, _FIRST.replace("- left", "- left + 1")),),
        ("window",),
        field=_WINDOW_FIELD,
    ),
    _mutant(
        "window_left_open",
        "the left side of the window is not looked at",
        (Edit(_FIRST, "return 0;"),),
        ("window",),
    ),
    _mutant(
        "window_right_is_left",
        "the right side of the window is as long as the left",
        (Argument("window_right", "window_left", lambda fields: fields["window_left"]),),
        ("window",),
    ),
    _mutant(
        "tail_zero",
        "keys that are hidden score 0 instead of -inf",
        (Edit(_HIDE, _HIDE.replace("-infinity()", "0.0f")),),
        ("plain", "causal"),
        field="PyTorch #196678",
    ),
    _mutant(
        "tail_one_more",
        "the first row past the end of K counts as a key: it is zeros, and scores 0",
        (
            Edit(
                "int end_key(int) const { return seqlen_k; }",
                "int end_key(int) const { return seqlen_k + 1; }",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "tail_unmasked",
        "the last block is taken for a whole one: its missing keys score 0",
        (
            Edit(
                "block >= begin_warp_whole && block < end_warp_whole);",
                "block >= begin_warp_whole && block <= end_warp_whole);",
            ),
        ),
        ("plain", "causal"),
    ),
    _mutant(
        "hidden_score_finite",
        "hidden keys score -10000 instead of -inf: a query with no key averages over all of V",
        (Edit(_HIDE, _HIDE.replace("-infinity()", "-1e4f")),),
        ("no_keys", "causal"),
        field="PyTorch #103749",
    ),
    _mutant(
        "mask_column_pairs",
        "both columns of a lane are masked as the first of them",
        (Edit("const int key = n * 8 + c;", "const int key = n * 8;"),),
        ("causal",),
    ),
    _mutant(
        "mask_rows_of_lane",
        "both rows of a lane are masked as the first of them",
        (Edit(_ROW, _ROW.replace("(m, r)", "(m, 0)")),),
        ("causal",),
    ),
    _mutant(
        "mask_rows_of_warp",
        "every 16 rows of a warp are masked as the first 16",
        (Edit(_ROW, _ROW.replace("(m, r)", "(0, r)")),),
        ("causal",),
    ),
    _mutant(
        "whole_by_last_query",
        "a block is whole if the last query of the warp sees all of it: others see too much",
        (
            Edit(
                "= mask.end_key(warp_query) / kBlockN;",
                "= mask.end_key(last_warp_query) / kBlockN;",
            ),
        ),
        ("causal",),
    ),
    _mutant(
        "whole_by_first_query",
        "a block is whole if the first query of the warp sees it from its first key: the window "
        "of the last ones begins later",
        (
            Edit(
                "(mask.first_key(last_warp_query) + kBlockN - 1) / kBlockN;",
                "(mask.first_key(warp_query) + kBlockN - 1) / kBlockN;",
            ),
        ),
        ("window_back",),
    ),
    _mutant(
        "blocks_of_first_query",
        "only blocks that the first query of the tile sees are read: later queries lose keys",
        (Edit("(mask.end_key(last_query) + kBlockN", "(mask.end_key(block_query) + kBlockN"),),
        ("causal",),
    ),
    _mutant(
        "blocks_of_last_query",
        "only blocks that the last query of the tile sees are read: earlier queries lose keys",
        (
            Edit(
                "int begin_block = mask.first_key(block_query) / kBlockN;",
                "int begin_block = mask.first_key(last_query) / kBlockN;",
            ),
        ),
        ("window",),
    ),
    _mutant(
        "mask_inverted",
        "a boolean mask hides what it should show",
        (Edit("return (bits & 0xffu << 8 * i) == 0;", "return (bits & 0xffu << 8 * i) != 0;"),),
        ("mask",),
    ),
    _mutant(
        "mask_strides_swapped",
        "the boolean mask is read with its row and column strides exchanged",
        (
            Edit(
                "p.mask_row_stride, p.mask_col_stride}",
                "p.mask_col_stride, p.mask_row_stride}",
            ),
        ),
        ("mask",),
    ),
    _mutant(
        "mask_of_first_head",
        "every head is masked by the mask of head 0",
        (Edit("p.mask_batch_stride + head * p.mask_head_stride", "p.mask_batch_stride"),),
        ("mask",),
    ),
    _mutant(
        "bias_hides_nothing",
        "a bias of -inf is only added: NaN in a V that it hides comes through as 0 * NaN",
        (
            Edit(
                "result = result && !(exists(query, key) && to_float(bias.at(query, key)) == "
                "-infinity());",
                "",
            ),
        ),
        ("bias",),
        ("nan_in_v",),
    ),
)
