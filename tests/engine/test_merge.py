"""merge_states: two sets of keys as one, whatever is empty, whatever is NaN."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.errors import ProblemError
from attnprobe.numerics.error import check_attention
from tests.conftest import Backend

Array = Any
BATCH, ROWS, HEADS, WIDTH = 2, 3, 2, 48
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32]


def state(seed: int, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    o = rng.standard_normal((BATCH, ROWS, HEADS, WIDTH)).astype(dtype)
    return o, (3 * rng.standard_normal((BATCH, HEADS, ROWS))).astype(np.float32)


def expected(*states: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the merged state in float64."""
    lse = np.logaddexp.reduce([each[1].astype(np.float64) for each in states])
    weights = [np.exp(each[1] - lse).transpose(0, 2, 1)[..., None] for each in states]
    parts = [w * each[0].astype(np.float64) for w, each in zip(weights, states, strict=True)]
    return sum(parts), lse


def merge(backend: Backend, a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    o, lse = attnprobe.merge_states(*(backend.asarray(array) for array in (*a, *b)))
    return backend.asnumpy(o), backend.asnumpy(lse)


@pytest.mark.parametrize("dtype", DTYPES, ids=["f16", "bf16", "f32"])
def test_against_float64(xp_backend: Backend, dtype: Any) -> None:
    a, b = state(1, dtype), state(2, dtype)
    o, lse = merge(xp_backend, a, b)
    assert (o.dtype, lse.dtype) == (dtype, np.float32)
    exact_o, exact_lse = expected(a, b)
    unit = float(ml_dtypes.finfo(dtype).eps) / 2
    # One rounding of O, and of the weights' exponents those of float32.
    bound = np.abs(exact_o) * unit + 4e-6
    assert (np.abs(o.astype(np.float64) - exact_o) <= bound).all()
    np.testing.assert_allclose(lse, exact_lse, rtol=1e-6, atol=1e-6)


def test_packed_layout_and_strides(xp_backend: Backend) -> None:
    a, b = state(1), state(2)
    o, lse = merge(xp_backend, a, b)
    wide = np.full((BATCH, ROWS, HEADS, 2 * WIDTH + 1), np.nan, np.float32)
    wide[..., 1 : WIDTH + 1] = a[0]
    views = (wide[..., 1 : WIDTH + 1], a[1].copy(order="F"))
    again = merge(xp_backend, views, b)
    assert again[0].tobytes() == o.tobytes()
    for number in range(BATCH):
        packed = merge(xp_backend, *(tuple(x[number] for x in each) for each in (a, b)))
        assert packed[0].tobytes() == o[number].tobytes()
        assert packed[1].tobytes() == lse[number].tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=["f16", "bf16", "f32"])
def test_an_empty_side_is_not_read_and_the_other_is_unchanged(
    xp_backend: Backend, dtype: Any
) -> None:
    o, lse = state(1, dtype)
    o[0, 0, 0, :2] = [-0.0, 65504]
    empty = (np.full_like(o, np.nan), np.full_like(lse, -np.inf))
    for pair in (((o, lse), empty), (empty, (o, lse))):
        merged_o, merged_lse = merge(xp_backend, *pair)
        assert merged_o.tobytes() == o.tobytes()
        assert merged_lse.tobytes() == lse.tobytes()


def test_two_empty_sides_give_zero_and_minus_infinity(xp_backend: Backend) -> None:
    o, lse = state(1)
    empty = (np.full_like(o, np.nan), np.full_like(lse, -np.inf))
    merged_o, merged_lse = merge(xp_backend, empty, empty)
    assert not merged_o.any()
    assert np.isneginf(merged_lse).all()


def test_nan_stays_in_its_row(xp_backend: Backend) -> None:
    a, b = state(1), state(2)
    plain_o, plain_lse = merge(xp_backend, a, b)
    a[1][0, 1, 2] = np.nan  # a row whose scores had one
    a[0][1, 0, 0, 5] = np.nan  # one element of V
    o, lse = merge(xp_backend, a, b)
    assert np.isnan(o[0, 2, 1]).all()
    assert np.isnan(lse[0, 1, 2])
    spoiled = np.isnan(o)
    assert spoiled.sum() == WIDTH + 1
    assert np.array_equal(o[~spoiled], plain_o[~spoiled])
    assert np.array_equal(np.delete(lse.ravel(), 5), np.delete(plain_lse.ravel(), 5))


def test_a_prefix_and_a_rest_are_the_whole(xp_backend: Backend) -> None:
    rng = np.random.default_rng(4)
    q = rng.standard_normal((1, 2, 4, 32)).astype(np.float16)
    k, v = (rng.standard_normal((1, 50, 2, 32)).astype(np.float16) for _ in range(2))
    parts = [
        attnprobe.attention(
            *(xp_backend.asarray(x) for x in (q, k[:, keys], v[:, keys])),
            return_lse=True,
            out_dtype="float32",
        )
        for keys in (slice(0, 33), slice(33, 50))
    ]
    o, lse = (xp_backend.asnumpy(x) for x in attnprobe.merge_states(*parts[0], *parts[1]))
    check_attention(o.astype(np.float16), lse, q, k, v)


REFUSED: list[tuple[int, Array, list[str]]] = [
    (0, np.zeros((2, 3, 2, 48), np.int32), ["o_a", "int32", "float16"]),
    (2, np.zeros((2, 3, 2, 48), np.float16), ["o_b", "float16", "equal"]),
    (1, np.zeros((2, 3, 2), np.float32), ["lse_a", "(2, 2, 3)"]),
    (3, np.zeros((2, 2, 3), np.float64), ["lse_b", "float64"]),
]


@pytest.mark.parametrize(("place", "array", "words"), REFUSED)
def test_refused_with_reasons(place: int, array: Array, words: list[str]) -> None:
    given = [*state(1), *state(2)]
    given[place] = array
    with pytest.raises(ProblemError) as caught:
        attnprobe.merge_states(*given)
    for word in words:
        assert word in str(caught.value)


def test_nothing_to_merge() -> None:
    o, lse = attnprobe.merge_states(*(x[:0] for x in state(1)), *(x[:0] for x in state(2)))
    assert (o.shape, lse.shape) == ((0, ROWS, HEADS, WIDTH), (0, HEADS, ROWS))
