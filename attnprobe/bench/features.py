"""Features of attention as cases: what each is asked with, and which call it is held beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.bench.cases import Case

if TYPE_CHECKING:
    from attnprobe.bench.inputs import Inputs

SEQLEN, HEADS, HEAD_DIM = 16384, 16, 128
PLAIN, CAUSAL = "plain", "causal"

Value = Callable[["Inputs"], Any]


@dataclass(frozen=True)
class Feature:
    """One feature of a prefill call.

    Attributes
    ----------
    name : unique.
    options : keyword arguments of the call, fixed ones.
    arrays : keyword arguments that are made for the inputs.
    beside : name of the feature whose time is divided by this one's.
    aim : the least such factor that is wanted, 0 for none.
    causal : whether the call is causal.
    layout, page_size : as in ``Case``.
    rank, quick : as in ``Case``.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    arrays: tuple[tuple[str, Value], ...] = ()
    beside: str = PLAIN
    aim: float = 0.0
    causal: bool = False
    layout: str = "padded"
    page_size: int = 0
    rank: int = 1
    quick: bool = False

    @property
    def case(self) -> Case:
        """The case."""
        sizes = (1, HEADS, HEADS, SEQLEN, SEQLEN, HEAD_DIM)
        beside = "" if self.beside == self.name else f"feature {self.beside}"
        return Case(
            "feature",
            *sizes,
            self.causal,
            layout=self.layout,
            page_size=self.page_size,
            feature=self.name,
            beside=beside,
            aim=self.aim,
            rank=self.rank,
            quick=self.quick,
        )


def _per_head(inputs: Inputs) -> Any:
    return inputs.xp.asarray(2.0 ** -np.arange(1, inputs.case.heads + 1), np.float32)


def _plane(inputs: Inputs) -> Any:
    case = inputs.case
    return inputs.more(1, 1, case.seqlen_q, case.seqlen_k)


# fmt: off
FEATURES: dict[str, Feature] = {
    row.name: row
    for row in (
        Feature(PLAIN, rank=0, quick=True),
        Feature(CAUSAL, causal=True, aim=1.8, rank=0, quick=True),
        Feature("causal, window of 1024", (("window_size", (1024, 0)),), beside=CAUSAL, aim=6.0,
                causal=True, quick=True),
        Feature("softcap", (("softcap", 30.0),), quick=True),
        Feature("scale per head", arrays=(("softmax_scale", _per_head),)),
        Feature("ALiBi", arrays=(("alibi_slopes", _per_head),)),
        Feature("sinks", arrays=(("sinks", _per_head),)),
        Feature("bias, float16", arrays=(("bias", _plane),)),
        Feature("mask", arrays=(("mask", lambda inputs: _plane(inputs) < 1.3),)),
        Feature("float32 out", (("out_dtype", "float32"),)),
        Feature("LSE", (("return_lse", True),)),
        Feature("packed", layout="packed", quick=True),
        Feature("pages of 16", layout="paged", page_size=16, quick=True),
    )
}
# fmt: on

CASES: tuple[Case, ...] = tuple(row.case for row in FEATURES.values())
