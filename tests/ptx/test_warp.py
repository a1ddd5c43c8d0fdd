# ruff: noqa: E501
"""Shuffles, votes, matches and reductions between lanes, and atomics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from attnprobe.errors import EmulatorError
from attnprobe.ptx import machine
from tests.ptx.cuda import ARCHES, run_cuda
from tests.ptx.harness import kernel, run

_STORE = "mov.u32 t, %tid.x; ld.param.u64 o, [out]; mul.wide.u32 w, t, 8; add.u64 o, o, w;"
_REGISTERS = ".reg .b32 t, v, r, f, x; .reg .b64 o, w; .reg .pred p, q, z;"


def lanes(code: str, threads: int = 64) -> np.ndarray:
    """Run PTX that leaves results in r and p; return both per thread."""
    body = (
        f"{_STORE} mul.lo.u32 v, t, 10; {code} selp.u32 f, 1, 0, p; st.global.v2.u32 [o], {{r, f}};"
    )
    out = np.zeros((threads, 2), np.uint32)
    run(kernel(body, ".param .u64 out", _REGISTERS), [out], block=(threads,))
    return out


def _shfl(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """The manual's pseudo-code: source lane and predicate."""
    b, limit, segment = b & 31, c & 31, c >> 8 & 31
    low = lane & segment
    high = low | limit & ~segment
    source, inside = {
        "up": (lane - b, lane - b >= high),
        "down": (lane + b, lane + b <= high),
        "bfly": (lane ^ b, lane ^ b <= high),
        "idx": (low | b & ~segment, (low | b & ~segment) <= high),
    }[mode]
    return (source if inside else lane), inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("b", [0, 1, 3, 16, 31, 35])
@pytest.mark.parametrize("width", [32, 16, 4])
def test_shuffle(mode: str, b: int, width: int) -> None:
    c = (32 - width) << 8 | (0 if mode == "up" else 31)
    out = lanes(f"shfl.sync.{mode}.b32 r|p, v, {b}, {c}, 0xffffffff;")
    for thread in range(64):
        source, inside = _shfl(mode, thread % 32, b, c)
        assert tuple(out[thread]) == (10 * (thread // 32 * 32 + source), inside)


def test_shuffle_by_a_lane_that_varies() -> None:
    out = lanes("xor.b32 x, t, 5; mul.lo.u32 x, x, 3; shfl.sync.idx.b32 r|p, v, x, 31, -1;")
    t = np.arange(64)
    np.testing.assert_array_equal(out[:, 0], 10 * (t // 32 * 32 + (t ^ 5) * 3 % 32))


def test_lanes_that_took_different_ways_meet_at_a_shuffle() -> None:
    out = lanes("""
        and.b32 x, t, 3; setp.eq.u32 q, x, 1; setp.eq.u32 p, 0, 0; @q bra A; add.u32 v, v, 1; bra B;
        A: setp.gt.u32 z, t, 40; @z bra C; add.u32 v, v, 2; bra B; C: add.u32 v, v, 3;
        B: shfl.sync.bfly.b32 r, v, 1, 31, -1;""")
    t = np.arange(64)
    value = 10 * t + np.where(t % 4 == 1, np.where(t > 40, 3, 2), 1)
    np.testing.assert_array_equal(out[:, 0], value[t ^ 1])


def test_lanes_that_wait_for_others_do_not_go_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FAIRNESS", 1)  # at every step what has waited longest goes on
    out = lanes("""
        and.b32 x, t, 3; setp.eq.u32 p, 0, 0; setp.ne.u32 q, x, 1; @q bra B;
        A: add.u32 v, v, 1; add.u32 x, x, 1; setp.lt.u32 z, x, 9; @z bra A;
        B: shfl.sync.bfly.b32 r, v, 1, 31, -1;""")
    t = np.arange(64)
    np.testing.assert_array_equal(out[:, 0], (10 * t + np.where(t % 4 == 1, 8, 0))[t ^ 1])


def test_half_a_warp_may_shuffle_under_its_own_mask() -> None:
    out = lanes("""
        setp.eq.u32 p, 0, 0; and.b32 x, t, 31; setp.lt.u32 q, x, 16; mov.u32 r, 7; @!q bra A;
        shfl.sync.bfly.b32 r, v, 3, 31, 0x0000ffff; A:""")
    t = np.arange(64)
    np.testing.assert_array_equal(out[:, 0], np.where(t % 32 < 16, 10 * (t ^ 3), 7))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "setp.lt.u32 q, t, 16; @q bra A; shfl.sync.bfly.b32 r, v, 1, 31, 0xffff; A:",
            "does not name",
        ),
        (
            "setp.lt.u32 q, t, 16; @q bar.sync 1, 32; shfl.sync.bfly.b32 r, v, 1, 31, -1;",
            "are not here",
        ),
    ],
)
def test_a_shuffle_that_names_the_wrong_lanes_is_refused(code: str, message: str) -> None:
    with pytest.raises(EmulatorError, match=message):
        lanes(f"setp.eq.u32 p, 0, 0; {code}", 32)


def test_exited_lanes_are_not_waited_for() -> None:
    out = lanes(
        "setp.ge.u32 q, t, 40; @q ret; setp.eq.u32 p, 0, 0; shfl.sync.bfly.b32 r, v, 1, 31, -1;"
    )
    assert out[:40, 0].tolist() == [10 * (t ^ 1) for t in range(40)]
    assert not out[40:].any()


_PREDICATE = "and.b32 x, t, 5; setp.eq.u32 q, x, 4;"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "vote.sync.ballot.b32 r, q, -1;",
            lambda held: sum(1 << i for i, x in enumerate(held) if x),
        ),
        (
            "vote.sync.ballot.b32 r, !q, -1;",
            lambda held: sum(1 << i for i, x in enumerate(held) if not x),
        ),
        ("vote.sync.any.pred p, q, -1;", any),
        ("vote.sync.all.pred p, q, -1;", all),
        ("vote.sync.uni.pred p, q, -1;", lambda held: all(held) or not any(held)),
    ],
)
@pytest.mark.parametrize("compare", ["x, 4", "x, 9", "t, t"])
def test_votes(code: str, expected: Callable[[list[bool]], int], compare: str) -> None:
    out = lanes(
        f"setp.eq.u32 p, 0, 1; mov.u32 r, 0; and.b32 x, t, 5; setp.eq.u32 q, {compare}; {code}"
    )
    column = 0 if "ballot" in code else 1
    held = {"x, 4": [t & 5 == 4 for t in range(32)], "x, 9": [False] * 32, "t, t": [True] * 32}[
        compare
    ]
    assert set(out[:, column].tolist()) == {int(expected(held))}


def test_a_vote_of_the_lanes_that_branched() -> None:
    out = lanes(
        "setp.eq.u32 p, 0, 0; mov.u32 r, 1; and.b32 x, t, 3; setp.eq.u32 q, x, 2; @!q bra A;"
        "setp.lt.u32 z, t, 20; vote.sync.ballot.b32 r, z, 0x44444444; A:"
    )
    t = np.arange(64)
    expected = np.where(t % 4 == 2, np.where(t < 32, 0x00044444, 0), 1)
    np.testing.assert_array_equal(out[:, 0], expected)


def test_activemask_and_elect() -> None:
    out = lanes(
        "mov.u32 r, 0; and.b32 x, t, 1; setp.eq.u32 q, x, 1; setp.ne.u32 p, 0, 0; @q bra A; "
        "activemask.b32 r;"
        "elect.sync _|p, 0x55555555; A:"
    )
    np.testing.assert_array_equal(out[:, 0], [0x55555555, 0] * 32)
    np.testing.assert_array_equal(out[:, 1], [1, *[0] * 31] * 2)


@pytest.mark.parametrize("name", ["add", "min", "max", "and", "or", "xor"])
@pytest.mark.parametrize("kind", ["u32", "s32"])
def test_reductions(name: str, kind: str) -> None:
    if name in ("and", "or", "xor"):
        kind = "b32"
    values = [(t * 0x9E3779B9 + 0x80000000 * (t % 2)) & 0xFFFFFFFF for t in range(32)]
    out = lanes(
        "setp.eq.u32 p, 0, 0; mul.lo.u32 v, t, 0x9E3779B9; and.b32 x, t, 1; shl.b32 x, x, 31;"
        f"add.u32 v, v, x; redux.sync.{name}.{kind} r, v, -1;",
        32,
    )
    signed = [v - (1 << 32) if kind == "s32" and v >> 31 else v for v in values]
    functions: dict[str, Callable[[list[int]], int]] = {
        "add": sum, "min": min, "max": max,
        "and": lambda xs: int(np.bitwise_and.reduce(np.array(xs, np.uint64))),
        "or": lambda xs: int(np.bitwise_or.reduce(np.array(xs, np.uint64))),
        "xor": lambda xs: int(np.bitwise_xor.reduce(np.array(xs, np.uint64))),
    }  # fmt: skip
    assert set(out[:, 0].tolist()) == {functions[name](signed) & 0xFFFFFFFF}


def test_match() -> None:
    out = lanes("setp.eq.u32 p, 0, 0; and.b32 x, t, 3; match.any.sync.b32 r, x, -1;")
    assert out[:, 0].tolist() == [0x11111111 << t % 4 for t in range(64)]
    out = lanes("shr.u32 x, t, 5; match.all.sync.b32 r|p, x, -1;")
    assert (out == (0xFFFFFFFF, 1)).all()
    out = lanes("shr.u32 x, t, 4; match.all.sync.b32 r|p, x, -1;")
    assert not out.any()


@pytest.mark.parametrize("space", ["shared", "global"])
@pytest.mark.parametrize("cc", ARCHES)
def test_atomics_add_up(space: str, cc: int) -> None:
    declare = "__shared__ int box[4]; if (threadIdx.x < 4) box[threadIdx.x] = 0; __syncthreads();"
    where = "box" if space == "shared" else "out + 300"
    text = f"""extern "C" __global__ void k(int *out) {{
        {declare if space == "shared" else ""}
        int *b = {where};
        const int t = threadIdx.x;
        out[t] = atomicAdd(b + t % 3, t);
        atomicMax(b + 3, t * 7 % 64);
        __syncthreads();
        if (t < 4) out[200 + t] = b[t]; }}"""
    out = np.zeros(304, np.int32)
    run_cuda(text, [out], block=(96,), cc=cc)
    t = np.arange(96)
    assert out[200:204].tolist() == [t[t % 3 == i].sum() for i in range(3)] + [63]
    for i in range(3):  # every thread saw a different partial sum
        assert out[t[t % 3 == i]].tolist() == np.cumsum([0, *t[t % 3 == i][:-1]]).tolist()


@pytest.mark.parametrize(
    ("code", "start", "expected"),
    [
        ("atomicSub(p, 3)", 10, 10 - 96),
        ("atomicMin(p, t - 5)", 7, -5),
        ("atomicExch(p, t)", 7, 31),
        ("atomicAnd(p, ~(1 << t % 8))", 0x1FFF, 0x1F00),
        ("atomicOr(p, 1 << t % 5)", 256, 256 + 31),
        ("atomicXor(p, 1 << t)", 0, -1),
        ("atomicCAS(p, t, t + 1)", 0, 32),
        ("(int)atomicInc((u32 *)p, 9)", 5, 7),
        ("(int)atomicDec((u32 *)p, 9)", 5, 3),
    ],
)
def test_each_atomic(code: str, start: int, expected: int) -> None:
    text = (
        f'extern "C" __global__ void k(int *p) {{ const int t = threadIdx.x; p[t + 1] = {code}; }}'
    )
    out = np.full(33, start, np.int32)
    run_cuda(text, [out])
    assert out[0] == expected
    assert out[1] == start


def test_atomics_on_wide_and_float_values() -> None:
    text = """extern "C" __global__ void k(u64 *a, float *b, double *c, u64 *d) { const int t = threadIdx.x;
        atomicAdd(a, 1ull << 33); atomicAdd(b, 0.5f * t); atomicAdd(c, 0.25 * t); atomicMax(d, 1ull << (t + 8)); }"""
    arrays = [np.zeros(1, kind) for kind in (np.uint64, np.float32, np.float64, np.uint64)]
    run_cuda(text, arrays)
    assert [array[0] for array in arrays] == [32 << 33, 248.0, 124.0, 1 << 39]
