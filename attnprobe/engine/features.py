"""Features of the attention kernels: one row each, from which plan and launch take their part.

A row says which macro switches the feature's block of kernel text, when a problem needs it, and
which fields of ``AttentionParams`` it fills from the problem alone. Fields that are addresses and
strides of an array argument are filled at the launch (extras.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attnprobe.engine.problem import Problem

LOG2E = 1.0 / math.log(2.0)
# A scale of 0 must still send the -inf of a masked score to P = 0: 0 * -inf would be NaN.
SMALLEST_EXPONENT_SCALE = 1e-30

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
    """

    name: str
    define: str
    active: Callable[[Problem], bool]
    fields: Callable[[Problem], Fields] = lambda problem: {}


def _scaled(problem: Problem) -> bool:
    """Whether S must be in natural units before the softmax, because something is added to it."""
    return problem.softcap > 0 or problem.head_scales or problem.alibi or problem.bias is not None


def _window_fields(problem: Problem) -> Fields:
    # Open sides reach over everything: no query is further than this from a key.
    left_open = problem.seqlen_q + max(problem.diagonal, 0)
    right_open = problem.seqlen_k + max(-problem.diagonal, 0)
    left, right = problem.window
    return {
        "window_left": left_open if left < 0 else min(left, left_open),
        "window_right": right_open if right < 0 else min(right, right_open),
    }


def _scale_fields(problem: Problem) -> Fields:
    scale = 1.0 if problem.head_scales else abs(problem.softmax_scale)
    return {"score_scale": scale / (problem.softcap or 1.0)}


FEATURES: tuple[Feature, ...] = (
    Feature("aligned", "ATTN_ALIGNED", lambda p: p.aligned),
    Feature("window", "ATTN_WINDOW", lambda p: p.windowed, _window_fields),
    Feature("negated", "ATTN_NEGATED", lambda p: p.softmax_scale < 0 and not p.head_scales),
    Feature("scaled", "ATTN_SCALED", _scaled, _scale_fields),
    Feature("head_scale", "ATTN_HEAD_SCALE", lambda p: p.head_scales),
    Feature("softcap", "ATTN_SOFTCAP", lambda p: p.softcap > 0, lambda p: {"softcap": p.softcap}),
    Feature("alibi", "ATTN_ALIBI", lambda p: p.alibi),
    Feature("bias", "ATTN_BIAS", lambda p: p.bias is not None),
    Feature("bias_f32", "ATTN_BIAS_F32", lambda p: p.bias is not None and p.bias.name == "f32"),
    Feature("mask", "ATTN_MASK", lambda p: p.mask),
    Feature("sinks", "ATTN_SINKS", lambda p: p.sinks),
)


def exponent_scale(problem: Problem) -> float:
    """Return c in exp(s - m) = 2^((s - m) * c): log2(e) times what is left to scale."""
    remaining = 1.0 if _scaled(problem) else abs(problem.softmax_scale)
    return max(remaining * LOG2E, SMALLEST_EXPONENT_SCALE)
