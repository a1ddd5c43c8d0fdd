"""What tests of the Hopper kernel share: a plan for a small Hopper GPU under public calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from attnprobe.arch import arch
from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.engine.problem import Problem
from attnprobe.engine.variants import Variant
from attnprobe.engine.wgmma import WGMMA
from attnprobe.formats import FORMATS

HOPPER = arch(90)

# What is read for every score -> fields of a problem; "mapped" where a tensor map describes it.
F32, BF16 = FORMATS["f32"], FORMATS["bf16"]
PAIRED_BIAS = {"bias_dense": True, "bias_pairs": True}
MAPPED_BIAS = {**PAIRED_BIAS, "bias_mappable": True}
PAIRED_MASK = {"mask": True, "mask_dense": True, "mask_pairs": True}
MAPPED_MASK = {**PAIRED_MASK, "mask_mappable": True}
PLANES: dict[str, dict[str, Any]] = {
    "bias": {"bias": BF16, **PAIRED_BIAS},
    "bias, unaligned": {"bias": BF16, "bias_dense": True},
    "bias, mapped": {"bias": BF16, **MAPPED_BIAS},
    "bias in f32": {"bias": F32, **PAIRED_BIAS},
    "bias in f32, mapped": {"bias": F32, **MAPPED_BIAS},
    "mask": PAIRED_MASK,
    "mask, unaligned": {"mask": True, "mask_dense": True},
    "mask, mapped": MAPPED_MASK,
    "both": {"bias": BF16, **PAIRED_BIAS, **PAIRED_MASK},
    "both, mapped": {"bias": BF16, **MAPPED_BIAS, **MAPPED_MASK},
    "both, mapped, in f32": {"bias": F32, **MAPPED_BIAS, **MAPPED_MASK},
    "both, any strides, with a softcap": {"bias": F32, "mask": True, "softcap": 9.0},
}


def make(head_dim: int = 128, **changes: object) -> Problem:
    """Return a problem that the Hopper kernel takes, with some of its fields exchanged."""
    f16 = FORMATS["f16"]
    sizes = (2, 2048, 2048, 8, 2, head_dim, head_dim)
    plain = Problem(*sizes, f16, 0.125, (-1, -1), 0.0, True, f16, f16, mappable=True)
    return replace(plain, **changes)  # type: ignore[arg-type]


@contextmanager
def hopper_plans(blocks: int = 2, rows: Sequence[Variant] = WGMMA) -> Iterator[list[Plan]]:
    """Public calls on the emulator plan for a small Hopper GPU: each block computes many tiles.

    All of them must take one of ``rows``.
    """
    seen: list[Plan] = []

    def change(plan: Plan) -> Plan:
        with plans_changed(lambda same: same):
            seen.append(make_plan(plan.problem, replace(HOPPER, multiprocessors=blocks)))
        return seen[-1]

    with plans_changed(change):
        yield seen
    assert all(plan.variant in rows for plan in seen)
