"""Features of the attention kernels: one row each, from which plan and launch take their part.

A row says which macro switches the feature's block of kernel text, when a problem needs it, and
which fields of ``AttentionParams`` it fills from the problem alone. Fields that are addresses and
strides of an array argument are filled at the launch (extras.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from attnprobe.engine.checks import MAX_SIZE
from attnprobe.engine.problem import Problem
from attnprobe.frozen import dataclass

LOG2E = 1.0 / math.log(2.0)
# A scale of 0 must still send the -inf of a masked score to P = 0: 0 * -inf would be NaN.
SMALLEST_EXPONENT_SCALE = 1e-30

# An open side of a window reaches over everything: no query is further than this from a key, and
# the sum of a query, a diagonal and this fits in 32 bits.
OPEN = 2 * MAX_SIZE

Fields = Mapping[str, float]


@dataclass(frozen=True)
class Feature:
    """One feature row.

    Attributes
    ----------
    name : what a plan prints.
    define : macro that is 1 where the feature is active and 0 elsewhere.
    active : whether a problem needs it.
    fields : values of its fields of ``AttentionParams``, by field name.
    asked : how a caller asks for it, for the table of features; "" where the engine decides.
    """

    name: str
    define: str
    active: Callable[[Problem], bool]
    fields: Callable[[Problem], Fields] = lambda problem: {}
    asked: str = ""


def _scaled(problem: Problem) -> bool:
    """Whether S must be in natural units before the softmax, because something is added to it."""
    by_head = problem.head_scales or (problem.k_descale and not problem.by_tile)
    return problem.softcap > 0 or by_head or problem.alibi or problem.bias is not None


def _window_fields(problem: Problem) -> Fields:
    left, right = problem.window
    return {
        "window_left": OPEN if left < 0 else min(left, OPEN),
        "window_right": OPEN if right < 0 else min(right, OPEN),
    }


def _scale_fields(problem: Problem) -> Fields:
    scale = 1.0 if problem.head_scales else abs(problem.softmax_scale)
    return {"score_scale": scale / (problem.softcap or 1.0)}


def _page_fields(problem: Problem) -> Fields:
    """Return the pages, and key / page_size as a multiplication and a shift, exact below 2^28."""
    size = problem.layout.page_size
    shift = MAX_SIZE.bit_length() - 1 + (size - 1).bit_length()
    return {
        "page_size": size,
        "num_pages": problem.layout.num_pages,
        "page_magic": -(-(1 << shift) // size),
        "page_shift": shift,
    }


def _none(problem: Problem) -> Fields:
    return {}


# fmt: off
FEATURES: tuple[Feature, ...] = (
    Feature("aligned", "ATTN_ALIGNED", lambda p: p.aligned),
    Feature("varlen_q", "ATTN_VARLEN_Q", lambda p: p.layout.varlen_q, _none,
            "packed queries: `cu_seqlens_q`"),
    Feature("varlen_k", "ATTN_VARLEN_K", lambda p: p.layout.varlen_k, _none,
            "packed keys: `cu_seqlens_k`"),
    Feature("seqused_k", "ATTN_SEQUSED_K", lambda p: p.layout.seqused_k, _none,
            "keys in use: `seqused_k`, `cache_seqlens`"),
    Feature("leftpad_k", "ATTN_LEFTPAD_K", lambda p: p.layout.leftpad_k, _none,
            "left padding: `cache_leftpad`"),
    Feature("paged", "ATTN_PAGED", lambda p: p.layout.page_size > 0, _page_fields,
            "pages: `block_table`"),
    Feature("bottom_right", "ATTN_BOTTOM_RIGHT", lambda p: p.diagonal is None),
    Feature("window", "ATTN_WINDOW", lambda p: p.windowed, _window_fields,
            "`causal`, `window_size`"),
    Feature("window_left", "ATTN_WINDOW_LEFT", lambda p: p.window[0] >= 0),
    Feature("negated", "ATTN_NEGATED", lambda p: p.softmax_scale < 0 and not p.head_scales),
    Feature("scaled", "ATTN_SCALED", _scaled, _scale_fields),
    Feature("head_scale", "ATTN_HEAD_SCALE", lambda p: p.head_scales, _none,
            "`softmax_scale` per head"),
    Feature("q_descale", "ATTN_Q_DESCALE", lambda p: p.q_descale, _none,
            "8-bit Q, with 8-bit K and V: `q_descale`"),
    Feature("k_descale", "ATTN_K_DESCALE", lambda p: p.k_descale, _none,
            "8-bit K: `k_descale`"),
    Feature("v_descale", "ATTN_V_DESCALE", lambda p: p.v_descale, _none,
            "8-bit V: `v_descale`"),
    Feature("softcap", "ATTN_SOFTCAP", lambda p: p.softcap > 0, lambda p: {"softcap": p.softcap},
            "`softcap`"),
    Feature("alibi", "ATTN_ALIBI", lambda p: p.alibi, _none, "`alibi_slopes`"),
    Feature("bias", "ATTN_BIAS", lambda p: p.bias is not None, _none, "`bias`"),
    Feature("bias_f32", "ATTN_BIAS_F32", lambda p: p.bias is not None and p.bias.name == "f32"),
    Feature("bias_dense", "ATTN_BIAS_DENSE", lambda p: p.bias_dense),
    Feature("bias_pairs", "ATTN_BIAS_PAIRS", lambda p: p.bias_pairs),
    Feature("mask", "ATTN_MASK", lambda p: p.mask, _none, "`mask`"),
    Feature("mask_dense", "ATTN_MASK_DENSE", lambda p: p.mask_dense),
    Feature("mask_pairs", "ATTN_MASK_PAIRS", lambda p: p.mask_pairs),
    Feature("sinks", "ATTN_SINKS", lambda p: p.sinks, _none, "`sinks`"),
)
# fmt: on


def exponent_scale(problem: Problem) -> float:
    """Return c in exp(s - m) = 2^((s - m) * c): log2(e) times what is left to scale."""
    remaining = 1.0 if _scaled(problem) else abs(problem.softmax_scale)
    return max(remaining * LOG2E, SMALLEST_EXPONENT_SCALE)
