"""Key blocks that a mask hides whole: found by a launch, then neither read nor computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.launch import run_emulator
from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.mutants.scene import HopperTile, Tile
from attnprobe.numerics.error import check_attention
from tests.engine.hopper import HOPPER

Array = Any
KERNELS = ("mma.sync", "hopper")


@contextmanager
def skipping(kernel: str) -> Iterator[list[Plan]]:
    """Run public calls of the emulator on one of the two kernels, which skips whatever the size."""
    seen: list[Plan] = []

    def change(plan: Plan) -> Plan:
        if kernel == "hopper":
            with plans_changed(lambda same: same):
                plan = make_plan(plan.problem, replace(HOPPER, multiprocessors=1))
        # A small tile, for the emulator's sake.
        small = HopperTile() if kernel == "hopper" else Tile(64, 32, 4)
        variant: Any = small.placed(plan.variant)
        seen.append(replace(plan, variant=replace(variant, skips_from=0)))
        return seen[-1]

    with plans_changed(change):
        yield seen
    entry = {"hopper": "attention_fwd_wgmma", "mma.sync": "attention_fwd_mma"}[kernel]
    for plan in seen:
        assert [step.entry for step in plan.steps] == ["attention_mask_blocks", entry]


def qkv(rows: int, keys: int, head_dim: int = 64) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    shapes = ((1, rows, 2, head_dim), *[(1, keys, 1, head_dim)] * 2)
    q, k, v = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    return q, k, v


def blocks_of(rows: int, keys: int, shown: float) -> Array:
    """Return a mask of random 32 x 32 blocks, in which some shown blocks have one key only."""
    rng = np.random.default_rng(4)
    coarse = rng.random((-(-rows // 32), -(-keys // 32))) < shown
    mask = coarse.repeat(32, 0).repeat(32, 1)[:rows, :keys]
    mask[:, keys // 2 :] &= rng.random((rows, keys - keys // 2)) < 0.01
    return np.ascontiguousarray(mask)


def documents(rows: int, keys: int, count: int) -> Array:
    return (np.arange(rows) * count // rows)[:, None] == np.arange(keys) * count // keys


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("mask", "causal"),
    [
        (blocks_of(140, 352, 0.1), False),
        (blocks_of(140, 352, 0.1), True),
        (documents(140, 352, 5), False),
        (np.zeros((140, 352), bool), False),
        (np.arange(352)[None] // 150 == 1, False),  # one row for all queries
        (np.ascontiguousarray(blocks_of(352, 140, 0.1)).T, False),  # no tile, and no 16 bytes
        (blocks_of(140, 352, 0.1)[:, :349], False),
    ],
)
def test_results(kernel: str, mask: Array, causal: bool) -> None:
    q, k, v = qkv(140, mask.shape[1])
    # What nobody sees, of keys hidden from all, is garbage. V only at the beginning: a block with
    # it takes the Hopper kernel the long way of its NaN, 7 s here for each tile that meets one.
    nobody = ~np.broadcast_to(mask, (140, mask.shape[1])).any(0)
    k[:, nobody], v[:, :64][:, nobody[:64]] = np.nan, np.inf
    with skipping(kernel):
        O, LSE = attnprobe.attention(q, k, v, mask=mask, causal=causal, return_lse=True)
    k[:, nobody], v[:, nobody] = 0, 0
    check_attention(O, LSE, q, k, v, mask=mask, causal=causal)


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_blocks_than_a_word_has(kernel: str) -> None:
    rows, keys = 70, 2300
    mask = np.zeros((rows, keys), bool)
    mask[:60, 2290:] = mask[60:, 3:5] = mask[5:9, 1100] = True
    q, k, v = qkv(rows, keys)
    with skipping(kernel):
        O, LSE = attnprobe.attention(q, k, v, mask=mask, return_lse=True)
    check_attention(O, LSE, q, k, v, mask=mask)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mask_for_each_head_and_a_bias(kernel: str) -> None:
    mask = np.stack([documents(140, 352, 3), documents(140, 352, 7)])
    bias = np.random.default_rng(2).standard_normal((140, 352)).astype(np.float16)
    q, k, v = qkv(140, 352)
    with skipping(kernel):
        O, LSE = attnprobe.attention(q, k, v, mask=mask, bias=bias, return_lse=True)
    check_attention(O, LSE, q, k, v, mask=mask, bias=bias)


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_sequences(kernel: str) -> None:
    q, k, v = (array[0] for array in qkv(180, 400))
    cu_q, cu_k = np.array([0, 41, 180], np.int32), np.array([0, 59, 400], np.int32)
    mask = np.stack([documents(139, 304, 3), documents(139, 304, 4)])[:, None]
    with skipping(kernel):
        O, LSE = attnprobe.attention_varlen(q, k, v, cu_q, cu_k, mask=mask, return_lse=True)
    for i in range(2):
        queries, keys = slice(*cu_q[i : i + 2]), slice(*cu_k[i : i + 2])
        rows, count = queries.stop - queries.start, keys.stop - keys.start
        own = np.zeros((1, 2, rows, count), bool)
        own[..., :304] = mask[i, :, :rows, :count]
        parts = (q[None, queries], k[None, keys], v[None, keys])
        check_attention(O[None, queries], LSE[None, :, queries], *parts, mask=own)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bits_are_those_of_the_kernel_that_computes_every_block(kernel: str) -> None:
    mask = blocks_of(140, 352, 0.2)
    q, k, v = qkv(140, 352)
    with skipping(kernel) as plans:
        expected = attnprobe.attention(q, k, v, mask=mask, return_lse=True)
    variant: Any = replace(plans[0].variant, skips_from=2**60)
    plan = replace(plans[0], variant=variant)
    O, LSE = np.empty_like(q), np.empty(plan.lse_shape, np.float32)
    plane = np.broadcast_to(mask.view(np.uint8), (1, 2, *mask.shape))
    run_emulator(plan, q, k, v, O, LSE, extras={"mask": plane})
    assert O.tobytes() == expected[0].tobytes()
    assert LSE.tobytes() == expected[1].tobytes()
