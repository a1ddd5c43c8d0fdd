"""Every barrier, wait and commit of the decode kernel is needed, and its absence is seen.

But for its two ``__syncwarp()``: the emulator runs the lanes of a warp in step, so nothing goes
wrong without them there. A GPU promises no such thing; compute-sanitizer's racecheck looks at them.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe.engine import launch, make_plan
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan
from attnprobe.engine.problem import make_problem
from attnprobe.errors import EmulatorError

_CALL = re.compile(
    r"^\s+(?:__syncthreads\(\)|cp_async_wait_group<[^;]*>\(\)|cp_async_commit_group\(\));",
    re.M,
)
FOUND = 6  # two barriers of the block, two waits, two commits


def plan() -> Plan:
    specs = [take(n, a).spec(n) for n, a in zip("qkv", arrays(), strict=True)]
    return make_plan(make_problem(*specs, None, num_splits=2), launch.emulated_arch())


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, n, 1, 32)).astype(np.float16) for n in (1, 500, 500)]


def calls(text: str, entry: str) -> list[re.Match[str]]:
    """Return every call of a barrier, wait or commit in the kernel body (not in the wrappers)."""
    return [match for match in _CALL.finditer(text) if match.start() > text.index(f" {entry}(")]


def run(source: compile_.Source | None) -> np.ndarray:
    q, k, v = arrays()
    O, made = np.full_like(q, np.nan), plan()
    launch.run_emulator(made, q, k, v, O, launch.empty_lse(made, q), source=source, checked=True)
    return O


def test_the_kernel_itself_passes() -> None:
    assert np.isfinite(run(None)).all()


def test_there_is_something_to_delete() -> None:
    assert len(calls(plan().source().text, "attention_decode_split")) == FOUND


@pytest.mark.parametrize("number", range(FOUND))
def test_deleting_any_one_is_caught(number: int) -> None:
    source = plan().source()
    match = calls(source.text, "attention_decode_split")[number]
    without = source.text[: match.start()] + source.text[match.end() :]
    with pytest.raises(EmulatorError) as caught:
        run(compile_.Source(without, source.name))
    message = str(caught.value)
    assert "warp" in message
    assert ".cu" in message
