"""The last block of a tile combines its parts: whoever that is, whatever its memory held before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe import compile as compile_
from attnprobe.engine import launch, make_plan, parts
from attnprobe.engine.arrays import take
from attnprobe.engine.checks import MAX_SPLITS
from attnprobe.engine.decode import DECODE
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.engine.problem import make_problem
from attnprobe.numerics.error import check_attention

Array = Any
SPLITS = (3, 40, 70)  # 40: two parts to a lane; 70: in two steps


def qkv(batch: int = 2, width: int = 32) -> tuple[Array, ...]:
    rng = np.random.default_rng(batch)
    return tuple(
        rng.standard_normal((batch, *shape, width)).astype(np.float16)
        for shape in ((2, 4), (300, 2), (300, 2))
    )


def plan_of(arrays: tuple[Array, ...], num_splits: int) -> Plan:
    specs = [take(n, a).spec(n) for n, a in zip("qkv", arrays, strict=True)]
    return make_plan(make_problem(*specs, None, num_splits=num_splits), launch.emulated_arch())


def run(
    plan: Plan,
    arrays: tuple[Array, ...],
    scratch: Mapping[str, Array] | None = None,
    source: compile_.Source | None = None,
) -> bytes:
    """Return the bytes of O and LSE, after they are held against float64."""
    O, LSE = np.full_like(arrays[0], np.nan), launch.empty_lse(plan, arrays[0])
    LSE[...] = np.nan
    launch.run_emulator(plan, *arrays, O, LSE, scratch=scratch, source=source, checked=True)
    check_attention(O, LSE, *arrays)
    return bytes(O.tobytes() + LSE.tobytes())


def memory(plan: Plan, fill: Callable[[int], Array]) -> dict[str, Array]:
    """Return scratch arrays over bytes that ``fill`` makes."""
    return {
        name: fill(int(np.prod(shape)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)
        for name, (shape, dtype) in plan.scratch.items()
    }


FILLS: dict[str, Callable[[int], Array]] = {
    "zeros": lambda size: np.zeros(size, np.uint8),
    "ones": lambda size: np.full(size, 0xFF, np.uint8),
    "noise": lambda size: np.random.default_rng(size).integers(0, 256, size, np.uint8),
    "small numbers": lambda size: np.arange(size // 8, dtype=np.uint64).view(np.uint8),
    "another tag": lambda size: np.full(
        size // 8, parts.ARRIVAL_TAG ^ (1 << parts.COUNT_BITS) | 1, np.uint64
    ).view(np.uint8),
}


@pytest.mark.parametrize("num_splits", SPLITS)
@pytest.mark.parametrize("name", FILLS)
def test_what_the_memory_held_does_not_matter(name: str, num_splits: int) -> None:
    arrays = qkv()
    plan = plan_of(arrays, num_splits)
    assert run(plan, arrays, memory(plan, FILLS[name])) == run(plan, arrays)


@pytest.mark.parametrize("num_splits", SPLITS)
def test_a_launch_leaves_what_the_next_one_needs(num_splits: int) -> None:
    """As a captured graph has it: the same memory every time."""
    arrays = qkv()
    plan = plan_of(arrays, num_splits)
    scratch = memory(plan, FILLS["noise"])
    first = run(plan, arrays, scratch)
    assert (scratch["arrivals"] == parts.ARRIVAL_TAG).all()
    assert [run(plan, arrays, scratch) for _ in range(2)] == [first, first]


def test_another_call_may_have_the_memory_next() -> None:
    """Counts of one call lie where the other has its parts, and the other way round."""
    calls = [(arrays, plan_of(arrays, 3)) for arrays in (qkv(2), qkv(3, 16))]
    alone = [run(plan, arrays) for arrays, plan in calls]
    room = FILLS["noise"](1 << 16)
    for number in (0, 1, 0, 1):
        arrays, plan = calls[number]
        scratch, end = {}, 0
        for name in sorted(plan.scratch, reverse=number == 0):
            shape, dtype = plan.scratch[name]
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            scratch[name] = room[end : end + size].view(dtype).reshape(shape)
            end += -(-size // 256) * 256
        assert run(plan, arrays, scratch) == alone[number]


@pytest.mark.parametrize("num_splits", SPLITS)
def test_who_is_last_changes_no_bit(num_splits: int) -> None:
    arrays = qkv()
    plan = plan_of(arrays, num_splits)
    text = plan.source().text
    sound = run(plan, arrays)
    for other in ("gridDim.x - 1 - blockIdx.x", "(blockIdx.x + 7) % gridDim.x"):
        moved = text.replace("number = blockIdx.x;", f"number = {other};")
        assert moved != text
        assert run(plan, arrays, source=compile_.Source(moved, "moved")) == sound


def test_parts_that_do_not_fit_into_a_warps_room_are_taken_in_turns() -> None:
    """20 rows of 256 columns, where two stages of 8-bit keys leave room for 16."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal((1, 1, 2, 256)).astype(np.float16)
    k, v = (rng.standard_normal((1, 320, 1, 256)).astype(ml_dtypes.float8_e4m3fn) for _ in "kv")
    held = [x.view(np.uint8) for x in (k, v)]
    row = next(row for row in DECODE if (row.head_dim, row.kv_bits, row.stages) == (256, 8, 2))
    with plans_changed(lambda plan: replace(plan, variant=row)):
        O, LSE = attnprobe.attention(q, *held, kv_format="e4m3", num_splits=20, return_lse=True)
    check_attention(O, LSE, q, k.astype(np.float16), v.astype(np.float16))


def test_tags_leave_room_for_every_count() -> None:
    assert parts.ARRIVAL_TAG % (1 << parts.COUNT_BITS) == 0
    assert parts.ARRIVAL_TAG < 1 << 64
    assert parts.AT_ONCE < 1 << parts.COUNT_BITS
    assert parts.ranges(MAX_SPLITS) <= parts.AT_ONCE
    texts = compile_.load_source("attention/decode_split.cu").text
    assert f"kCountBits = {parts.COUNT_BITS};" in texts
    assert "kParts = 2 * kWarpSize;" in texts
