"""The Hopper kernel for e4m3: when the plan takes it, what its compiler says, what it computes."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe import compile as compile_
from attnprobe.arch import ARCHES, Arch
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import Layout, Problem
from attnprobe.engine.wgmma8 import WGMMA8, Wgmma8Variant
from attnprobe.errors import ProblemError, UnsupportedError
from attnprobe.formats import FORMATS
from attnprobe.numerics.error import check_attention
from attnprobe.numerics.fills import E4M3_FILLS, EQUAL_COLUMNS, FILLS, Sizes
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features
from attnprobe.numerics.reference import attention as attention_float64
from tests.engine.hopper import HOPPER, hopper_plans

E4M3 = ml_dtypes.float8_e4m3fn
CAUSAL = (-1, 0)
Array = Any


def make(head_dim: int = 128, **changes: object) -> Problem:
    e4m3, bf16 = FORMATS["e4m3"], FORMATS["bf16"]
    sizes = (2, 2048, 2048, 8, 2, head_dim, head_dim)
    plain = Problem(*sizes, e4m3, 0.125, (-1, -1), 0.0, True, e4m3, bf16, mappable=True)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("head_dim", range(16, 257, 16))
@pytest.mark.parametrize("window", [(-1, -1), CAUSAL, (100, 0)])
def test_every_width_up_to_256_has_a_tile(head_dim: int, window: tuple[int, int]) -> None:
    plan = make_plan(make(head_dim, window=window), HOPPER)
    assert plan.variant in WGMMA8
    assert plan.shared_bytes <= HOPPER.smem_per_block
    assert plan.block[0] == 128 * (plan.variant.block_m // 64 + 1)


def problems() -> list[Problem]:
    """Return problems that between them take every row."""
    descales = {"q_descale": True, "k_descale": True, "v_descale": True}
    return [
        make(head_dim, window=window, softcap=softcap, seqlen_q=keys, seqlen_k=keys, **descales)
        for head_dim in (64, 128, 256)
        for window in ((-1, -1), CAUSAL, (1000, 0))
        for softcap in (0.0, 20.0)
        for keys in (2048, 4096)
    ]


def test_every_row_is_reachable() -> None:
    assert {make_plan(problem, HOPPER).variant for problem in problems()} == set(WGMMA8)


# Bytes. What O is to be scaled by is kept until the product is complete: one store and one load in
# two blocks of keys.
SPILLED = {(128, 96): 8}


@pytest.mark.parametrize(
    "row", WGMMA8, ids=lambda row: f"{row.head_dim}-{row.block_m}x{row.block_n}"
)
def test_machine_code_neither_spills_nor_serialises(row: Wgmma8Variant) -> None:
    """ptxas says C75xx where it cannot keep products asynchronous."""
    plans = [make_plan(problem, HOPPER) for problem in problems()]
    taken = [plan for plan in plans if plan.variant == row]
    assert taken
    for plan in {taken[0]: None, taken[-1]: None}:
        _, log = compile_.cubin(plan.source(), "sm_90a")
        spilled = max(map(int, re.findall(r"(\d+) bytes spill", log)))
        assert spilled <= SPILLED.get((row.head_dim, row.block_n), 0), (plan, log)
        assert not re.findall(r"C75\d\d.*", log), (plan, log)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mappable": False}, "no tensor map"),
        ({"mask": True, "plane": (2048, 2048)}, "no mask"),
        ({"layout": Layout(varlen_q=True, varlen_k=True)}, "whole sequences only"),
        ({"layout": Layout(page_size=16, num_pages=1000)}, "no pages"),
        ({"num_splits": 2}, "does not split"),
    ],
)
def test_a_refusal_says_why(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        make_plan(make(**changes), HOPPER)


@pytest.mark.parametrize("on", [row for row in ARCHES if row.cc != 90] + [HOPPER.portable])
def test_other_archs_say_what_to_do(on: Arch) -> None:
    with pytest.raises(UnsupportedError, match=r"needs sm_90a; elsewhere give q in float16"):
        make_plan(make(), on)


small_gpu = partial(hopper_plans, rows=WGMMA8)


def qkv(
    rows: tuple[int, int],
    heads: tuple[int, int],
    head_dim: int,
    v_head_dim: int = 0,
    batch: int = 1,
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(sum(rows) + head_dim)
    keys = (batch, rows[1], heads[1])
    shapes = (
        (batch, rows[0], heads[0], head_dim),
        (*keys, head_dim),
        (*keys, v_head_dim or head_dim),
    )
    q, k, v = (rng.standard_normal(shape).astype(E4M3) for shape in shapes)
    return q, k, v


def run(q: Array, k: Array, v: Array, **features: Any) -> tuple[Array, Array]:
    with small_gpu():
        O, LSE = attnprobe.attention(q, k, v, return_lse=True, **features)
    return O, LSE


CASES: dict[str, tuple[tuple[int, int], tuple[int, int], int, dict[str, Any]]] = {
    "whole and ragged blocks": ((64, 140), (1, 1), 64, {}),
    "a block of keys to the last": ((65, 192), (1, 1), 128, {}),
    "one key more than a block": ((64, 193), (1, 1), 128, {}),
    "one key": ((3, 1), (1, 1), 64, {}),
    "causal, shared K and V": ((200, 230), (2, 1), 64, {"causal": True}),
    "rows without keys": ((260, 70), (1, 1), 64, {"causal": True}),
    "more keys than short tiles are for, causal": ((70, 2060), (1, 1), 128, {"causal": True}),
    "window": ((70, 260), (1, 1), 128, {"window_size": (100, 9)}),
    "window and softcap": ((70, 200), (1, 1), 64, {"window_size": (40, 9), "softcap": 4.0}),
    "128 columns, causal": ((130, 260), (4, 2), 128, {"causal": True}),
    "a third of a panel": ((64, 130), (1, 1), 48, {"softmax_scale": -0.2}),
    "sinks": ((64, 130), (2, 2), 16, {"sinks": np.array([1.0, -3.0], np.float32)}),
    "256 columns": ((64, 200), (1, 1), 256, {}),
    "240 columns, causal, softcap": ((64, 130), (1, 1), 240, {"causal": True, "softcap": 3.0}),
}


@pytest.mark.parametrize("case", CASES)
def test_results(case: str) -> None:
    rows, heads, head_dim, features = CASES[case]
    q, k, v = qkv(rows, heads, head_dim)
    O, LSE = run(q, k, v, **features)
    assert O.dtype == ml_dtypes.bfloat16
    check_attention(O, LSE, q, k, v, **features)


@pytest.mark.parametrize("widths", [(192, 80), (64, 144), (32, 16)])
def test_v_may_have_a_width_of_its_own(widths: tuple[int, int]) -> None:
    q, k, v = qkv((64, 150), (1, 1), *widths)
    O, LSE = run(q, k, v, causal=True)
    check_attention(O, LSE, q, k, v, causal=True)


@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_every_column_of_v_comes_out_in_its_place(head_dim: int) -> None:
    """With one key O is a copy of V, here of all numbers of e4m3 but NaN."""
    v = np.arange(256, dtype=np.uint8)
    v = np.where(v & 0x7F == 0x7F, 0, v).astype(np.uint8).view(E4M3).reshape(1, 1, -1, head_dim)
    q, k, _ = qkv((5, 1), (v.shape[2], v.shape[2]), head_dim)
    O, _ = run(q, k, v)
    expected = np.broadcast_to(v.astype(np.float32), O.shape)
    np.testing.assert_array_equal(O.astype(np.float32), expected)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_every_key_meets_its_own_v(head_dim: int) -> None:
    """Equal scores and a one-hot V: column d sees key d and no other."""
    keys = 200
    q, k, _ = qkv((16, keys), (1, 1), head_dim)
    v = np.zeros((1, keys, 1, head_dim), np.float32)
    for column in range(head_dim):
        v[0, column * 3 % keys, 0, column] = column + 1 if column < 16 else 1
    v = v.astype(E4M3)
    O, _ = run(np.zeros_like(q), k, v, out_dtype="float32")
    expected = v.astype(np.float64).sum(axis=1, keepdims=True) / keys
    np.testing.assert_allclose(O, np.broadcast_to(expected, O.shape), rtol=1e-6)


POWERS = ([0.25, 4.0], [2.0, 0.5], [8.0, 0.125])
OTHERS = ([0.37, 1.9], [1.3, 0.71], [0.011, 23.0])


@pytest.mark.parametrize("descales", [POWERS, OTHERS], ids=["powers of two", "others"])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_each_kv_head_has_its_descales(descales: Any, softcap: float) -> None:
    q, k, v = qkv((64, 150), (4, 2), 64)
    of_q, of_k, of_v = (np.array(each, np.float32) for each in descales)
    options = {"q_descale": of_q, "k_descale": of_k, "v_descale": of_v, "softcap": softcap}
    O, LSE = run(q, k, v, out_dtype="float32", **options)
    scales = np.repeat(of_q * of_k, 2) / 8  # of four query heads
    per_head = np.repeat(of_v, 2)[:, None]
    check_attention(O / per_head, LSE, q, k, v, softmax_scale=scales, softcap=softcap)


def test_descales_by_batch_and_a_number_for_all() -> None:
    q, k, v = qkv((64, 100), (2, 1), 64, batch=2)
    of_k = np.array([[0.5], [3.0]], np.float32)
    O, LSE = run(q, k, v, out_dtype="float32", q_descale=0.3, k_descale=of_k, v_descale=0.7)
    for b in range(2):
        one = slice(b, b + 1)
        scale = float(np.float32(0.3) * of_k[b, 0]) / 8
        check_attention(
            O[one] / np.float32(0.7), LSE[one], q[one], k[one], v[one], softmax_scale=scale
        )


def outliers(q: Array, k: Array, v: Array) -> None:
    rng = np.random.default_rng(1)
    for x in (q, k, v):
        x.reshape(-1)[rng.choice(x.size, x.size // 200, replace=False)] = 30.0


def offset_v(q: Array, k: Array, v: Array) -> None:
    v[:] = (v.astype(np.float32) + 8).astype(E4M3)


def rising(q: Array, k: Array, v: Array) -> None:
    """Blocks go from the last key to the first: each has a greater maximum than all before."""
    q[:] = np.abs(q.astype(np.float32)).astype(E4M3)
    steps = np.linspace(3.0, 0.0, k.shape[1])[None, :, None, None]
    k[:] = np.broadcast_to(steps, k.shape).astype(E4M3)


def negative(q: Array, k: Array, v: Array) -> None:
    """Every score is less than 0: the bits of floats then compare the other way round."""
    q[:] = np.abs(q.astype(np.float32)).astype(E4M3)
    k[:] = -np.abs(k.astype(np.float32)).astype(E4M3)


@pytest.mark.parametrize("change", [outliers, offset_v, rising, negative])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_data_that_shows_faults(change: Any, head_dim: int) -> None:
    q, k, v = qkv((64, 300), (1, 1), head_dim)
    change(q, k, v)
    O, LSE = run(q, k, v, causal=head_dim == 64)
    check_attention(O, LSE, q, k, v, causal=head_dim == 64)


@pytest.mark.parametrize("head_dim", [32, 80])
def test_long_sums_go_on_in_float32(head_dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bits of the hardware: V of one sign, more keys than the tensor core sums."""
    monkeypatch.setenv("ATTNPROBE_MMA", "exact")
    q, k, v = qkv((16, 1700), (1, 1), head_dim)
    v[:] = (np.abs(v.astype(np.float32)) + 1).astype(E4M3)
    rising(q, k, v)  # what is added to the total is in units of another maximum each time
    O, LSE = run(q, k, v, softmax_scale=0.3 / head_dim, out_dtype="float32")
    check_attention(O, LSE, q, k, v, softmax_scale=0.3 / head_dim)
    exact = attention_float64(q, k, v, Features(softmax_scale=0.3 / head_dim)).o
    assert -0.016 < float((O / exact - 1).mean()) < 0.001


@pytest.mark.parametrize("name", E4M3_FILLS)
def test_every_fill_on_the_grid_of_e4m3(name: str) -> None:
    fill = FILLS[name]
    q, k, v = fill(Sizes(40, 140, 2, 1, 64), E4M3)
    O, LSE = run(q, k, v, causal=True)
    checks = tuple(name for name in fill.checks if name == EQUAL_COLUMNS)
    verdict = Question(q, k, v, Features(causal=True), checks).judge(O, LSE)
    assert verdict.ok, str(verdict)


@pytest.mark.parametrize("window", [(-1, 0), (50, 0), (30, 20)])
def test_a_nan_of_v_reaches_the_rows_that_see_it_and_no_other(window: tuple[int, int]) -> None:
    q, k, v = qkv((70, 300), (1, 1), 64)
    spoilt = v.copy()
    for key, column in ((299, 0), (250, 5), (240, 63)):
        spoilt[0, key, 0, column] = np.nan
    clean, _ = run(q, k, v, window_size=window)
    O, LSE = run(q, k, spoilt, window_size=window)
    check_attention(O, LSE, q, k, spoilt, window_size=window)
    reached = np.isnan(O.astype(np.float32))
    assert reached.any()
    assert not reached.all(axis=1).any()
    assert O[~reached].tobytes() == clean[~reached].tobytes()


def test_a_nan_of_k_reaches_the_rows_that_see_it_and_no_other() -> None:
    q, k, v = qkv((70, 140), (1, 1), 64)
    spoilt = k.copy()
    spoilt[0, 100, 0, 3] = np.nan  # seen by query 30 and later
    clean, _ = run(q, k, v, causal=True)
    O, _ = run(q, spoilt, v, causal=True)
    assert np.isnan(O[0, 30:].astype(np.float32)).all()
    assert O[0, :30].tobytes() == clean[0, :30].tobytes()


def test_what_no_query_sees_changes_no_bit() -> None:
    q, k, v = qkv((64, 200), (1, 1), 128)
    results = []
    for garbage in (0.0, np.nan):
        rooms = [np.full((1, 260, 1, 128), garbage, np.float32).astype(E4M3) for _ in range(2)]
        rooms[0][:, :200], rooms[1][:, :200] = k, v
        results.append(run(q, rooms[0][:, :200], rooms[1][:, :200])[0].tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("queries", "causal"), [(64, True), (450, False), (700, False)], ids=["causal", "450", "700"]
)
def test_bits_do_not_depend_on_the_number_of_blocks(queries: int, causal: bool) -> None:
    """Nor on how many warpgroups the last tiles have (shrinking_schedule.cuh)."""
    q, k, v = qkv((queries, 130), (2, 2), 128)
    results = set()
    for blocks in (1, 2, 5, 7):
        with small_gpu(blocks):
            results.add(attnprobe.attention(q, k, v, causal=causal).tobytes())
    assert len(results) == 1


def test_out_may_be_of_any_format_and_unaligned() -> None:
    q, k, v = qkv((64, 90), (1, 1), 64)
    out = np.full((1, 64, 1, 66), np.nan, np.float32)[..., 1:65]
    with small_gpu():
        half = attnprobe.attention(q, k, v, out_dtype="float16")
        attnprobe.attention(q, k, v, out=out)
    np.testing.assert_array_equal(out.astype(np.float16), half)


def test_bytes_with_a_format_are_e4m3() -> None:
    q, k, v = qkv((64, 90), (1, 1), 64)
    bare = (x.view(np.uint8) for x in (q, k, v))
    O, _ = run(*bare, kv_format="e4m3")
    assert O.tobytes() == run(q, k, v)[0].tobytes()


def test_the_emulator_takes_hoppers_kernel_by_itself() -> None:
    q, k, v = qkv((8, 16), (1, 1), 16)
    O, LSE = attnprobe.attention(q, k, v, return_lse=True)
    check_attention(O, LSE, q, k, v)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((E4M3, np.float16, np.float16), "all three must be e4m3"),
        ((E4M3, np.int8, np.int8), "all three must be e4m3"),
        ((np.int8, np.int8, np.int8), "q has dtype int8"),
        ((np.uint8, np.uint8, np.uint8), "kv_format='e4m3'"),
    ],
)
def test_mixtures_are_refused(kinds: Any, message: str) -> None:
    q, k, v = (np.zeros((1, 4, 1, 16), np.uint8).astype(kind) for kind in kinds)
    with pytest.raises(ProblemError, match=message):
        attnprobe.attention(q, k, v)


GPU_CASES = {
    **CASES,
    "many tiles a block": ((1000, 1500), (24, 8), 128, {"causal": True}),
    "a total of many blocks": ((700, 9000), (8, 8), 128, {}),
    "many tiles of 192 queries": ((2000, 2000), (24, 24), 64, {}),
    "window over many blocks": ((1500, 1500), (8, 4), 256, {"window_size": (300, 20)}),
}


@pytest.mark.gpu
@pytest.mark.parametrize("case", GPU_CASES)
def test_results_on_the_gpu_are_right_and_always_the_same(case: str) -> None:
    import cupy

    rows, heads, head_dim, features = GPU_CASES[case]
    q, k, v = qkv(rows, heads, head_dim)
    there = [cupy.asarray(array.view(np.uint8)) for array in (q, k, v)]
    options = {"kv_format": "e4m3", "out_dtype": "float32", **features}
    O, LSE = (cupy.asnumpy(x) for x in attnprobe.attention(*there, return_lse=True, **options))
    check_attention(O, LSE, q, k, v, **features)
    for _ in range(100):
        again = attnprobe.attention(*there, **options)
        assert cupy.asnumpy(again).tobytes() == O.tobytes()


@pytest.mark.gpu
def test_a_number_as_descale_holds_for_every_later_call() -> None:
    import cupy

    q, k, v = (cupy.asarray(array.view(np.uint8)) for array in qkv((64, 100), (2, 2), 64))
    calls = [attnprobe.attention(q, k, v, kv_format="e4m3", v_descale=2.0) for _ in range(3)]
    plain = attnprobe.attention(q, k, v, kv_format="e4m3")
    for O in calls:
        np.testing.assert_array_equal(cupy.asnumpy(O), cupy.asnumpy(plain) * 2)
