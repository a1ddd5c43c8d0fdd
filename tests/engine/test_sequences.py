"""Packed and paged sequences: each is what it is alone, whatever lies beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.errors import ProblemError
from attnprobe.numerics import calls
from attnprobe.numerics.calls import Call, Pages
from attnprobe.numerics.reference import Features
from tests.conftest import Backend, make_backend

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 16  # the least width: what is tested here does not depend on it
LENGTHS = ((5, 9), (0, 3), (70, 150), (17, 17), (1, 33), (9, 0))  # queries, keys
SEVERAL = ((3, 40), (3, 0), (3, 65), (3, 7))  # of as many queries each

# What a call can do to its scores, where it is the same for every sequence.
SCORES: dict[str, Features] = {
    "plain": Features(),
    "causal": Features(causal=True),
    "top-left": Features(causal=True, causal_alignment="top-left"),
    "q_offset": Features(causal=True, q_offset=12),
    "window": Features(window_size=(30, 9)),
    "softcap": Features(softcap=6.0),
    "head scales": Features(softmax_scale=np.array([0.1, -0.2, 0.0, 0.4], np.float32)),
    "alibi": Features(alibi_slopes=np.array([0.5, 0.25, 0.125, -0.1], np.float32)),
    "sinks": Features(sinks=np.array([0.0, 3.0, -np.inf, -50.0], np.float32)),
    "all": Features(
        softmax_scale=np.array([0.1, -0.2, 0.3, 0.4], np.float32),
        causal=True,
        window_size=(40, -1),
        softcap=6.0,
        alibi_slopes=np.array([0.5, 0.25, 0.125, -0.1], np.float32),
        sinks=np.array([0.0, 3.0, -np.inf, -50.0], np.float32),
    ),
}
# On the emulator a few stand for all.
SOMEWHERE = [
    *(("emulator", name) for name in ("causal", "q_offset", "all")),
    *(pytest.param("gpu", name, marks=pytest.mark.gpu) for name in SCORES),
]


def sequences(lengths: tuple[tuple[int, int], ...], dtype: Any = np.float16, seed: int = 5) -> Any:
    rng = np.random.default_rng(seed)

    def normal(rows: int, heads: int) -> Any:
        return rng.standard_normal((1, rows, heads, HEAD_DIM)).astype(dtype)

    return [
        (normal(queries, HEADS), normal(keys, KV_HEADS), normal(keys, KV_HEADS))
        for queries, keys in lengths
    ]


def run(backend: Backend, call: Call, **more: Any) -> tuple[Any, Any]:
    arrays = {name: backend.asarray(array) for name, array in call.arrays.items()}
    function = getattr(attnprobe, call.entry)
    O, LSE = function(**arrays, **call.options, **more, return_lse=True)
    return backend.asnumpy(O), backend.asnumpy(LSE)


def check(call: Call, results: tuple[Any, Any]) -> None:
    verdict = call.judge(*results, diagnose=False)
    assert verdict.ok, str(verdict)


@pytest.mark.parametrize(("backend", "name"), SOMEWHERE)
def test_packed_sequences_are_what_float64_gives(backend: str, name: str) -> None:
    call = calls.varlen(sequences(LENGTHS), SCORES[name], ("bound",), np.nan)
    check(call, run(make_backend(backend), call))


@pytest.mark.parametrize(("backend", "name"), SOMEWHERE)
def test_pages_are_what_float64_gives(backend: str, name: str) -> None:
    call = calls.paged(sequences(LENGTHS), SCORES[name], ("bound",), Pages(3), np.nan)
    check(call, run(make_backend(backend), call))


@pytest.mark.parametrize("lengths", [SEVERAL, ((70, 150), (1, 9), (17, 0))])
@pytest.mark.parametrize("page_size", [0, 7, 16])
def test_left_padding_hides_what_stands_before_the_first_key(
    xp_backend: Backend, page_size: int, lengths: tuple[tuple[int, int], ...]
) -> None:
    padding = (5, 0, 16, 33)[: len(lengths)]
    call = calls.paged(
        sequences(lengths), SCORES["causal"], ("bound",), Pages(page_size), np.nan, leftpad=padding
    )
    check(call, run(xp_backend, call))


@pytest.mark.parametrize("page_size", [0, 1, 64, 100])
def test_every_page_size_gives_the_same_bits(xp_backend: Backend, page_size: int) -> None:
    inputs = sequences(SEVERAL)
    one, other = (
        run(xp_backend, calls.paged(inputs, SCORES["causal"], (), pages, garbage), num_splits=2)
        for pages, garbage in ((Pages(7), np.inf), (Pages(page_size), np.nan))
    )
    for mine, yours in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("num_splits", [1, 3])
def test_the_bits_of_a_packed_sequence_do_not_depend_on_its_neighbours(
    xp_backend: Backend, num_splits: int
) -> None:
    inputs = sequences(LENGTHS)
    call = calls.varlen(inputs, SCORES["causal"], (), np.nan)
    O, LSE = run(xp_backend, call, num_splits=num_splits)
    for part, qkv in zip(call.parts, inputs, strict=True):
        mine = call.result_of(part, O, LSE)
        single = calls.varlen([qkv], SCORES["causal"], (), np.nan)
        alone = run(xp_backend, single, num_splits=num_splits)
        for packed, other in zip(mine, single.result_of(single.parts[0], *alone), strict=True):
            np.testing.assert_array_equal(packed, other)


def test_bias_and_mask_count_from_the_beginning_of_each_sequence(xp_backend: Backend) -> None:
    lengths = ((5, 9), (20, 30), (12, 12))
    inputs = sequences(lengths)
    rng = np.random.default_rng(2)
    bias = rng.standard_normal((3, HEADS, 20, 30)).astype(np.float32)
    mask = rng.random((3, 1, 20, 30)) < 0.7
    call = calls.varlen(inputs, Features(), (), np.nan)
    planes = {"bias": xp_backend.asarray(bias), "mask": xp_backend.asarray(mask)}
    O, LSE = run(xp_backend, call, **planes)
    for number, (part, (queries, keys)) in enumerate(zip(call.parts, lengths, strict=True)):
        own = (slice(number, number + 1), slice(None), slice(queries), slice(keys))
        question = replace(part.question, features=Features(bias=bias[own], mask=mask[own]))
        verdict = question.judge(*call.result_of(part, O, LSE), diagnose=False)
        assert verdict.ok, str(verdict)


def test_a_mask_shorter_than_a_sequence_hides_the_rest(xp_backend: Backend) -> None:
    (q, k, v), short = sequences(((10, 40),))[0], 25
    call = calls.varlen([(q, k, v)], Features(), (), np.nan)
    O, _ = run(xp_backend, call, mask=xp_backend.asarray(np.ones((1, 1, 10, short), bool)))
    arrays = [xp_backend.asarray(array) for array in (q, k[:, :short], v[:, :short])]
    np.testing.assert_array_equal(O, xp_backend.asnumpy(attnprobe.attention(*arrays))[0])


@pytest.mark.parametrize("garbage", [np.inf, -60000.0])
def test_what_nobody_sees_changes_no_bit(xp_backend: Backend, garbage: float) -> None:
    for make in (
        lambda fill: calls.varlen(sequences(LENGTHS), SCORES["window"], (), fill),
        lambda fill: calls.paged(sequences(LENGTHS), SCORES["window"], (), Pages(5), fill),
    ):
        clean, dirty = (run(xp_backend, make(fill)) for fill in (0.0, garbage))
        for mine, yours in zip(clean, dirty, strict=True):
            np.testing.assert_array_equal(mine, yours)


def test_a_nan_stays_in_its_sequence(xp_backend: Backend) -> None:
    inputs = sequences(LENGTHS)
    call = calls.varlen(inputs, SCORES["causal"], (), 0.0)
    before = run(xp_backend, call)
    spoiled = [tuple(array.copy() for array in qkv) for qkv in inputs]
    spoiled[3][2][0, 4, 1, 7] = np.nan  # a value of the fourth sequence, second K/V head
    after = run(xp_backend, calls.varlen(spoiled, SCORES["causal"], (), 0.0))
    part = call.parts[3]
    rows = np.arange(before[0].shape[0])
    reached = (rows >= part.first + 4) & (rows < part.stop)  # causal: its own query and later ones
    assert np.isnan(after[0][reached][:, 2:, 7]).all()
    untouched = after[0].copy()
    untouched[np.ix_(reached, [2, 3], [7])] = before[0][np.ix_(reached, [2, 3], [7])]
    np.testing.assert_array_equal(untouched, before[0])


@pytest.mark.parametrize("out_dtype", ["float32", np.float16, "bfloat16"])
def test_o_has_the_dtype_that_was_asked_for(xp_backend: Backend, out_dtype: Any) -> None:
    call = calls.varlen(sequences(((20, 40),)), Features(), (), 0.0)
    wide, _ = run(xp_backend, call, out_dtype="float32")
    O, _ = run(xp_backend, call, out_dtype=out_dtype)
    names = {"float32": "float32", np.float16: "float16", "bfloat16": "bfloat16"}
    assert O.dtype.name == names[out_dtype]
    np.testing.assert_array_equal(O, wide.astype(O.dtype))


def test_out_decides_its_own_dtype() -> None:
    q, k, v = sequences(((20, 40),))[0]
    out = np.empty((20, HEADS, HEAD_DIM), np.float32)[None]
    assert attnprobe.attention(q, k, v, out=out) is out
    np.testing.assert_array_equal(out.astype(np.float16), attnprobe.attention(q, k, v))
    with pytest.raises(ProblemError, match=r"out has shape .* float32.*float16 is wanted"):
        attnprobe.attention(q, k, v, out=out, out_dtype="float16")
    with pytest.raises(ProblemError, match="out_dtype is 'int8'"):
        attnprobe.attention(q, k, v, out_dtype="int8")


def test_no_sequences_and_no_rows() -> None:
    q, k, v = (np.zeros((0, heads, HEAD_DIM), np.float16) for heads in (HEADS, KV_HEADS, KV_HEADS))
    for bounds in ([0], [0, 0, 0]):
        O, LSE = attnprobe.attention_varlen(q, k, v, bounds, bounds, return_lse=True)
        assert O.shape == (0, HEADS, HEAD_DIM)
        assert LSE.shape == (HEADS, 0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two axes": ({"q": np.zeros((5, 16), np.float16)}, "q has 2 axes .* three are wanted"),
    "does not begin with 0": ({"cu_seqlens_q": [1, 5]}, "cu_seqlens_q is .* must begin with 0"),
    "falls": ({"cu_seqlens_k": [0, 9, 7], "cu_seqlens_q": [0, 2, 5]}, "never fall"),
    "past the end": ({"cu_seqlens_k": [0, 10]}, "no more than the 9 rows"),
    "another batch": ({"cu_seqlens_k": [0, 4, 9]}, "batch 1 and k, v have 2|shape .3"),
    "fractions": ({"cu_seqlens_q": np.array([0.0, 5.0])}, "cu_seqlens_q has dtype float64; int32"),
    "a plane": ({"cu_seqlens_q": [[0, 5]]}, "cu_seqlens_q has shape"),
    "uses more than it has": ({"seqused_k": [10]}, "sequence 0 uses 10 keys and has room for 9"),
    "uses less than nothing": ({"seqused_k": [-1]}, "seqused_k has -1"),
    "lengths of others": ({"seqused_k": [1, 2]}, r"seqused_k has shape \(2,\); \(1,\) is wanted"),
    "a bias that does not fit": (
        {"bias": np.zeros((1, 4, 7, 9, 1), np.float16)},
        "bias has shape .* broadcasts to",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_of_packed_calls(name: str) -> None:
    q, k, v = (array[0] for array in sequences(((5, 9),))[0])
    good = {"q": q, "k": k, "v": v, "cu_seqlens_q": [0, 5], "cu_seqlens_k": [0, 9]}
    changed, message = REFUSED[name]
    with pytest.raises(ProblemError, match=message):
        attnprobe.attention_varlen(**{**good, **changed})
    assert np.isfinite(attnprobe.attention_varlen(**good)).all()


@pytest.mark.gpu
def test_lengths_on_the_gpu_that_point_nowhere_are_cut() -> None:
    import cupy

    q, k, v = (cupy.asarray(array[0]) for array in sequences(((70, 150),))[0])
    wild = cupy.asarray([-5, 2**31 - 1, -(2**31), 60, 2**30], np.int32)
    attnprobe.attention_varlen(q, k, v, wild, wild, causal=True)
    used = cupy.asarray([2**31 - 1], np.int32)
    table = cupy.asarray([[2**31 - 1, -7, 3]], np.int32)
    pages = k[:144].reshape(9, 16, KV_HEADS, HEAD_DIM)
    attnprobe.attention_paged(q[None], pages, pages, table, used)
    cupy.cuda.runtime.deviceSynchronize()  # an access outside would be an error here
