"""Every score feature, alone and together with others, against float64."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.errors import ProblemError
from attnprobe.numerics.error import check_attention
from tests.conftest import Backend, make_backend

HEADS, KV_HEADS, BATCH, SEQLEN_Q, SEQLEN_K = 4, 2, 2, 90, 150
HEAD_DIM = 16  # the least: what is tested here does not depend on it
RNG = np.random.default_rng(11)
PLANE = (BATCH, HEADS, SEQLEN_Q, SEQLEN_K)


def bias_with_holes(shape: tuple[int, ...], dtype: Any) -> Any:
    bias = RNG.standard_normal(shape).astype(dtype)
    bias[RNG.random(shape) < 0.1] = -np.inf
    return bias


# name -> keyword arguments of attention.
ONE: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "top-left": {"causal": True, "causal_alignment": "top-left"},
    "q_offset": {"causal": True, "q_offset": 17},
    "window": {"window_size": (30, 9)},
    "softcap": {"softcap": 6.0},
    "head scales": {"softmax_scale": np.array([0.1, -0.2, 0.0, 0.4], np.float32)},
    "alibi": {"alibi_slopes": np.array([0.5, 0.25, 0.125, -0.1], np.float32)},
    "bias": {"bias": bias_with_holes(PLANE, np.float16)},
    "mask": {"mask": RNG.random(PLANE) < 0.7},
    "sinks": {"sinks": np.array([0.0, 3.0, -np.inf, -50.0], np.float32)},
}
# Forms of one argument that must come to the same thing.
OTHER_FORMS: dict[str, dict[str, Any]] = {
    "alibi per batch": {"alibi_slopes": RNG.random((BATCH, HEADS)).astype(np.float32)},
    "alibi as a list": {"alibi_slopes": [0.5, 0.25, 0.125, 0.0625]},
    "bias f32, per key": {"bias": RNG.standard_normal(SEQLEN_K).astype(np.float32)},
    "bias per head, transposed": {
        "bias": RNG.standard_normal((HEADS, SEQLEN_K, SEQLEN_Q))
        .astype(np.float16)
        .transpose(0, 2, 1)
    },
    "padding mask": {"mask": (np.arange(SEQLEN_K) < np.array([[40], [150]]))[:, None, None, :]},
    "mask that hides everything from some": {"mask": np.arange(SEQLEN_Q)[:, None] % 3 > 0},
}


def _exclude_each_other(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Both say where query 0 stands, or one closes the side that the other opens: refused."""
    both = {**a, **b}
    placed_twice = "causal_alignment" in both and "q_offset" in both
    return placed_twice or ("causal" in both and both.get("window_size", (0, 0))[1] > 0)


PAIRS = {
    f"{a} + {b}": {**ONE[a], **ONE[b]}
    for a, b in combinations(ONE, 2)
    if not set(ONE[a]) & set(ONE[b]) and not _exclude_each_other(ONE[a], ONE[b])
}
# On the emulator a few pairs stand for all; a GPU takes every one.
FEW = (
    "causal + sinks",
    "window + bias",
    "softcap + head scales",
    "alibi + mask",
    "softcap + alibi",
    "bias + mask",
    "top-left + alibi",
)
_NOT_TOGETHER = ("causal", "top-left", "window")
ALL_TOGETHER: dict[str, Any] = {
    argument: value
    for name, arguments in ONE.items()
    if name not in _NOT_TOGETHER
    for argument, value in arguments.items()
}


def inputs(dtype: Any = np.float16) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(3)
    shapes = ((BATCH, SEQLEN_Q, HEADS, HEAD_DIM), *[(BATCH, SEQLEN_K, KV_HEADS, HEAD_DIM)] * 2)
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return q, k, v


def check(backend: Backend, arguments: dict[str, Any]) -> None:
    q, k, v = inputs()
    placed = {
        name: backend.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    arrays = (backend.asarray(array) for array in (q, k, v))
    O, LSE = attnprobe.attention(*arrays, **placed, return_lse=True)
    check_attention(backend.asnumpy(O), backend.asnumpy(LSE), q, k, v, **arguments)


@pytest.mark.parametrize("name", [*ONE, *OTHER_FORMS])
def test_alone(xp_backend: Backend, name: str) -> None:
    check(xp_backend, {**ONE, **OTHER_FORMS}[name])


@pytest.mark.parametrize("name", FEW)
def test_some_pairs(xp_backend: Backend, name: str) -> None:
    check(xp_backend, PAIRS[name])


@pytest.mark.gpu
@pytest.mark.parametrize("name", PAIRS)
def test_every_pair(name: str) -> None:
    check(make_backend("gpu"), PAIRS[name])


def test_all_together(xp_backend: Backend) -> None:
    check(xp_backend, ALL_TOGETHER)


def test_values_that_a_mask_hides_change_no_bit(xp_backend: Backend) -> None:
    q, k, v = inputs()
    hidden = np.zeros(SEQLEN_K, bool)
    hidden[[3, 64, 149]] = True
    arrays = [xp_backend.asarray(array) for array in (q, k, v)]
    mask = xp_backend.asarray(~hidden)
    bias = xp_backend.asarray(np.where(hidden, -np.inf, 0.0).astype(np.float32))
    clean = [attnprobe.attention(*arrays, **extra) for extra in ({"mask": mask}, {"bias": bias})]
    k[:, hidden], v[:, hidden] = np.nan, np.inf
    arrays = [xp_backend.asarray(array) for array in (q, k, v)]
    for before, extra in zip(clean, ({"mask": mask}, {"bias": bias}), strict=True):
        after = attnprobe.attention(*arrays, **extra)
        assert xp_backend.asnumpy(after).tobytes() == xp_backend.asnumpy(before).tobytes()


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"alibi_slopes": [1.0, 2.0]}, ["alibi_slopes", "(2,)", "(4,)", "(2, 4)"]),
    ({"alibi_slopes": "steep"}, ["alibi_slopes", "number per head"]),
    ({"sinks": np.zeros((4, 1))}, ["sinks", "(4, 1)"]),
    ({"softmax_scale": [1.0, np.nan, 1.0, 1.0]}, ["finite"]),
    ({"softmax_scale": [1.0]}, ["(1,)", "(4,)"]),
    ({"bias": np.zeros((3, 1, 1))}, ["float64", "float16", "float32"]),
    ({"bias": np.zeros((3, 1, 1), np.float32)}, ["(3, 1, 1)", "(2, 4, 90, 150)"]),
    ({"mask": np.ones((90, 150), np.uint8)}, ["uint8", "bool"]),
    ({"mask": [[True]]}, ["list"]),
    ({"causal": True, "causal_alignment": "centre"}, ["'centre'", "'bottom-right'", "'top-left'"]),
    ({"q_offset": -1}, ["-1", "from 0"]),
    ({"q_offset": 1.5}, ["1.5", "whole"]),
    ({"q_offset": 1, "causal_alignment": "top-left"}, ["both"]),
]


@pytest.mark.parametrize(
    ("arguments", "words"), REFUSED, ids=[str(list(row[0])) for row in REFUSED]
)
def test_refused_with_reasons(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        attnprobe.attention(*inputs(), **arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_bias_of_minus_infinity_hides_any_score(score: float) -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal((1, n, 1, 32)).astype(np.float16) for n in (20, 40, 40))
    bias = rng.standard_normal((1, 1, 20, 40)).astype(np.float16)
    bias[..., 5] = -np.inf
    expected = attnprobe.attention(q, k, v, bias=bias, return_lse=True)
    k[0, 5, 0, 3] = score
    actual = attnprobe.attention(q, k, v, bias=bias, return_lse=True)
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
