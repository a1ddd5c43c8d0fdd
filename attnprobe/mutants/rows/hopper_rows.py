"""Mutants of the Hopper kernel's softmax and of its store."""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("wgmma", HOPPER_KERNEL)

_RESCALE = "softmax.rescale_output(O);"
_WAIT = "wgmma_wait_group<0>(); registers_change(O); "
_IF_RESCALED = "if (softmax.rescales()) softmax.rescale_output(O);"
_GROWN = "ex2_approx((row_max[r] - block_max) * exponent_scale)"
_AGAIN = "searches = again = warpgroup_any(warpgroup, softmax.outgrown());"
_OUTGROWN = "quad_any(sums[r] > Range::kMostSum)"
_QUAD = "shfl_bfly(odd ? w[g][i] : w[g][i + 1], 1)"
_UPPER = "shfl_bfly(upper ? w[g][i] : w[g][i + 2], 2)"
_PAIR = (
    "store_pair(O_row + columns.column(i / 4) + quad_lane * 2, O_acc[i] * factor, "
    "O_acc[i + 1] * factor);"
)

HOPPER_ROWS: tuple[Mutant, ...] = (
    # softmax
    _row(
        "wgmma_first_is_not_first",
        "the softmax of a tile goes on from the tile before",
        "softmax.step<true>(",
        "softmax.step<false>(",
        "hopper",
    ),
    _row(
        "wgmma_every_block_first",
        "maximum and sum begin anew in every block",
        "softmax.step_below(",
        "softmax.step<true>(",
        "hopper",
    ),
    _row("wgmma_rescale_missing", "O is never rescaled", _RESCALE, "", "hopper", by=("rising",)),
    _row(
        "wgmma_rescale_early",
        "O is rescaled while the product before still adds to it",
        _WAIT + _IF_RESCALED,
        _IF_RESCALED + " " + _WAIT,
        "hopper_causal",
        by=("rising",),
        timing=True,
    ),
    _row(
        "wgmma_rescale_rows",
        "rows r and r + 8 take each other's factors in turn with columns",
        "O[i] *= rescale[i % 4 / 2];",
        "O[i] *= rescale[i % 2];",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_rescale_of_first_rows",
        "O is rescaled only where one of the rows 0-7 of a warp asks for it",
        "rescale[0] != 1.0f || rescale[1] != 1.0f",
        "rescale[0] != 1.0f",
        "hopper",
        by=("outliers_100",),
    ),
    _row(
        "wgmma_rescale_inverse",
        "what was summed grows where it must shrink",
        _GROWN,
        "ex2_approx((block_max - row_max[r]) * exponent_scale)",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_sum_not_rescaled",
        "the sum of a row is not rescaled",
        "fma_rn(row_sum[r], rescale[r], sums[r])",
        "row_sum[r] + sums[r]",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_max_always_follows",
        "P is taken against each new maximum, and O rescaled only where it grew much",
        "row_max[r] = grown ? block_max : row_max[r];",
        "row_max[r] = max_f32(block_max, row_max[r]);",
        "hopper_causal",
    ),
    _row(
        "wgmma_max_of_lane",
        "each lane of a quad has a maximum of its own",
        "block_max = quad_max(block_max);",
        "",
        "hopper",
    ),
    _row(
        "wgmma_slack_too_wide",
        "where maxima are looked for they may lag by 2^20: P does not fit into 16 bits",
        "kOffset = 0.0f, kSlack = 8.0f",
        "kOffset = 0.0f, kSlack = 20.0f",
        "hopper_causal",
        by=("rising",),
    ),
    _row(
        "wgmma_no_slack",
        "O is rescaled for every new maximum",
        "kOffset = 0.0f, kSlack = 8.0f",
        "kOffset = 0.0f, kSlack = 0.0f",
        "hopper",
        equivalent="what P is taken against cancels out of O and LSE: slower, within the bounds",
    ),
    _row(
        "wgmma_no_key_guard",
        "a row that has seen no key yet is taken against a maximum of -inf",
        "row_max[r] == -infinity() ? kHuge : -row_max[r] * exponent_scale;",
        "-row_max[r] * exponent_scale;",
        "hopper_causal",
    ),
    _row(
        "wgmma_not_transformed",
        "scores go into the softmax without softcap and slopes",
        "transform_scores(S, planes, smem.planes + plane_ring.stage * kPlaneBytes, warp_row, "
        "transform, Mask(p, find_sequence(p, work.tile.batch), work.tile.head), query, key);",
        "",
        "hopper_softcap",
    ),
    _row(
        "wgmma_transformed_columns",
        "the second of two neighbouring keys gets the slope of the first",
        "s = transform(s, mask, query, key + 8 * n + i, added(n, i));",
        "s = transform(s, mask, query, key + 8 * n, added(n, i));",
        "hopper_softcap",
    ),
    _row(
        "wgmma_scale_halved",
        "where nobody looks for maxima half the scores' scale is taken",
        "softmax.step_below(S, p.exponent_scale);",
        "softmax.step_below(S, 0.5f * p.exponent_scale);",
        "hopper",
    ),
    # blocks in which nobody looks for maxima
    _row(
        "wgmma_growth_not_seen",
        "that a maximum has grown is not looked at",
        _AGAIN,
        "searches = again = false;",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_growth_by_warp",
        "each warp decides for itself whether S is computed again",
        _AGAIN,
        "searches = again = vote_any(softmax.outgrown());",
        "hopper",
        by=("outliers_100",),
    ),
    _row(
        "wgmma_most_sum_too_wide",
        "where nobody looks for maxima, P may be 2^30: it does not fit into 16 bits",
        "kMostSum = 32768.0f;",
        "kMostSum = 1073741824.0f;",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_growth_of_lane",
        "of the lanes of a row only those that saw its maximum grow let it follow",
        _OUTGROWN,
        "sums[r] > Range::kMostSum",
        "hopper",
        by=("rising",),
    ),
    _row(
        "wgmma_growth_of_first_row",
        "of the two rows of a lane the first says whether their maxima follow",
        _OUTGROWN,
        _OUTGROWN.replace("[r]", "[0]"),
        "hopper",
        by=("outliers_100",),
    ),
    _row(
        "wgmma_sums_not_added",
        "a block in which nobody looks for maxima is left out of the sum",
        "softmax.add_sums();",
        "",
        "hopper",
    ),
    # store
    _row(
        "wgmma_quad_words",
        "the first exchange of a quad hands over the word that was to stay",
        _QUAD,
        "shfl_bfly(odd ? w[g][i + 1] : w[g][i], 1)",
        "hopper",
    ),
    _row(
        "wgmma_quad_partner",
        "the second exchange of a quad is with the neighbour once more",
        _UPPER,
        _UPPER.replace(", 2)", ", 1)"),
        "hopper",
    ),
    _row(
        "wgmma_quad_sides",
        "odd and upper lanes of a quad are mixed up",
        "odd = lane_id() & 1, upper = lane_id() & 2;",
        "odd = lane_id() & 2, upper = lane_id() & 1;",
        "hopper",
    ),
    _row(
        "wgmma_store_column",
        "lanes of a quad store each other's eight columns",
        "columns.column(first / 4 + g * 4 + quad_lane)",
        "columns.column(first / 4 + g * 4 + (quad_lane ^ 1))",
        "hopper",
    ),
    _row(
        "wgmma_store_rows",
        "rows r and r + 8 of O are stored in each other's place",
        "const int row = query + r * 8;",
        "const int row = query + (1 - r) * 8;",
        "hopper",
    ),
    _row(
        "wgmma_store_past_the_end",
        "rows of the last tile that do not exist are stored",
        "end.factor, row < sequence.seqlen_q);",
        "end.factor, true);",
        "hopper",
    ),
    _row(
        "wgmma_store_undivided",
        "every second column is not divided by the sum",
        "O_acc[at + 1] * factor);",
        "O_acc[at + 1]);",
        "hopper",
    ),
    _row(
        "wgmma_store_pairs",
        "where O is stored in pairs, their columns are exchanged",
        _PAIR,
        _PAIR.replace("O_acc[i] * factor, O_acc[i + 1]", "O_acc[i + 1] * factor, O_acc[i]"),
        "hopper_out_unaligned",
    ),
    _row(
        "wgmma_sum_of_lane",
        "each lane divides by its own part of the sum",
        "quad_sum(row_sum[r])",
        "row_sum[r]",
        "hopper",
    ),
    _row(
        "wgmma_lse_of_first_row",
        "LSE of rows r + 8 is stored in place of rows r",
        "LSE_gmem[row] = end.lse;",
        "LSE_gmem[query] = end.lse;",
        "hopper",
    ),
    _row(
        "wgmma_lse_by_all",
        "all four lanes of a quad store LSE",
        "if (lane_id() % 4 == 0 && p.LSE != nullptr && row",
        "if (p.LSE != nullptr && row",
        "hopper",
        equivalent="they store the same number at the same place",
    ),
)
