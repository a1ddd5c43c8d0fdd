"""Bias and mask as they may lie in memory, on the mma.sync and on the Hopper kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.engine.spec import ArraySpec
from attnprobe.formats import FORMATS
from attnprobe.numerics.error import check_attention
from tests.engine.hopper import hopper_plans

Array = Any
# Two blocks of keys, the last one short; two of queries. A tensor map describes rows of KEYS.
HEADS, HEAD_DIM, ROWS, KEYS = 2, 64, 70, 160
KERNELS = ("mma.sync", "hopper")


@contextmanager
def on(kernel: str) -> Iterator[list[Plan]]:
    """Run public calls of the emulator on one of the two kernels."""
    if kernel == "hopper":
        with hopper_plans() as seen:
            yield seen
        return
    seen = []
    with plans_changed(lambda plan: seen.append(plan) or plan):  # type: ignore[func-returns-value]
        yield seen
    assert {plan.variant.entry for plan in seen} == {"attention_fwd_mma"}


def qkv(keys: int = KEYS, seed: int = 1) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    shapes = ((1, ROWS, HEADS, HEAD_DIM), *[(1, keys, 1, HEAD_DIM)] * 2)
    q, k, v = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    return q, k, v


def bias_of(*shape: int, dtype: Any = np.float16) -> Array:
    rng = np.random.default_rng(2)
    bias = rng.standard_normal(shape).astype(dtype)
    bias[rng.random(shape) < 0.1] = -np.inf
    return bias


def mask_of(*shape: int) -> Array:
    return np.random.default_rng(3).random(shape) < 0.7


PAIRS, DENSE = ("dense", "pairs"), ("dense",)


def known(name: str, *kinds: str) -> set[str]:
    """Return the features of a plan that say how the array lies."""
    return {f"{name}_{kind}" for kind in kinds}


# What lies how -> keyword arguments, what the plan knows of it, whether Hopper takes it by tiles.
FORMS: dict[str, tuple[dict[str, Array], set[str], bool]] = {
    "bias": ({"bias": bias_of(HEADS, ROWS, KEYS)}, known("bias", *PAIRS), True),
    "bias in f32": (
        {"bias": bias_of(HEADS, ROWS, KEYS, dtype=np.float32)},
        known("bias", "f32", *PAIRS),
        True,
    ),
    "bias with gaps between rows": (
        {"bias": bias_of(HEADS, ROWS, KEYS + 2)[..., :-2]},
        known("bias", *PAIRS),
        False,
    ),
    "bias that begins between pairs": (
        {"bias": bias_of(HEADS, ROWS, KEYS + 2)[..., 1:-1]},
        known("bias", *DENSE),
        False,
    ),
    "bias of odd rows": (
        {"bias": bias_of(ROWS, KEYS + 1)[..., :-1]},
        known("bias", *DENSE),
        False,
    ),
    "bias with gaps between keys": (
        {"bias": bias_of(HEADS, ROWS, 2 * KEYS)[..., ::2]},
        set(),
        False,
    ),
    "bias backwards": ({"bias": bias_of(HEADS, ROWS, KEYS)[..., ::-1]}, set(), False),
    "bias per key": ({"bias": bias_of(KEYS)}, known("bias", *PAIRS), False),
    "bias per query": ({"bias": bias_of(ROWS, KEYS)[:, 2:3]}, set(), False),
    "mask": ({"mask": mask_of(HEADS, ROWS, KEYS)}, known("mask", *PAIRS), True),
    "mask with gaps between rows": (
        {"mask": mask_of(HEADS, ROWS, KEYS + 2)[..., :-2]},
        known("mask", *PAIRS),
        False,
    ),
    "mask that begins between pairs": (
        {"mask": mask_of(ROWS, KEYS + 2)[:, 1:-1]},
        known("mask", *DENSE),
        False,
    ),
    "mask transposed": ({"mask": mask_of(KEYS, ROWS).T}, set(), False),
    "mask that hides all keys from every third query": (
        {"mask": np.arange(ROWS)[:, None] % 3 > 0},
        set(),
        False,
    ),
    "both, causal": (
        {"bias": bias_of(HEADS, ROWS, KEYS), "mask": mask_of(ROWS, KEYS), "causal": True},
        known("bias", *PAIRS) | known("mask", *PAIRS),
        True,
    ),
    "both, softcap and slopes": (
        {
            "bias": bias_of(HEADS, ROWS, KEYS, dtype=np.float32),
            "mask": mask_of(HEADS, ROWS, KEYS),
            "softcap": 4.0,
            "alibi_slopes": np.array([0.1, 0.3], np.float32),
        },
        known("bias", "f32", *PAIRS) | known("mask", *PAIRS),
        True,
    ),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
def test_results(kernel: str, form: str) -> None:
    """The emulator sees every read outside of an array."""
    arguments, features, tiled = FORMS[form]
    q, k, v = qkv()
    with on(kernel) as plans:
        O, LSE = attnprobe.attention(q, k, v, return_lse=True, **arguments)
    check_attention(O, LSE, q, k, v, **arguments)
    plan = plans[0]
    assert {name for name in plan.features if name.startswith(("bias_", "mask_"))} == features
    assert bool(plan.defines.get("ATTN_PLANE_STAGES")) == (tiled and kernel == "hopper")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["bias", "mask"])
def test_an_odd_number_of_keys_is_read_to_the_last(kernel: str, name: str) -> None:
    arguments = {name: (bias_of if name == "bias" else mask_of)(HEADS, ROWS, KEYS - 1)}
    arguments[name][..., -1] = 1
    q, k, v = qkv(KEYS - 1)
    k[:, -1] *= 4  # a key that counts
    with on(kernel):
        O, LSE = attnprobe.attention(q, k, v, return_lse=True, **arguments)
    check_attention(O, LSE, q, k, v, **arguments)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["bias", "mask"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_hidden_changes_no_bit(kernel: str, name: str, value: float) -> None:
    """Neither in K, where the score becomes it, nor in V, where the weight is 0."""
    shown = mask_of(ROWS, KEYS)
    hidden = [3, 64, 149]
    shown[:, hidden] = False
    plane = shown if name == "mask" else np.where(shown, np.float16(0.5), np.float16(-np.inf))
    q, k, v = qkv()
    with on(kernel):
        expected = attnprobe.attention(q, k, v, return_lse=True, **{name: plane})
        k[:, hidden, :, 5] = value
        v[:, hidden, :, 7] = value
        actual = attnprobe.attention(q, k, v, return_lse=True, **{name: plane})
    for got, wanted in zip(actual, expected, strict=True):
        assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kernel", KERNELS)
def test_special_values_reach_the_rows_that_see_them_and_no_other(kernel: str) -> None:
    bias = bias_of(HEADS, ROWS, KEYS)
    q, k, v = qkv()
    with on(kernel):
        clean = attnprobe.attention(q, k, v, bias=bias)
        spoilt = bias.copy()
        spoilt[1, 20, 130] = np.nan
        O = attnprobe.attention(q, k, v, bias=spoilt)
        v[0, 149, 0, 3] = np.inf
        with_v = attnprobe.attention(q, k, v, bias=bias)
    assert np.isnan(O[0, 20, 1]).all()
    O[0, 20, 1] = clean[0, 20, 1]
    assert O.tobytes() == clean.tobytes()
    sees = ~np.isneginf(bias[..., 149].T)
    np.testing.assert_array_equal(np.isinf(with_v[0, :, :, 3]), sees)
    with_v[0, :, :, 3] = clean[0, :, :, 3]
    assert with_v.tobytes() == clean.tobytes()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["bias", "mask"])
def test_rows_that_see_no_key(kernel: str, name: str) -> None:
    shown = np.ones((HEADS, ROWS, KEYS), bool)
    shown[0, 40:] = False
    shown[1, ::5] = False
    plane = shown if name == "mask" else np.where(shown, np.float32(0.25), np.float32(-np.inf))
    q, k, v = qkv()
    with on(kernel):
        O, LSE = attnprobe.attention(q, k, v, return_lse=True, **{name: plane})
    empty = ~shown.any(-1)
    assert (O[0].transpose(1, 0, 2)[empty] == 0).all()
    assert (LSE[0][empty] == -np.inf).all()
    check_attention(O, LSE, q, k, v, **{name: plane})


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("columns", [80, 82])  # rows that a tensor map describes, and others
def test_packed_sequences_count_from_their_own_beginning(kernel: str, columns: int) -> None:
    """And what a plane lacks is no bias, and hidden by the mask."""
    q, k, v = (array[0] for array in qkv())
    cu_q, cu_k = np.array([0, 41, ROWS], np.int32), np.array([0, 99, KEYS], np.int32)
    bias, mask = bias_of(2, HEADS, 41, columns), mask_of(2, 1, 41, columns)
    with on(kernel):
        O, LSE = attnprobe.attention_varlen(
            q, k, v, cu_q, cu_k, bias=bias, mask=mask, return_lse=True
        )
    for i in range(2):
        queries, keys = slice(*cu_q[i : i + 2]), slice(*cu_k[i : i + 2])
        count = keys.stop - keys.start
        shape = (1, HEADS, queries.stop - queries.start, count)
        own_bias, own_mask = np.zeros(shape, np.float16), np.zeros(shape, bool)
        own_bias[..., :columns] = bias[i, :, : shape[2], :count]
        own_mask[..., :columns] = mask[i, :, : shape[2], :count]
        check_attention(
            O[None, queries],
            LSE[None, :, queries],
            *(q[None, queries], k[None, keys], v[None, keys]),
            bias=own_bias,
            mask=own_mask,
        )


@pytest.mark.gpu
@pytest.mark.parametrize("head_dim", [64, 128, 192, 256])
@pytest.mark.parametrize("name", ["bias", "mask"])
def test_tiles_on_the_gpu_give_the_right_bits_and_always_the_same(head_dim: int, name: str) -> None:
    """A tile that is overwritten while it is read shows as bits that change."""
    import cupy

    rng = np.random.default_rng(head_dim)
    q, k, v = (rng.standard_normal((2, 1000, 8, head_dim)).astype(np.float16) for _ in range(3))
    plane = (bias_of if name == "bias" else mask_of)(8, 1000, 1008)
    there = [cupy.asarray(array) for array in (q, k, v)]
    tiled = {name: cupy.asarray(plane)[..., :1000]}
    O, LSE = (cupy.asnumpy(x) for x in attnprobe.attention(*there, return_lse=True, **tiled))
    check_attention(O, LSE, q, k, v, **{name: plane[..., :1000]})
    for _ in range(100):
        again = attnprobe.attention(*there, **tiled)
        assert cupy.asnumpy(again).tobytes() == O.tobytes()


SPEC = ArraySpec("bias", (2, 4, 90, 150), (54000, 13500, 150, 1), FORMATS["f16"], "float16", 64)


@pytest.mark.parametrize(
    ("changes", "paired"),
    [
        ({}, True),
        ({"address": 66}, False),
        ({"address": 68}, True),
        ({"address": 68, "format": FORMATS["f32"]}, False),
        ({"address": 66, "format": FORMATS["u8"]}, True),
        ({"strides": (0, 0, 0, 1)}, True),
        ({"strides": (54000, 13500, 151, 1)}, False),
        ({"strides": (54000, 13501, 150, 1)}, False),
        ({"strides": (54000, 13501, 150, 1), "shape": (2, 1, 90, 150)}, True),
        ({"strides": (54000, 13500, 150, 2)}, False),
        ({"shape": (2, 4, 90, 149)}, False),
        ({"format": None}, False),
    ],
)
def test_when_one_access_moves_two_keys(changes: dict[str, Any], paired: bool) -> None:
    assert replace(SPEC, **changes).paired == paired


WHOLE = replace(SPEC, shape=(2, 4, 90, 160), strides=(57600, 14400, 160, 1))


@pytest.mark.parametrize(
    ("changes", "mappable"),
    [
        ({}, True),
        ({"address": 72}, False),
        ({"format": FORMATS["u8"]}, True),
        ({"strides": (0, 0, 160, 1)}, True),
        ({"strides": (0, 14400, 0, 1)}, False),  # every row is the same: there is less to read
        ({"strides": (57600, 14400, 164, 1)}, False),
        ({"strides": (57600, 14404, 160, 1)}, False),
        ({"strides": (57600, 14404, 160, 1), "shape": (2, 1, 90, 160)}, True),
        ({"strides": (57600, 14400, -160, 1)}, False),
        ({"strides": (57600, 14400, 160, 2)}, False),
        ({"shape": (2, 4, 90, 155)}, True),
        ({"shape": (2, 0, 90, 160)}, False),
        ({"format": None}, False),
    ],
)
def test_when_a_tensor_map_describes_a_plane(changes: dict[str, Any], mappable: bool) -> None:
    assert replace(WHOLE, **changes).plane_mappable == mappable
