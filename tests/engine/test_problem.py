"""Wrong input is refused before any compile, with what was given and what works."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe import compile as compile_
from attnprobe.engine.arrays import take
from attnprobe.engine.problem import Problem, make_problem
from attnprobe.errors import ProblemError


def array(
    seqlen: int = 8, heads: int = 2, head_dim: int = 64, batch: int = 1, dtype: Any = np.float16
) -> Any:
    rng = np.random.default_rng(seqlen + heads)
    return rng.standard_normal((batch, seqlen, heads, head_dim)).astype(dtype)


def problem_of(q: Any, k: Any, v: Any, **options: Any) -> Problem:
    specs = [take(name, given).spec(name) for name, given in zip("qkv", (q, k, v), strict=True)]
    return make_problem(*specs, None, **options)


@pytest.fixture
def no_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("something was compiled before the input was refused")

    monkeypatch.setattr(compile_, "ptx", refuse)
    monkeypatch.setattr(compile_, "cubin", refuse)


GOOD = array()

REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("float32", {"q": GOOD.astype(np.float32)}, {}, ["q has dtype float32", "float16", "bfloat16"]),
    ("mixed dtypes", {"v": GOOD.astype(ml_dtypes.bfloat16)}, {}, ["bfloat16", "own dtype"]),
    ("three axes", {"q": GOOD[0]}, {}, ["3 axes", "four", "x[None]"]),
    ("head_dim 72", {n: array(head_dim=72) for n in "qkv"}, {}, ["72", "16 up to 576", "80"]),
    ("head_dim 592", {n: array(head_dim=592) for n in "qkv"}, {}, ["592", "nearest", "576"]),
    ("head_dim 0", {n: array(head_dim=0) for n in "qkv"}, {}, ["head_dim 0", "16"]),
    ("v of 528", {"v": array(head_dim=528)}, {}, ["head_dim of v 528", "up to 512"]),
    ("head_dims differ", {"q": array(head_dim=128)}, {}, ["128", "64"]),
    ("k and v differ", {"v": array(9)}, {}, ["(1, 8, 2, 64)", "(1, 9, 2, 64)", "last axis"]),
    ("batches differ", {"q": array(batch=2)}, {}, ["batch 2", "have 1"]),
    ("heads", {"q": array(heads=6), "k": array(heads=4), "v": array(heads=4)}, {}, ["4", "6", "3"]),
    ("no kv heads", {"k": GOOD[:, :, :0], "v": GOOD[:, :, :0]}, {}, ["num_kv_heads 0"]),
    ("strided head_dim", {"q": array(head_dim=128)[..., ::2]}, {}, ["stride 2", "contiguous"]),
    ("list", {"q": [[1.0]]}, {}, ["list", "__dlpack__"]),
    ("nan scale", {}, {"softmax_scale": math.nan}, ["nan", "finite"]),
    ("inf scale", {}, {"softmax_scale": math.inf}, ["inf", "finite"]),
    ("scale text", {}, {"softmax_scale": "small"}, ["'small'", "number"]),
    ("negative softcap", {}, {"softcap": -1.0}, ["-1.0", "0 (none)"]),
    ("nan softcap", {}, {"softcap": math.nan}, ["nan"]),
    ("window of one", {}, {"window_size": (3,)}, ["(3,)", "two"]),
    ("window below -1", {}, {"window_size": (-2, 0)}, ["(-2, 0)", "-1 = open"]),
    ("window of fractions", {}, {"window_size": (1.5, 0)}, ["(1.5, 0)"]),
    ("causal and right", {}, {"causal": True, "window_size": (4, 2)}, ["contradict"]),
    ("out shape", {}, {"out": array(9)}, ["out", "(1, 9, 2, 64)"]),
    ("out as wide as q", {"v": array(head_dim=32)}, {"out": array()}, ["(1, 8, 2, 32)"]),
    ("out dtype", {}, {"out": GOOD.astype(np.float64)}, ["out", "float64", "float32"]),
    ("out overlaps q", {"q": GOOD}, {"out": GOOD}, ["shares memory with q"]),
    (
        "out overlaps itself",
        {},
        {"out": np.lib.stride_tricks.as_strided(GOOD.copy(), GOOD.shape, (0, 0, 128, 2))},
        ["overlap"],
    ),
]


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(
    ("arrays", "options", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_with_reasons(
    arrays: dict[str, Any], options: dict[str, Any], words: list[str]
) -> None:
    given = {name: GOOD.copy() for name in "qkv"} | arrays
    with pytest.raises(ProblemError) as caught:
        attnprobe.attention(**given, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.usefixtures("no_compile")
def test_read_only_out_is_refused() -> None:
    out = array()
    out.flags.writeable = False
    with pytest.raises(ProblemError, match="read-only"):
        attnprobe.attention(GOOD, GOOD, GOOD, out=out)


@pytest.mark.usefixtures("no_compile")
def test_sizes_past_32_bit_arithmetic_are_refused() -> None:
    long = np.broadcast_to(GOOD[:, :1], (1, 2**28 + 1, 2, 64))
    with pytest.raises(ProblemError, match="2\\^28"):
        attnprobe.attention(GOOD, long, long)


@pytest.mark.usefixtures("no_compile")
def test_odd_byte_strides_are_refused() -> None:
    raw = np.zeros(1 * 8 * 2 * 64 * 2 + 64, np.uint8)
    odd = np.ndarray((1, 8, 2, 64), np.float16, raw, 0, (2056, 257, 128, 2))
    with pytest.raises(ProblemError, match="257"):
        attnprobe.attention(odd, GOOD, GOOD)


def test_default_scale_is_one_over_root_head_dim() -> None:
    assert problem_of(GOOD, GOOD, GOOD).softmax_scale == 1 / math.sqrt(64)


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ({}, (-1, -1)),
        ({"causal": True}, (-1, 0)),
        ({"window_size": (-1, 0)}, (-1, 0)),
        ({"causal": True, "window_size": (7, -1)}, (7, 0)),
        ({"window_size": (0, 3)}, (0, 3)),
    ],
)
def test_causal_is_a_closed_right_side(options: dict[str, Any], window: tuple[int, int]) -> None:
    assert problem_of(GOOD, GOOD, GOOD, **options).window == window


def test_alignment_sees_address_and_strides() -> None:
    wide = array(head_dim=72)
    assert problem_of(GOOD, GOOD, GOOD).aligned
    assert problem_of(wide[..., :64], GOOD, GOOD).aligned  # rows of 144 bytes
    assert not problem_of(wide[..., 1:65], GOOD, GOOD).aligned  # starts 2 bytes late
    odd = array(head_dim=65)
    assert not problem_of(GOOD, odd[..., :64], GOOD).aligned  # rows of 130 bytes
    assert problem_of(odd[:, :1, :1, :64], GOOD[:, :1, :1], GOOD[:, :1, :1]).aligned  # one row only


def test_a_broadcast_axis_of_k_is_taken() -> None:
    k = np.broadcast_to(GOOD, (3, *GOOD.shape[1:]))
    assert problem_of(array(batch=3), k, k).batch == 3
