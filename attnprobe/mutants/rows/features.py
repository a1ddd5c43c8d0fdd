"""Mutants of the features: softcap, ALiBi, bias, sinks, scales per head, negative scales."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Argument, Define, Edit, Mutant

_mutant = partial(Mutant, family="features")

_CAP = "s = softcap * tanh_accurate(s);"
_ALIBI = "s = fma_rn(-slope, static_cast<float>(abs(query + mask.diagonal - key)), s);"
_BIAS = "s = fma_rn(s, scale, bias);"
_TRANSFORM = "        transform_scores(S_acc, rows, first_key);\n"
_MASKED = "if (!whole) mask_scores(S_acc, rows, first_key + part * kPartKeys);\n"
_LEFT = "return query < mask.plane_rows ? mask.plane_cols - key : 0;"
_SLOPE = "p.alibi_slopes[batch * p.alibi_slopes_batch_stride + head * p.alibi_slopes_head_stride];"
_SINK = "const float sink_log2 = p.sinks[head] * kLog2e;"
_END = "return {__frcp_rn(sum) * shrink, max_log2 * kLn2 + logf(sum)};"
_WITH_SINK = "sum = fma_rn(sum, shrink, ex2_approx(sink_log2 - with_sink));"
_BIAS_STRIDES = "p.bias_row_stride, p.bias_col_stride}"

FEATURES: tuple[Mutant, ...] = (
    _mutant(
        "softcap_after_mask",
        "scores are capped after the mask: a hidden key gets -softcap instead of -inf",
        (Edit(_TRANSFORM, ""), Edit(_MASKED, _MASKED + _TRANSFORM)),
        ("softcap",),
    ),
    _mutant(
        "softcap_missing",
        "scores are not capped",
        (Edit(_CAP, "s = softcap * s;"),),
        ("softcap",),
    ),
    _mutant(
        "softcap_unscaled",
        "the cap is applied to the scores before their scaling",
        (
            Argument("score_scale", "1", lambda f: 1.0),
            Argument("exponent_scale", "* scale", lambda f: f["exponent_scale"] * f["score_scale"]),
        ),
        ("softcap",),
    ),
    _mutant(
        "softcap_not_multiplied",
        "tanh(S / cap) is not multiplied by the cap",
        (Edit(_CAP, "s = tanh_accurate(s);"),),
        ("softcap",),
    ),
    _mutant(
        "tanh_short_series",
        "tanh lacks the highest power of its numerator: off by up to half",
        (
            Edit(
                "float top = fma_rn(1.1428413927205838e-05f, square, 0.0029510229360312223f);",
                "float top = 0.0029510229360312223f;",
            ),
        ),
        ("softcap",),
    ),
    _mutant(
        "alibi_sign",
        "the slope is added instead of subtracted: far keys win",
        (Edit(_ALIBI, _ALIBI.replace("-slope", "slope")),),
        ("alibi",),
    ),
    _mutant(
        "alibi_top_left",
        "the distance is counted as if query 0 were aligned with key 0",
        (Edit(_ALIBI, _ALIBI.replace(" + mask.diagonal", "")),),
        ("alibi",),
        field="flash-attention: ALiBi with more keys than queries",
    ),
    _mutant(
        "alibi_signed_distance",
        "keys after the aligned one are favoured instead of punished",
        (
            Edit(
                _ALIBI,
                _ALIBI.replace("abs(query + mask.diagonal - key)", "(query + mask.diagonal - key)"),
            ),
        ),
        ("alibi",),
    ),
    _mutant(
        "alibi_of_first_head",
        "every head has the slope of head 0",
        (Edit(_SLOPE, _SLOPE.replace(" + head * p.alibi_slopes_head_stride", "")),),
        ("alibi",),
    ),
    _mutant(
        "alibi_of_first_batch",
        "every batch entry has the slopes of the first",
        (Edit(_SLOPE, _SLOPE.replace("batch * p.alibi_slopes_batch_stride + ", "")),),
        ("alibi",),
    ),
    _mutant(
        "alibi_before_scale",
        "ALiBi is scaled as the scores are",
        (Edit(_ALIBI, _ALIBI.replace("-slope", "-slope * 0.125f")),),
        ("alibi",),
    ),
    _mutant(
        "bias_strides_swapped",
        "the bias is read with its row and column strides exchanged",
        (Edit(_BIAS_STRIDES, "p.bias_col_stride, p.bias_row_stride}"),),
        ("bias",),
    ),
    _mutant(
        "bias_of_first_head",
        "every head gets the bias of head 0",
        (Edit("p.bias_batch_stride + head * p.bias_head_stride", "p.bias_batch_stride"),),
        ("bias",),
    ),
    _mutant(
        "bias_scaled",
        "the bias is scaled as the scores are",
        (Edit(_BIAS, _BIAS.replace("bias", "scale * bias")),),
        ("bias",),
    ),
    _mutant(
        "bias_sign",
        "the bias is subtracted",
        (Edit(_BIAS, _BIAS.replace("bias", "-bias")),),
        ("bias",),
    ),
    _mutant(
        "bias_read_outside",
        "the bias is read for keys and queries that it does not have",
        (Edit(_LEFT, "return kCount * 8;"),),
        ("bias",),
        ("normal",),
    ),
    _mutant(
        "bias_other_format",
        "a bias in 32 bits is read as one in 16",
        (Define("ATTN_BIAS_F32", "0", lambda macros: 0),),
        ("bias_f32",),
    ),
    _mutant(
        "sink_missing",
        "the sink does not join the sum",
        (Define("ATTN_SINKS", "0", lambda macros: 0),),
        ("sinks",),
    ),
    _mutant(
        "sink_base_2",
        "the sink is taken for a logit of base 2",
        (Edit(_SINK, _SINK.replace(" * kLog2e", "")),),
        ("sinks",),
    ),
    _mutant(
        "sink_scaled",
        "the sink is scaled as the scores are",
        (Edit(_SINK, _SINK.replace("kLog2e", "p.exponent_scale")),),
        ("sinks",),
    ),
    _mutant(
        "sink_of_first_head",
        "every head has the sink of head 0",
        (Edit(_SINK, _SINK.replace("p.sinks[head]", "p.sinks[0]")),),
        ("sinks",),
    ),
    _mutant(
        "sink_without_shrink",
        "O keeps its scale although the sink is the maximum",
        (Edit(_END, _END.replace(" * shrink", "")),),
        ("sinks",),
    ),
    _mutant(
        "sink_counted_in_v",
        "the sink has a value: O is multiplied by the share of all keys once more",
        (
            Edit(
                _WITH_SINK,
                "const float keys = sum * shrink; " + _WITH_SINK + " shrink *= keys / sum;",
            ),
        ),
        ("sinks",),
    ),
    _mutant(
        "sink_not_in_lse",
        "LSE leaves the sink out",
        (
            Edit(
                _WITH_SINK, "const float keys = sum * shrink; " + _WITH_SINK + " all_keys = keys;"
            ),
            Edit("float shrink = 1.0f;", "float shrink = 1.0f, all_keys = sum;"),
            Edit(_END, _END.replace("logf(sum)", "logf(all_keys)")),
        ),
        ("sinks",),
        field="FlashAttention-3: LSE with and without its sink",
    ),
    _mutant(
        "head_scale_of_first",
        "every head has the softmax scale of head 0",
        (Edit("p.head_scales[head];", "p.head_scales[0];"),),
        ("head_scales",),
    ),
    _mutant(
        "negative_scale_lost",
        "the sign of a negative softmax scale is lost",
        (Define("ATTN_NEGATED", "0", lambda macros: 0),),
        ("negative",),
    ),
)
