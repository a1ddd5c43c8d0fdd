"""Plans can be changed on their way into a public call, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.plan import Plan, current_change, plans_changed

Q = np.random.default_rng(0).standard_normal((1, 20, 1, 16)).astype(np.float16)


def test_a_public_call_runs_the_changed_plan() -> None:
    seen: list[Plan] = []

    def change(plan: Plan) -> Plan:
        seen.append(plan)
        tile = replace(plan.variant, block_m=32, block_n=16, warps=2)
        return replace(plan, variant=tile)

    plain = attnprobe.attention(Q, Q, Q)
    with plans_changed(change):
        changed = attnprobe.attention(Q, Q, Q)
    assert len(seen) == 1
    np.testing.assert_allclose(changed.astype(np.float32), plain.astype(np.float32), atol=2e-3)


def test_the_change_ends_with_its_block_even_after_an_error() -> None:
    def refuse(plan: Plan) -> Plan:
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"), plans_changed(refuse):
        attnprobe.attention(Q, Q, Q)
    assert current_change() is None
    assert np.isfinite(attnprobe.attention(Q, Q, Q)).all()
