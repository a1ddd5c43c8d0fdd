"""What tests of the Hopper kernel share: a plan for a small Hopper GPU under public calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from attnprobe.arch import arch
from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.engine.problem import Problem
from attnprobe.engine.variants import Variant
from attnprobe.engine.wgmma import WGMMA
from attnprobe.formats import FORMATS

HOPPER = arch(90)


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
