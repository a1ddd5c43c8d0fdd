"""Every barrier, wait and commit of the attention kernel is needed, and its absence is seen."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe.engine import launch, make_plan
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan
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
    r"^ +(?:__syncthreads|[KV]_stages\(\)\.(?:filled|read|wait_full|wait_free)|sharers\.sync)"
    r"\([^;]*\);$"
    r"|(?<=; )[KV]_stages\(\)\.filled\([^;]*\);|(?<=\) )[KV]_stages\(\)\.[a-z_]+\([^;]*\);"
    r"|__syncthreads_or(?=\(take_copied)",
    re.M,
)
# Where blocks of keys come by bulk copies.
_BULK = re.compile(
    r"(?:fence_mbarrier_init|cp_async_commit_group|cp_async_wait_group<0>|__syncthreads"
    r"|mbarrier_wait|fence_proxy_async_shared)\([^;]*\);"
    r"|__syncthreads_or(?=\(take_nonfinite)"
)


def calls(text: str, pattern: re.Pattern[str], keys: str) -> list[re.Match[str]]:
    """Return every such call in the struct ``keys`` and in the kernel body, not in wrappers."""
    begin = text.index(f"struct {keys} ")
    end, body = text.index("\n};", begin), text.index("attention_fwd_mma(")
    return [
        match
        for match in pattern.finditer(text)
        if begin < match.start() < end or match.start() > body
    ]


def without(source: compile_.Source, match: re.Match[str]) -> compile_.Source:
    """Return the text without one call: of a look at V each thread keeps what it found itself."""
    left = ";" if match[0].endswith(";") else ""
    return compile_.Source(
        source.text[: match.start()] + left + source.text[match.end() :], source.name
    )


def plan_of(q: np.ndarray, k: np.ndarray, v: np.ndarray, bulk: bool) -> Plan:
    specs = (take(n, a).spec(n) for n, a in zip("qkv", (q, k, v), strict=True))
    problem = dataclasses.replace(make_problem(*specs, None), mappable=bulk)
    return make_plan(problem, launch.emulated_arch())


def run(
    source: compile_.Source | None,
    head_dim: int,
    bad: float = 0.0,
    *,
    bulk: bool = False,
    seqlen_k: int = 400,
) -> np.ndarray:
    """Return O; the last keys of V have one element ``bad``."""
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((1, n, 1, head_dim)).astype(np.float16)
        for n in (128, seqlen_k, seqlen_k)
    )
    v[0, -1, 0, 5] = bad
    plan = plan_of(q, k, v, bulk)
    O = np.full_like(q, np.nan)
    launch.run_emulator(plan, q, k, v, O, launch.empty_lse(plan, q), source=source, checked=True)
    return O


def source_of(head_dim: int, bulk: bool = False) -> compile_.Source:
    array = np.zeros((1, 128, 1, head_dim), np.float16)
    return plan_of(array, array, array, bulk).source()


def test_the_kernel_itself_passes() -> None:
    assert np.isfinite(run(None, 64)).all()


def test_there_is_something_to_delete() -> None:
    found = [match[0].strip() for match in calls(source_of(64).text, _CALL, "CopiedKeys")]
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
    match = calls(source.text, _CALL, "CopiedKeys")[number]
    with pytest.raises(EmulatorError) as caught:
        run(without(source, match), head_dim)
    message = str(caught.value)
    assert "warp" in message
    assert ".cu" in message


def test_warps_that_go_apart_wait_and_tell() -> None:
    found = [match[0].strip() for match in calls(source_of(256).text, _APART, "CopiedKeys")]
    kinds = sorted({call.replace("()", "").split("(")[0].rstrip(";") for call in found})
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
    match = calls(source.text, _APART, "CopiedKeys")[number]
    with pytest.raises(EmulatorError):
        run(without(source, match), 256, bad=np.inf)


# What each has to order: all keys whole, or the last block with an infinity in V.
BULK_CALLS = {
    "fence_mbarrier_init": (64, 256),
    "cp_async_commit_group": (64, 256),
    "cp_async_wait_group<0>": (64, 256),
    "__syncthreads": (64, 256),
    "__syncthreads that meet": (64,),
    "mbarrier_wait full": (64, 256),
    "__syncthreads_or": (64, 256),
    "mbarrier_wait free": (256,),
    "fence_proxy_async_shared": (64, 256),
}


def test_bulk_copies_are_ordered_by_these() -> None:
    found = [match[0].split("(")[0] for match in calls(source_of(64, True).text, _BULK, "BulkKeys")]
    assert found == [name.split(" ")[0] for name in BULK_CALLS]


@pytest.mark.parametrize("head_dim", [64, 256])
@pytest.mark.parametrize("name", BULK_CALLS)
def test_deleting_any_one_of_bulk_copies_is_caught(name: str, head_dim: int) -> None:
    source = source_of(head_dim, True)
    match = calls(source.text, _BULK, "BulkKeys")[list(BULK_CALLS).index(name)]
    looks = name in ("__syncthreads_or", "fence_proxy_async_shared")
    case = {"seqlen_k": 400, "bad": np.inf} if looks else {"seqlen_k": 384, "bad": 0.0}
    if head_dim not in BULK_CALLS[name]:  # it is not in this kernel
        run(without(source, match), head_dim, bulk=True, **case)  # type: ignore[arg-type]
        return
    with pytest.raises(EmulatorError):
        run(without(source, match), head_dim, bulk=True, **case)  # type: ignore[arg-type]


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
