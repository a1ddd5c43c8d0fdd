"""Launches beside the one before them: what the driver is told, and what calls see of others."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe import driver
from attnprobe.arch import ARCHES, arch
from attnprobe.engine import dependent, known
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import make_problem
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import DeviceError
from attnprobe.formats import FORMATS

Array = Any
FUNCTION, ARGUMENTS = 77, 1234
PROGRAMMATIC_STREAM_SERIALIZATION = 6  # Source: cuda.h, CUlaunchAttributeID


class Refused(Exception):
    """Stands in for CUDADriverError."""


class Library:
    """Stands in for libcuda: keeps what a launch is told, as cuda.h lays it out."""

    def __init__(self) -> None:
        self.said: list[tuple[int, ...]] = []
        self.status = 0
        kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
        self.cuLaunchKernelEx = kind(self._launch)

    def _launch(self, config: int, function: int, arguments: int, extra: int | None) -> int:
        shape = (ctypes.c_uint32 * 7).from_address(config)
        stream = ctypes.c_uint64.from_address(config + 32).value
        attributes = ctypes.c_uint64.from_address(config + 40).value
        count = ctypes.c_uint32.from_address(config + 48).value
        attribute = (ctypes.c_int32 * 3).from_address(attributes)
        told = (attribute[0], attribute[2])
        self.said.append((*shape, stream, count, *told, function, arguments, extra or 0))
        return self.status


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(driver, "library", lambda: made)
    return made


def test_the_driver_is_told_the_shape_the_stream_and_that_the_kernel_waits(
    library: Library,
) -> None:
    launch = dependent.launcher(FUNCTION, (3, 4, 5), (128, 2, 1), 4096, Refused)
    for stream in (5, 0, 5):
        launch(stream, ARGUMENTS, 0)
    rest = (1, PROGRAMMATIC_STREAM_SERIALIZATION, 1, FUNCTION, ARGUMENTS, 0)
    assert library.said == [(3, 4, 5, 128, 2, 1, 4096, stream, *rest) for stream in (5, 0, 5)]


def test_shapes_are_not_kept_for_streams_without_end(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependent, "_MOST_CONFIGS", 2)
    launch = dependent.launcher(FUNCTION, (1, 1, 1), (32, 1, 1), 0, Refused)
    streams = [1, 2, 3, 1, 3, 2]
    for stream in streams:
        launch(stream, ARGUMENTS, 0)
    assert [said[7] for said in library.said] == streams


def test_what_the_driver_refuses_is_raised(library: Library) -> None:
    launch = dependent.launcher(FUNCTION, (1, 1, 1), (32, 1, 1), 0, Refused)
    library.status = 201
    with pytest.raises(Refused, match="201"):
        launch(5, ARGUMENTS, 0)


def test_without_a_driver_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(driver, "ctypes", SimpleNamespace(CDLL=missing))
    driver.library.cache_clear()
    with pytest.raises(DeviceError, match="no CUDA driver here: no such file"):
        driver.library()


def plan(cc: int, seqlen_q: int) -> Plan:
    shape = (1, 1024, 2, 64)
    k = ArraySpec("k", shape, (131072, 128, 64, 1), FORMATS["f16"], "float16", 0)
    q = ArraySpec("q", (1, seqlen_q, 2, 64), k.strides, FORMATS["f16"], "float16", 0)
    v = ArraySpec("v", k.shape, k.strides, k.format, k.dtype, 0)
    return make_plan(make_problem(q, k, v, None), arch(cc))


@pytest.mark.parametrize("cc", [row.cc for row in ARCHES])
def test_decode_waits_for_itself_where_the_arch_can(cc: int) -> None:
    made = plan(cc, 1)
    (step,) = made.steps
    assert made.variant.entry == "attention_decode_split"
    assert (step.dependent, made.defines["ATTN_DEPENDENT"]) == (cc >= 90, int(cc >= 90))
    assert ("griddepcontrol.wait" in made.source().text) or not step.dependent


@pytest.mark.parametrize("cc", [80, 90])
def test_other_kernels_are_launched_behind_the_one_before(cc: int) -> None:
    assert [step.dependent for step in plan(cc, 1024).steps] == [False]


# --- on a GPU -------------------------------------------------------------------------------------

# One block; waits for about a millisecond and copies n 16-bit elements. On sm_90 and later what is
# launched behind it may begin at once, so that what it does not wait for it does not see.
SLOW_COPY = """
extern "C" __global__ void slow_copy(const unsigned short *from, unsigned short *to, int n) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
    const long long start = clock64();
    while (clock64() - start < 2000000ll) { }
    for (int i = threadIdx.x; i < n; i += blockDim.x) { to[i] = from[i]; }
}
"""
ROUNDS = 8
# (heads, K/V heads, head_dim, keys): parts of the keys, and one part
SHAPES = [(8, 2, 128, 4096), (8, 2, 64, 96), (4, 2, 256, 2048)]


def numbers(shape: tuple[int, ...], seed: int) -> Array:
    import cupy

    return cupy.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float16))


def bits(array: Array) -> bytes:
    return bytes(array.tobytes())


@pytest.fixture
def slow_copy() -> Callable[[Array, Array], None]:
    import cupy

    kernel = cupy.RawModule(code=SLOW_COPY).get_function("slow_copy")

    def copy(source: Array, target: Array) -> None:
        kernel((1,), (1024,), (source, target, np.int32(source.size)))

    return copy


def run(work: Callable[[], Any], captured: bool) -> Any:
    """Do ``work`` on a stream of its own, or capture it there and run the graph twice."""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        if not captured:
            result = work()
        else:
            stream.begin_capture()
            result = work()
            graph = stream.end_capture()
            for _ in range(2):
                graph.launch(stream)
        stream.synchronize()
    return result


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_call_sees_what_was_launched_before_it_and_before_that(
    shape: tuple[int, int, int, int], captured: bool, slow_copy: Callable[[Array, Array], None]
) -> None:
    """K is written two launches before the last call, V and Q one launch before the first."""
    import cupy

    heads, kv_heads, width, keys = shape
    q = numbers((1, 1, heads, width), 0)
    pairs = [[numbers((1, keys, kv_heads, width), 2 * n + m) for m in (1, 2)] for n in range(3)]
    expected = [bits(attnprobe.attention(q, k, v)) for k, v in pairs]
    K, V, Q = cupy.zeros_like(pairs[0][0]), cupy.zeros_like(pairs[0][1]), cupy.zeros_like(q)
    outs = [cupy.zeros_like(q) for _ in range(2 * len(pairs))]
    attnprobe.attention(Q, K, V, out=outs[0])  # what a capture wants to be loaded

    def work() -> None:
        for number, (k, v) in enumerate(pairs):
            slow_copy(v, V)
            slow_copy(q, Q)
            slow_copy(k, K)
            attnprobe.attention(Q, K, V, out=outs[2 * number])
            attnprobe.attention(Q, K, V, out=outs[2 * number + 1])
            cupy.copyto(Q, 0)  # an ordinary launch behind: Q must have been read by then

    for _ in range(ROUNDS):
        K[...], V[...], Q[...] = 1, 1, 1
        run(work, captured)
        assert [bits(out) for out in outs] == [each for each in expected for _ in range(2)]


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_lengths_and_pages_are_read_when_the_launch_before_is_over(
    captured: bool, slow_copy: Callable[[Array, Array], None]
) -> None:
    import cupy

    pages, size, heads, width = 64, 16, 2, 128
    q = numbers((2, 1, 4, width), 0)
    k, v = (numbers((pages, size, heads, width), seed) for seed in (1, 2))
    order = np.random.default_rng(3).permutation(pages).astype(np.int32).reshape(2, -1)
    table, used = cupy.asarray(order), cupy.asarray([300, 511], dtype=np.int32)
    late_table, late_used = cupy.zeros_like(table), cupy.ones_like(used)
    expected = bits(attnprobe.attention_paged(q, k, v, table, used))
    out = cupy.zeros_like(q)
    attnprobe.attention_paged(q, k, v, late_table, late_used, out=out)

    def work() -> None:
        slow_copy(table.view(np.uint16), late_table.view(np.uint16))
        slow_copy(used.view(np.uint16), late_used.view(np.uint16))
        attnprobe.attention_paged(q, k, v, late_table, late_used, out=out)

    for _ in range(ROUNDS):
        late_table[...], late_used[...] = 0, 1
        run(work, captured)
        assert bits(out) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_what_another_stream_did_before_an_event_is_seen(
    captured: bool, slow_copy: Callable[[Array, Array], None]
) -> None:
    import cupy

    q, k, v = numbers((1, 1, 8, 128), 0), *(numbers((1, 4096, 2, 128), n) for n in (1, 2))
    K, V, out = cupy.zeros_like(k), cupy.zeros_like(v), cupy.zeros_like(q)
    expected = bits(attnprobe.attention(q, k, v))
    attnprobe.attention(q, K, V, out=out)
    side = cupy.cuda.Stream(non_blocking=True)

    def work() -> None:
        here = cupy.cuda.get_current_stream()
        begun, done = cupy.cuda.Event(), cupy.cuda.Event()
        begun.record(here)
        side.wait_event(begun)
        with side:
            slow_copy(k, K)
            done.record(side)
        slow_copy(v, V)
        here.wait_event(done)
        attnprobe.attention(q, K, V, out=out)

    for _ in range(ROUNDS):
        K[...], V[...] = 1, 1
        run(work, captured)
        assert bits(out) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_copies_and_fills_of_memory_come_before_a_call_and_behind_it(captured: bool) -> None:
    import cupy

    q, k, v = numbers((1, 1, 8, 64), 0), *(numbers((1, 20000, 2, 64), n) for n in (1, 2))
    K, V, out = cupy.zeros_like(k), cupy.zeros_like(v), cupy.zeros_like(q)
    expected = bits(attnprobe.attention(q, k, v))
    attnprobe.attention(q, K, V, out=out)

    def work() -> None:
        stream = cupy.cuda.get_current_stream()
        for source, target in ((k, K), (v, V)):
            target.data.copy_from_device_async(source.data, source.nbytes, stream)
        attnprobe.attention(q, K, V, out=out)
        for target in (K, V):
            target.data.memset_async(0, target.nbytes, stream)

    for _ in range(ROUNDS):
        run(work, captured)
        assert bits(out) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_calls_in_a_row_that_share_scratch_memory_keep_to_their_own(captured: bool) -> None:
    import cupy

    known._calls.clear()
    shapes = [(heads, kv, d, keys * n) for n in (1, 2) for heads, kv, d, keys in SHAPES]
    inputs = [
        (numbers((1, 1, heads, d), n), *(numbers((1, keys, kv, d), n + m) for m in (50, 90)))
        for n, (heads, kv, d, keys) in enumerate(shapes)
    ]
    expected = []
    for arrays in inputs:
        expected.append(bits(attnprobe.attention(*arrays)))
        cupy.cuda.Device().synchronize()

    def work() -> list[Array]:
        return [attnprobe.attention(*arrays) for _ in range(20) for arrays in inputs]

    for _ in range(ROUNDS):
        results = run(work, captured)
        assert [bits(O) for O in results] == expected * 20
