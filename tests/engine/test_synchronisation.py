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
    r"^\s+(?:cp_async_wait_group<kPlaneTiles>\(\)|(?:if constexpr \(!kPlaneTiles\) )?"
    r"cp_async_commit_group\(\));$"
    r"|__syncthreads_or(?=\(found\);)",
    re.M,
)
# Where warps go through the blocks apart (head_dim 256): what they wait for and tell, in the body
# or in what pairs of warps do together. The look at V tells what somebody found.
_APART = re.compile(
    r"^ +(?:__syncthreads|[KV]_stages\.(?:filled|read|wait_full|wait_free)|sharers\.sync)"
    r"\([^;]*\);$"
    r"|(?<=; )[KV]_stages\.filled\([^;]*\);|(?<=\) )[KV]_stages\.[a-z_]+\([^;]*\);"
    r"|__syncthreads_or(?=\(take_copied)",
    re.M,
)


def calls(text: str) -> list[re.Match[str]]:
    """Return every call of a barrier, wait or commit in the kernel body (not in the wrappers)."""
    body = text.index("attention_fwd_mma(")
    return [match for match in _CALL.finditer(text) if match.start() > body]


def run(source: compile_.Source | None, head_dim: int, bad: float = 0.0) -> np.ndarray:
    """Return O; the last keys of V have one element ``bad``."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, n, 1, head_dim)).astype(np.float16) for n in (128, 400, 400))
    v[0, -1, 0, 5] = bad
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
        "cp_async_wait_group<kPlaneTiles>();",
        "if constexpr (!kPlaneTiles) cp_async_commit_group();",
    ]
    assert len(found) == 4


@pytest.mark.parametrize("head_dim", [64, 128])
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


def apart_calls(text: str) -> list[re.Match[str]]:
    """Return what warps wait for and tell where they do not wait for each other at each block."""
    body = text.index("attention_fwd_mma(")
    return [match for match in _APART.finditer(text) if match.start() > body]


def test_warps_that_go_apart_wait_and_tell() -> None:
    found = [match[0].strip() for match in apart_calls(source_of(256).text)]
    kinds = sorted({call.split("(")[0] for call in found})
    stages = [f"{one}_stages.{what}" for one in "KV" for what in ("filled", "read")]
    waits = [f"{one}_stages.{what}" for one in "KV" for what in ("wait_free", "wait_full")]
    assert kinds == sorted(["__syncthreads", "__syncthreads_or", "sharers.sync", *stages, *waits])
    assert len(found) == APART


APART = 14
# The wait before a thread looks at those elements of V that it copied itself: the emulator lets a
# thread's copies land when it tells an mbarrier of them, so to the thread itself they are there.
OWN_COPIES = 6


@pytest.mark.parametrize("number", [n for n in range(APART) if n != OWN_COPIES])
def test_deleting_any_one_of_those_is_caught(number: int) -> None:
    source = source_of(256)
    match = apart_calls(source.text)[number]
    left = ";" if match[0].endswith(";") else ""
    without = source.text[: match.start()] + left + source.text[match.end() :]
    with pytest.raises(EmulatorError):
        run(compile_.Source(without, source.name), 256, bad=np.inf)


# Of warps that share rows: what stands in warp_pair.cuh, and what a fault makes of it.
PAIR_FAULTS = {
    "maxima and sums are read before the other has written them": (
        "        sync();\n#pragma unroll\n",
        "#pragma unroll\n",
    ),
    "P is read before the other has written it": (
        "return bar_red_or(barrier, 2 * kWarpSize, predicate);",
        "return vote_any(predicate);",
    ),
    "P of the next block is written over that which the other still reads": (
        "result.P_tile += block % 2 * PTile::kBytes;",
        "result.P_tile += 0 * PTile::kBytes;",
    ),
    "all pairs exchange P at one place": (
        "P_tile(smem + warp_id() / 2 * kBytes),",
        "P_tile(smem),",
    ),
    "both warps write their maxima at the same place": (
        "st_shared(lane_place + rank * kStatBytes + offset,",
        "st_shared(lane_place + offset,",
    ),
}


@pytest.mark.parametrize("fault", PAIR_FAULTS)
def test_a_fault_between_two_warps_that_share_rows_is_caught(fault: str) -> None:
    source = source_of(256)
    old, new = PAIR_FAULTS[fault]
    assert source.text.count(old) == 1
    with pytest.raises(EmulatorError):
        run(compile_.Source(source.text.replace(old, new), source.name), 256)
