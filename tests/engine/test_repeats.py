"""The same call gives the same bits, however often and beside whatever it runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.arch import arch
from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.rig.libraries import LIBRARIES

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import repeats

REPEATS = 1000

# name -> the public call, lengths of queries and keys, heads, K/V heads, head_dim, arguments: many
# tiles, few tiles, and parts that are computed apart and combined.
CASES: dict[str, tuple[int, int, int, int, int, dict[str, Any]]] = {
    "causal, many tiles": (1500, 1500, 8, 2, 64, {"causal": True}),
    "head_dim 128": (300, 1000, 8, 8, 128, {}),
    "head_dim 256, causal": (500, 700, 4, 4, 256, {"causal": True}),
    "window and scores": (700, 700, 8, 4, 64, {"window_size": (90, 30), "softcap": 9.0}),
    "one tile": (16, 40, 1, 1, 64, {}),
    "decode in splits": (1, 3000, 8, 2, 128, {"num_splits": 13}),
    "decode, wide": (1, 900, 16, 1, 576, {"num_splits": 3}),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_repeats_have_the_same_bits(name: str) -> None:
    import cupy

    queries, keys, heads, kv_heads, width, arguments = CASES[name]
    rng = np.random.default_rng(1)
    q, k, v = (
        cupy.asarray(rng.standard_normal((2, rows, count, width)).astype(np.float16))
        for rows, count in ((queries, heads), (keys, kv_heads), (keys, kv_heads))
    )
    if width > 512:
        v = v[..., :512]
    first = attnprobe.attention(q, k, v, **arguments, return_lse=True)
    differing = cupy.zeros((), np.int64)
    for _ in range(REPEATS):
        again = attnprobe.attention(q, k, v, **arguments, return_lse=True)
        for mine, yours in zip(first, again, strict=True):
            differing += (mine != yours).any()
    assert int(differing) == 0


class _Planned(Exception):
    """Enough is known of a call."""


@pytest.mark.parametrize("row", repeats.ROWS, ids=lambda row: row.case.name)
def test_rows_of_the_tool_are_of_the_kernels_that_they_name(
    row: repeats.Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIBRARIES, "cupy", LIBRARIES["numpy"])
    planned: list[str] = []

    def note(plan: Plan) -> Plan:
        with plans_changed(lambda same: same):
            there = make_plan(replace(plan.problem, mappable=True), arch(90))
        planned.extend(step.entry for step in repeats.forced(there, row.forced).steps)
        raise _Planned

    with plans_changed(note), pytest.raises(_Planned):
        repeats.call_of(row)()
    assert set(row.kernels) <= {*planned, repeats.APPEND, repeats.MERGE}
