"""Mutants of the online softmax and of the end of a row: maxima, sums, factors, O and LSE."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Argument, Edit, Mutant

_mutant = partial(Mutant, family="softmax")

LOG2E = 1.4426950408889634

_BIAS = "bias[m][r] = row_max[m][r] == -infinity() ? 0.0f : -row_max[m][r] * exponent_scale;"
_RESCALE = (
    "rescale[m][r] = grown ? ex2_approx((row_max[m][r] - block_max[m][r]) * exponent_scale) : 1.0f;"
)
_SUM = "row_sum[m][r] = fma_rn(row_sum[m][r], rescale[m][r], sums[m][r]);"
_GROWN = "const bool grown = (block_max[m][r] - row_max[m][r]) * exponent_scale > kSlack;"
_KEEP = "row_max[m][r] = grown ? block_max[m][r] : row_max[m][r];"
_MOST_SUM = "static constexpr float kMostSum = 128.0f;"
_ADD = "sums[m][r] += p0 + p1;"
_P0 = "const float p0 = ex2_approx(fma_rn(S_acc[m][n][2 * r], exponent_scale, bias[m][r]));"
_P1 = "p1 = ex2_approx(fma_rn(S_acc[m][n][2 * r + 1], exponent_scale, bias[m][r]));"
_QUAD_MAX = "for (int step = 1; step <= 2; step *= 2) {"
_QUAD_SUM = "return x + shfl_bfly(x, 2);"
_EMPTY = "if (sum == 0.0f) return {0.0f, -infinity()};"
_END = "return {__frcp_rn(sum) * shrink, max_log2 * kLn2 + logf(sum)};"
_CALL_RESCALE = "if (any_rescale(rescale)) rescale_output(O_acc, rescale);"
_STORE_LSE = "if (stores_lse && exists) LSE_gmem[query] = row.lse;"
_ROUND = 'asm("{ .reg .b16 h; cvt.rn.f16.f32 h, %0; cvt.f32.f16 %0, h; }" : "+f"(VALUE));'
_FOUND = "const bool found = !all_whole && take_copied_nonfinite<Element, VTile, kThreads>(V_tile);"
_ADD_FIRST = "if (visible[0]) O_acc[i + c] += to_float(value);"
_ADD_SECOND = "if (visible[1]) O_acc[i + 2 + c] += to_float(value);"
_LSE_FIELD = "SGLang #40903: LSE in base 2 merged as if natural"

SOFTMAX: tuple[Mutant, ...] = (
    _mutant(
        "rescale_missing",
        "what was accumulated in O keeps its scale when the maximum moves",
        (Edit(_CALL_RESCALE, ""),),
        ("plain",),
        ("rising",),
    ),
    _mutant(
        "sum_rescale_missing",
        "the row sum keeps its scale when the maximum moves",
        (Edit(_SUM, "row_sum[m][r] = row_sum[m][r] + sums[m][r];"),),
        ("plain",),
        ("rising",),
    ),
    _mutant(
        "rescale_inverse",
        "the factor of the rescale is exp(new maximum - old maximum)",
        (
            Edit(
                _RESCALE,
                "rescale[m][r] = !grown ? 1.0f : row_max[m][r] == -infinity() ? 0.0f : "
                "ex2_approx((block_max[m][r] - row_max[m][r]) * exponent_scale);",
            ),
        ),
        ("plain",),
        ("rising",),
    ),
    _mutant(
        "max_of_lane",
        "the maximum of a row is reduced over two of the four lanes that share it: its scores "
        "are shifted by different amounts",
        (Edit(_QUAD_MAX, _QUAD_MAX.replace("<= 2", "<= 1")),),
        ("plain",),
    ),
    _mutant(
        "sum_of_half_quad",
        "the sum of a row is reduced over two of the four lanes that share it",
        (Edit(_QUAD_SUM, "return x;"),),
        ("plain",),
    ),
    _mutant(
        "max_of_block",
        "the maximum is that of the latest block alone: what came before is scaled up instead, "
        "beyond all bounds where the maximum falls",
        (Edit(_GROWN, "const bool grown = true;"),),
        ("plain", "causal"),
        ("rising",),
    ),
    _mutant(
        "max_of_first_block",
        "the maximum is never moved after the first block: later scores may exceed it without end",
        (Edit(_GROWN, _GROWN.replace("= (", "= row_max[m][r] == -infinity() && (")),),
        ("plain", "causal"),
        ("rising",),
        field="flash-attention #2577",
    ),
    _mutant(
        "max_lazy_too_far",
        "the maximum is only moved when it rises by more than 2^20: P overflows 16 bits before",
        (
            Edit(_GROWN, _GROWN.replace("kSlack", "20.0f")),
            Edit(_MOST_SUM, _MOST_SUM.replace("128.0f", "524288.0f")),
        ),
        ("plain", "causal"),
        ("rising",),
        field="flash-attention #2577",
    ),
    _mutant(
        "max_missing",
        "exp(S) without a maximum: P overflows where a score is above 11",
        (
            Edit(_KEEP, "row_max[m][r] = grown ? 0.0f : row_max[m][r];"),
            Edit(_RESCALE, "rescale[m][r] = 1.0f;"),
        ),
        ("plain",),
        ("scores_plus_1000", "scores_minus_100"),
    ),
    _mutant(
        "max_of_odd_keys",
        "the maximum looks at every second key only",
        (
            Edit(
                "block_max[m][r] = max_f32(S_acc[m][0][2 * r], S_acc[m][0][2 * r + 1]);",
                "block_max[m][r] = S_acc[m][0][2 * r + 1];",
            ),
            Edit(
                "max_f32(block_max[m][r], max_f32(S_acc[m][n][2 * r], S_acc[m][n][2 * r + 1]));",
                "max_f32(block_max[m][r], S_acc[m][n][2 * r + 1]);",
            ),
        ),
        ("plain",),
        ("outliers_100",),
    ),
    _mutant(
        "no_key_guard_removed",
        "a row that has seen no key yet computes -inf - -inf",
        (Edit(_BIAS, "bias[m][r] = -row_max[m][r] * exponent_scale;"),),
        ("causal", "no_keys"),
    ),
    _mutant(
        "exp_base_2",
        "2^S instead of e^S: the factor log2(e) is missing",
        (Argument("exponent_scale", "/ log2(e)", lambda f: f["exponent_scale"] / LOG2E),),
        ("plain",),
    ),
    _mutant(
        "scale_twice",
        "the softmax scale is applied twice",
        (Argument("exponent_scale", "* 1/8", lambda f: f["exponent_scale"] / 8),),
        ("plain",),
    ),
    _mutant(
        "scale_missing",
        "the scores are not scaled",
        (Argument("exponent_scale", "log2(e)", lambda f: LOG2E),),
        ("plain",),
    ),
    _mutant(
        "scale_off_by_5_percent",
        "the softmax scale is 5 % too large: 24 of 25 tokens of a model stay the same",
        (Argument("exponent_scale", "* 1.05", lambda f: f["exponent_scale"] * 1.05),),
        ("plain",),
    ),
    _mutant(
        "scale_in_16_bits",
        "the scale is rounded to 16 bits: an error of a thousandth in every score",
        (
            Argument(
                "exponent_scale",
                "rounded to bf16",
                lambda f: round(f["exponent_scale"] * 1024) / 1024,
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "sum_in_fp16",
        "the row sum is kept in fp16 while it grows",
        (Edit(_ADD, f"{_ADD} {_ROUND.replace('VALUE', 'sums[m][r]')}", 2),),
        ("plain",),
    ),
    _mutant(
        "sum_of_even_keys",
        "every second key is left out of the row sum",
        (Edit(_ADD, "sums[m][r] += p0;", 2),),
        ("plain",),
    ),
    _mutant(
        "sum_starts_at_one",
        "the row sum starts at 1 instead of 0, as if there were a sink",
        (Edit("row_sum[m][0] = row_sum[m][1] = 0.0f;", "row_sum[m][0] = row_sum[m][1] = 1.0f;"),),
        ("no_keys", "plain"),
        (),
        equivalent="the first block multiplies what was there before by exp(-inf) = 0; a row "
        "without any block has O = 0 times any factor, and LSE = -inf plus any number",
    ),
    _mutant(
        "sum_of_rounded_p",
        "the row sum adds P as it is after its rounding to 16 bits",
        (
            Edit(
                _ADD,
                "float r0 = p0, r1 = p1; "
                f"{_ROUND.replace('VALUE', 'r0')} {_ROUND.replace('VALUE', 'r1')} "
                "sums[m][r] += r0 + r1;",
                2,
            ),
        ),
        ("plain",),
        ("rising", "extremes"),
    ),
    _mutant(
        "p_gains",
        "every exponential is 0.1 % too large: O does not change, LSE does",
        (
            Edit(_P0, _P0.replace("bias[m][r]))", "bias[m][r])) * 1.001f"), 2),
            Edit(_P1, _P1.replace("bias[m][r]))", "bias[m][r])) * 1.001f"), 2),
        ),
        ("plain",),
    ),
    _mutant(
        "nan_swallowed",
        "a row whose sum is not above 0 counts as empty, and so does one whose sum is NaN",
        (Edit(_EMPTY, _EMPTY.replace("sum == 0.0f", "!(sum > 0.0f)")),),
        ("plain", "causal"),
        ("nan_in_q",),
        field="FlashAttention-3 turns a NaN row sum into O = 0",
    ),
    _mutant(
        "empty_row_divided",
        "a row with no key divides 0 by 0",
        (Edit(_EMPTY, ""),),
        ("no_keys",),
        field="PyTorch #103749, #103963",
    ),
    _mutant(
        "empty_row_plus_infinity",
        "the LSE of a row with no key is +inf",
        (Edit(_EMPTY, _EMPTY.replace("-infinity()", "infinity()")),),
        ("no_keys",),
        field="FlashMLA #77",
    ),
    _mutant(
        "not_divided",
        "O is not divided by the row sum",
        (Edit(_END, _END.replace("__frcp_rn(sum) * shrink", "shrink")),),
        ("plain",),
    ),
    _mutant(
        "lse_base_2",
        "LSE is a logarithm to base 2",
        (Edit(_END, _END.replace("max_log2 * kLn2 + logf(sum)", "max_log2 + log2f(sum)")),),
        ("plain",),
        field=_LSE_FIELD,
    ),
    _mutant(
        "lse_mixed_bases",
        "LSE adds a maximum in base 2 to a natural logarithm",
        (Edit(_END, _END.replace("max_log2 * kLn2", "max_log2")),),
        ("plain",),
        field=_LSE_FIELD,
    ),
    _mutant(
        "lse_sign",
        "LSE has the opposite sign",
        (Edit(_END, _END.replace("max_log2 * kLn2 + logf(sum)", "-max_log2 * kLn2 - logf(sum)")),),
        ("plain",),
    ),
    _mutant(
        "lse_without_max",
        "LSE is the logarithm of the sum, without the maximum",
        (Edit(_END, _END.replace("max_log2 * kLn2 + ", "")),),
        ("plain",),
    ),
    _mutant(
        "lse_unscaled_max",
        "LSE adds the maximum before its scaling",
        (Edit("float max_log2 = row_max * p.exponent_scale;", "float max_log2 = row_max;"),),
        ("plain",),
    ),
    _mutant(
        "lse_not_stored",
        "the LSE of rows g + 8 is not stored",
        (Edit(_STORE_LSE, f"if (r == 0) {{ {_STORE_LSE} }}"),),
        ("plain",),
    ),
    _mutant(
        "lse_from_another_lane",
        "lane 3 of a quad stores LSE instead of lane 0",
        (Edit("stores_lse = lane_id() % 4 == 0 &&", "stores_lse = lane_id() % 4 == 3 &&"),),
        ("plain",),
        (),
        equivalent="after the reductions all four lanes of a quad hold the same maximum and sum, "
        "bit for bit: whichever of them stores writes the same number to the same place",
    ),
    _mutant(
        "nonfinite_ignored",
        "NaN and infinities in V are not taken out of masked blocks: rows that do not see them get "
        "0 * NaN",
        (Edit(_FOUND, "const bool found = false;"),),
        ("causal", "window"),
        ("nan_in_v", "inf_in_v"),
        field="flash-attention #1745, flashinfer #941",
    ),
    _mutant(
        "nonfinite_low_half",
        "only the lower of two neighbouring elements of V is tested for NaN and infinity",
        (
            Edit(
                "(pair & kExponents) + kLowest & 0x80008000u;",
                "(pair & kExponents) + kLowest & 0x8000u;",
            ),
        ),
        ("causal",),
        ("nan_in_v",),
    ),
    _mutant(
        "nonfinite_swallowed",
        "NaN and infinities in V are taken out of masked blocks and not put back",
        (
            Edit(_ADD_FIRST, ""),
            Edit(_ADD_SECOND, ""),
        ),
        ("causal",),
        ("nan_in_v", "inf_in_v"),
    ),
    _mutant(
        "infinity_becomes_nan",
        "an infinity of V is put back as NaN",
        (
            Edit(_ADD_FIRST, _ADD_FIRST.replace("(value)", "(value) * 0.0f")),
            Edit(_ADD_SECOND, _ADD_SECOND.replace("(value)", "(value) * 0.0f")),
        ),
        ("causal",),
        ("inf_in_v",),
    ),
)
