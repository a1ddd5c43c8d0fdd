"""Every barrier, wait and commit of the attention kernel is needed, and its absence is seen."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe.engine import launch, make_plan
from attnprobe.engine.arrays import take
from attnprobe.engine.problem import make_problem
from attnprobe.errors import EmulatorError

# The barrier also tells what somebody found: without it each thread keeps what it found itself.
_CALL = re.compile(
    r"^\s+(?:cp_async_wait_group<\d+>\(\)|cp_async_commit_group\(\));$"
    r"|__syncthreads\(\);|__syncthreads_or(?=\(found\);)",
    re.M,
)


def calls(text: str) -> list[re.Match[str]]:
    """Return every call of a barrier, wait or commit in the kernel body (not in the wrappers)."""
    body = text.index("attention_fwd_mma(")
    return [match for match in _CALL.finditer(text) if match.start() > body]


def run(source: compile_.Source | None, head_dim: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, n, 1, head_dim)).astype(np.float16) for n in (128, 400, 400))
    problem = make_problem(
        *(take(n, a).spec(n) for n, a in zip("qkv", (q, k, v), strict=True)), None
    )
    plan = make_plan(problem, launch.emulated_arch())
    O = np.full_like(q, np.nan)
    launch.run_emulator(plan, q, k, v, O, launch.empty_lse(plan, q), source=source, checked=True)
    return O


def source_of(head_dim: int) -> compile_.Source:
    spec = take("q", np.zeros((1, 128, 1, head_dim), np.float16)).spec("q")
    return make_plan(make_problem(spec, spec, spec, None), launch.emulated_arch()).source()


def test_the_kernel_itself_passes() -> None:
    assert np.isfinite(run(None, 64)).all()


def test_there_is_something_to_delete() -> None:
    found = [match[0].strip() for match in calls(source_of(64).text)]
    assert sorted(set(found)) == [
        "__syncthreads_or",
        "cp_async_commit_group();",
        "cp_async_wait_group<0>();",
    ]
    assert len(found) == 4


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("number", range(4))
def test_deleting_any_one_is_caught(number: int, head_dim: int) -> None:
    source = source_of(head_dim)
    match = calls(source.text)[number]
    without = source.text[: match.start()] + source.text[match.end() :]
    with pytest.raises(EmulatorError) as caught:
        run(compile_.Source(without, source.name), head_dim)
    message = str(caught.value)
    assert "warp" in message
    assert ".cu" in message
