"""Features of the attention kernels: one row each, from which plan and launch take their part.

A row says which macro switches the feature's block of kernel text, when a problem needs it, and
which fields of ``AttentionParams`` it fills.
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


def _window_fields(problem: Problem) -> Fields:
    # No query has more than seqlen_k keys before its own, nor more than seqlen_q after it.
    left, right = problem.window
    return {
        "window_left": problem.seqlen_k if left < 0 else min(left, problem.seqlen_k),
        "window_right": problem.seqlen_q if right < 0 else min(right, problem.seqlen_q),
    }


def _softcap_fields(problem: Problem) -> Fields:
    return {"softcap": problem.softcap, "score_scale": abs(problem.softmax_scale) / problem.softcap}


FEATURES: tuple[Feature, ...] = (
    Feature("aligned", "ATTN_ALIGNED", lambda problem: problem.aligned),
    Feature("window", "ATTN_WINDOW", lambda problem: problem.windowed, _window_fields),
    Feature("softcap", "ATTN_SOFTCAP", lambda problem: problem.softcap > 0, _softcap_fields),
    Feature("negated", "ATTN_NEGATED", lambda problem: problem.softmax_scale < 0),
)


def exponent_scale(problem: Problem) -> float:
    """Return c in exp(s - m) = 2^((s - m) * c): log2(e) times what is left to scale."""
    remaining = 1.0 if problem.softcap > 0 else abs(problem.softmax_scale)
    return max(remaining * LOG2E, SMALLEST_EXPONENT_SCALE)
