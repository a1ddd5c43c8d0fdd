"""Mutants of new rows behind a cache, of their rotation, and of results that are merged."""

from __future__ import annotations

from attnprobe.mutants.mutant import APPEND_KERNEL, MERGE_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_append = Edited("append", APPEND_KERNEL)
_merge = Edited("merge", MERGE_KERNEL)

_FACTORS = "weight_a * __frcp_rn(sum), factor_b = weight_b * __frcp_rn(sum);"
_ROUNDED = "bits += (1u << (kMantissaCut - 1)) - 1u + (bits >> kMantissaCut & 1u);"

APPENDING: tuple[Mutant, ...] = (
    # rotation
    _append(
        "append_q_position",
        "all queries are rotated as if they stood at the first new position",
        "before + (p.q_advances ? row : 0);",
        "before;",
        "append",
    ),
    _append(
        "append_k_position",
        "all new keys are rotated as if they stood at the first new position",
        "p.k_new_head_stride, d, before + row)",
        "p.k_new_head_stride, d, before)",
        "append",
    ),
    _append(
        "append_turned_back",
        "rows are turned the other way",
        "second ? turned : -turned",
        "second ? -turned : turned",
        "append",
        field="a test with q and k rotated alike cannot see it: scores depend on the difference",
    ),
    _append(
        "append_pair_of_halves",
        "pairs beside each other take the angles of pairs half a row apart",
        "p.interleaved ? d / 2 : d % half",
        "d % half",
        "append_interleaved",
    ),
    _append(
        "append_partner_of_halves",
        "pairs beside each other are turned with the element half a row away",
        "p.interleaved ? d ^ 1 : (",
        "(",
        "append_interleaved",
    ),
    _append(
        "append_interleaved_always",
        "pairs half a row apart are taken for pairs beside each other",
        "const bool second = p.interleaved ? d % 2 == 1 : d >= half;",
        "const bool second = d % 2 == 1;",
        "append",
    ),
    _append(
        "append_rotated_whole",
        "dimensions past rotary_dim are rotated too",
        "if (d >= p.rotary_dim) return own;",
        "",
        "append",
    ),
    _append(
        "append_table_row",
        "rows of the tables are taken to be as long as what is rotated",
        "p.positions - 1)) * half + pair",
        "p.positions - 1)) * p.rotary_dim + pair",
        "append",
    ),
    _append(
        "append_cos_for_sin",
        "the partner is multiplied by the cosine",
        "other * p.rotary_sin[entry]",
        "other * p.rotary_cos[entry]",
        "append",
    ),
    # where rows go
    _append(
        "append_same_row",
        "all new rows are written to the first free row of the cache",
        "cache_row(p, batch, leftpad, before + row);",
        "cache_row(p, batch, leftpad, before);",
        "append",
    ),
    _append(
        "append_page_of_next",
        "a row goes to the page of the row behind it",
        "[batch * p.block_table_batch_stride + row / p.page_size]",
        "[batch * p.block_table_batch_stride + (row + 1) / p.page_size]",
        "append",
    ),
    _append(
        "append_table_of_first",
        "every sequence writes to the pages of the first",
        "p.block_table[batch * p.block_table_batch_stride +",
        "p.block_table[",
        "append",
    ),
    _append(
        "append_batch_of_first",
        "every sequence writes to the first one's part of a cache in one piece",
        "return {batch, key + leftpad, true};",
        "return {0, key + leftpad, true};",
        "append_interleaved",
    ),
    _append(
        "append_not_counted",
        "the new keys are not counted among those in use",
        "min(leftpad + before + p.seqlen_new, p.capacity);",
        "min(leftpad + before, p.capacity);",
        "append",
    ),
    _append(
        "append_k_stride_of_v",
        "the heads of K are as far apart as those of V",
        "K_gmem[head * p.k_head_stride + d]",
        "K_gmem[head * p.v_head_stride + d]",
        "append_interleaved",
    ),
    # bytes
    _append(
        "append_scaled_up",
        "new keys are multiplied by the descale instead of divided",
        "from_float<Cache>(value / scale)",
        "from_float<Cache>(value * scale)",
        "append_e4m3",
    ),
    _append(
        "append_v_by_k_descale",
        "new values are divided by the descale of K",
        "descale(p.v_descale, p.v_descale_batch_stride, p.v_descale_head_stride, batch, head)",
        "descale(p.k_descale, p.k_descale_batch_stride, p.k_descale_head_stride, batch, head)",
        "append_e4m3",
    ),
    _append(
        "append_cut_off",
        "what does not fit into e4m3's mantissa is cut off and not rounded",
        _ROUNDED,
        "",
        "append_e4m3",
    ),
    _append(
        "append_ties_up",
        "ties between two e4m3 go up instead of to the even one",
        _ROUNDED,
        "bits += 1u << (kMantissaCut - 1);",
        "append_e4m3",
    ),
    _append(
        "append_subnormals_normal",
        "numbers below the least normal e4m3 are written as normal ones",
        "if (magnitude < kLeastNormal) {",
        "if (false) {",
        "append_e4m3",
    ),
    _append(
        "append_cut_at_240",
        "e4m3 is cut at 240, which is another format's greatest number",
        "kMost = 448.0f",
        "kMost = 240.0f",
        "append_e4m3",
        by=("scores_plus_1000",),
    ),
    _append(
        "append_int8_symmetric",
        "int8 is cut at -127",
        "fmaxf(value, -128.0f)",
        "fmaxf(value, -127.0f)",
        "append_int8",
        by=("outliers_100",),
    ),
    # merging
    _merge(
        "merge_weights_exchanged",
        "each side has the weight of the other",
        _FACTORS,
        "weight_b * __frcp_rn(sum), factor_b = weight_a * __frcp_rn(sum);",
        "merge",
    ),
    _merge(
        "merge_not_divided",
        "weights do not sum to 1",
        _FACTORS,
        "weight_a, factor_b = weight_b;",
        "merge",
    ),
    _merge(
        "merge_base_2",
        "the logarithms are taken for ones of base 2",
        "ex2_approx((a - shift) * kLog2e), weight_b = ex2_approx((b - shift) * kLog2e);",
        "ex2_approx(a - shift), weight_b = ex2_approx(b - shift);",
        "merge",
    ),
    _merge(
        "merge_max_of_first",
        "the shift is the first side's LSE, whichever is greater",
        "const float top = max_f32(a, b);",
        "const float top = a;",
        "merge",
        by=("one_hot",),
    ),
    _merge(
        "merge_lse_of_greater",
        "LSE is that of the greater side",
        "top + logf(sum)",
        "top",
        "merge",
    ),
    _merge(
        "merge_empty_first_read",
        "O of a first side without keys is read",
        "if (has_a) {",
        "if (true) {",
        "merge",
    ),
    _merge(
        "merge_empty_second_read",
        "O of a second side without keys is read",
        "if (has_b) {",
        "if (true) {",
        "merge",
    ),
    _merge(
        "merge_no_key_guard",
        "where no side has a key, the shift is -inf",
        "top == -infinity() ? 0.0f : top",
        "top",
        "merge",
        equivalent="the weights become NaN, and neither they nor their sum are used where no side "
        "has a key",
    ),
    _merge(
        "merge_first_batch",
        "every batch entry is the first",
        "const i64_t batch = number / p.num_heads / p.rows;",
        "const i64_t batch = 0;",
        "merge",
    ),
    _merge(
        "merge_strides_of_first",
        "rows of the second O are as far apart as those of the first",
        "row * p.o_b_row_stride",
        "row * p.o_a_row_stride",
        "merge",
    ),
    _merge(
        "merge_lse_strides_of_first",
        "rows of the second LSE are as far apart as those of the first",
        "row * p.lse_b_row_stride",
        "row * p.lse_a_row_stride",
        "merge_f32",
    ),
    _merge(
        "merge_one_pass",
        "columns that a second pass of the warp would write are left out",
        "column += kWarpSize * 2",
        "column += p.width",
        "merge",
    ),
)
