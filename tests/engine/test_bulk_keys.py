"""K and V by bulk copies: the bits are those of cp.async, whatever the problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.plan import Plan, on_kernel, plans_changed
from attnprobe.engine.variants import MMA_ENTRY, MmaVariant
from attnprobe.numerics.error import check_attention

Array = Any
SLOPES = np.array([[0.3, 0.05]], np.float32)


def numbers(seed: int, *shape: int, dtype: Any = np.float16) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def qkv(
    seqlen_q: int, seqlen_k: int, head_dim: int = 64, v_head_dim: int = 0, batch: int = 1
) -> tuple[Array, Array, Array]:
    """Return Q of two heads and K and V of one."""
    v_dim = v_head_dim or head_dim
    return (
        numbers(0, batch, seqlen_q, 2, head_dim),
        numbers(1, batch, seqlen_k, 1, head_dim),
        numbers(2, batch, seqlen_k, 1, v_dim),
    )


def heads_outside(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the same arrays with memory in the order batch, head, seqlen, head_dim."""
    return tuple(
        np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for a in arrays
    )


def by(bulk: bool) -> Callable[[Plan], Plan]:
    """Return what makes plans take K and V by bulk copies, or by those of the threads."""

    def change(plan: Plan) -> Plan:
        plan = on_kernel(MMA_ENTRY, plan)
        variant = plan.variant
        assert isinstance(variant, MmaVariant)
        assert variant.bulk
        apart = not bulk and variant.sharers > 1
        return replace(plan, variant=replace(variant, bulk=bulk, apart=apart))

    return change


def same(call: Callable[[], tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return O and LSE of a call by bulk copies, which must be those by cp.async, bit for bit."""
    results = []
    for bulk in (True, False):
        with plans_changed(by(bulk)):
            results.append(call())
    (O, lse), (O_copied, lse_copied) = results
    assert np.array_equal(O, O_copied, equal_nan=True)
    assert np.array_equal(lse, lse_copied, equal_nan=True)
    return O, lse


DENSE = {
    "whole blocks": ((128, 256), {}),
    "a tail": ((70, 300), {}),
    "fewer keys than a block": ((20, 40), {}),
    "one key": ((20, 1), {}),
    "causal": ((200, 330), {"causal": True}),
    "causal, aligned": ((256, 256), {"causal": True}),
    "causal, queries without keys": ((200, 90), {"causal": True}),
    "a window": ((200, 330), {"window_size": (60, 20)}),
    "a window far from the end": ((140, 500), {"window_size": (30, 0), "q_offset": 100}),
    "softcap": ((130, 200), {"softcap": 4.0}),
    "ALiBi": ((130, 200), {"alibi_slopes": SLOPES, "causal": True}),
}


# Warps meet at each block, and drift apart (head_dim 128 without a window).
@pytest.mark.parametrize(
    ("name", "head_dim"),
    [*((name, 64) for name in DENSE), ("a tail", 128), ("causal", 128)],
)
def test_dense(name: str, head_dim: int) -> None:
    lengths, options = DENSE[name]
    q, k, v = qkv(*lengths, head_dim)
    O, lse = same(lambda: attnprobe.attention(q, k, v, return_lse=True, **options))
    check_attention(O, lse, q, k, v, **options)


@pytest.mark.parametrize("widths", [(32, 32), (80, 80), (64, 32), (192, 128), (256, 256)])
@pytest.mark.parametrize("causal", [False, True])
def test_widths(widths: tuple[int, int], causal: bool) -> None:
    q, k, v = qkv(150, 230, *widths)
    O, lse = same(lambda: attnprobe.attention(q, k, v, causal=causal, return_lse=True))
    check_attention(O, lse, q, k, v, causal=causal)


def test_batches_and_heads_in_any_order_of_memory() -> None:
    arrays = heads_outside((numbers(0, 2, 70, 4, 64), *(numbers(i, 2, 300, 2, 64) for i in (1, 2))))
    O, lse = same(lambda: attnprobe.attention(*arrays, causal=True, return_lse=True))
    check_attention(O, lse, *arrays, causal=True)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_sequences_do_not_see_each_other(causal: bool) -> None:
    """NaN in K and V of the neighbours, of whose rows a last block copies some."""
    starts = np.array([0, 150, 150, 190, 400], np.int32)
    q = numbers(0, 400, 2, 64)
    k, v = numbers(1, 400, 1, 64), numbers(2, 400, 1, 64)
    k[150:190] = v[150:190] = np.nan

    def call() -> tuple[Array, Array]:
        result: tuple[Array, Array] = attnprobe.attention_varlen(
            q, k, v, starts, starts, causal=causal, return_lse=True
        )
        return result

    O, _ = same(call)
    assert np.isfinite(O[:150]).all()
    assert np.isnan(O[150:190]).all()
    assert np.isfinite(O[190:]).all()


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("key", [299, 230, 140])
def test_nan_in_v_stays_with_the_rows_that_see_it(key: int, head_dim: int) -> None:
    q, k, v = qkv(130, 300, head_dim)
    v[0, key, 0, 5] = np.nan
    O, _ = same(lambda: attnprobe.attention(q, k, v, causal=True, return_lse=True))
    seen = np.arange(130) + 170 >= key
    assert (np.isnan(O[0, :, :, 5]) == seen[:, None]).all()
    assert np.isfinite(np.delete(O, 5, axis=3)).all()
