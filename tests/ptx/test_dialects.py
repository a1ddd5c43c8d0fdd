"""The attention kernel in each dialect that NVRTC writes: the same text, the same result."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from attnprobe.arch import arch
from attnprobe.engine import launch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import make_problem


@cache
def output(cc: int) -> tuple[Any, Any]:
    """Return O and LSE of a small causal case, run checked from the PTX of ``compute_<cc>``."""
    rng = np.random.default_rng(11)
    q, k, v = (rng.standard_normal((1, 150, 2, 64)).astype(np.float16) for _ in range(3))
    specs = [take(name, array).spec(name) for name, array in (("q", q), ("k", k), ("v", v))]
    problem = make_problem(
        *specs, None, softmax_scale=None, causal=True, window_size=(-1, -1), softcap=0.0
    )
    plan = dataclasses.replace(make_plan(problem, launch.emulated_arch()), arch=arch(cc))
    O, lse = np.empty_like(q), launch.empty_lse(plan, q)
    launch.run_emulator(plan, q, k, v, O, lse, checked=True)
    return O, lse


@pytest.mark.parametrize("cc", [80, 100, 120])
def test_every_dialect_gives_the_same_attention(cc: int) -> None:
    O, lse = output(cc)
    wanted_O, wanted_lse = output(90)
    np.testing.assert_array_equal(O.view(np.uint16), wanted_O.view(np.uint16))
    np.testing.assert_array_equal(lse, wanted_lse)
