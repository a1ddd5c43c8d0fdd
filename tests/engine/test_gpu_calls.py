"""Calls on a GPU: any stream, CUDA graphs, several threads and devices, known calls."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.engine import kernels, known
from attnprobe.errors import DeviceError, ProblemError

pytestmark = pytest.mark.gpu

Array = Any
PATIENCE = 120.0  # seconds until a thread that nobody woke gives up

# Waits for about 50 ms, then copies n 16-bit elements.
SLOW_COPY = """
extern "C" __global__ void slow_copy(const unsigned short *from, unsigned short *to, int n) {
    const long long start = clock64();
    while (clock64() - start < 80000000ll) { }
    for (int i = threadIdx.x; i < n; i += blockDim.x) { to[i] = from[i]; }
}
"""


def qkv(seqlen: int = 130, heads: int = 2, head_dim: int = 64, seed: int = 0) -> list[Array]:
    import cupy

    rng = np.random.default_rng(seed)
    shape = (1, seqlen, heads, head_dim)
    return [cupy.asarray(rng.standard_normal(shape).astype(np.float16)) for _ in range(3)]


def bits(array: Array) -> bytes:
    return bytes(array.tobytes())


Call = Callable[..., Array]  # takes options


def plain(q: Array, k: Array, v: Array) -> Call:
    return partial(attnprobe.attention, q, k, v)


def varlen(q: Array, k: Array, v: Array) -> Call:
    import cupy

    ends = cupy.asarray([0, 30, q.shape[1]], dtype=np.int32)
    return partial(attnprobe.attention_varlen, q[0], k[0], v[0], ends, ends)


def paged(q: Array, k: Array, v: Array) -> Call:
    import cupy

    size = 10
    pages = k.shape[1] // size
    table = cupy.arange(pages, dtype=np.int32)[None]
    caches = [array[0].reshape(pages, size, *array.shape[2:]) for array in (k, v)]
    used = cupy.asarray([k.shape[1] - 3], dtype=np.int32)
    return partial(attnprobe.attention_paged, q[:, :4], *caches, table, used)


def appending(q: Array, k: Array, v: Array) -> Call:
    """Two rows are written behind the 100 in use, again and again the same ones."""
    import cupy

    size = 10
    pages = k.shape[1] // size
    caches = [array[0].reshape(pages, size, *array.shape[2:]) for array in (k, v)]
    table = cupy.arange(pages, dtype=np.int32)[None]
    used = cupy.asarray([100], dtype=np.int32)
    angles = cupy.arange(128 * 16, dtype=np.float32).reshape(128, 16)
    return partial(
        attnprobe.attention_paged,
        q[:, :2],
        *caches,
        table,
        used,
        k=q[:, 2:4],
        v=q[:, 4:6],
        rotary_cos=cupy.cos(angles),
        rotary_sin=cupy.sin(angles),
    )


def with_extras(q: Array, k: Array, v: Array) -> Call:
    import cupy

    sinks = cupy.asarray([0.5, -1.0], dtype=np.float32)
    bias = cupy.linspace(-1, 1, k.shape[1], dtype=np.float32)[None, None, None]
    return partial(attnprobe.attention, q, k, v, sinks=sinks, bias=bias)


KINDS: list[Callable[..., Call]] = [plain, with_extras, varlen, paged, appending]


def named(kind: Any) -> str:
    return str(kind.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=named)
@pytest.mark.parametrize("return_lse", [False, True])
def test_a_known_call_gives_the_bits_of_the_first(kind: Any, return_lse: bool) -> None:
    def call(arrays: list[Array]) -> list[bytes]:
        result = kind(*arrays)(causal=True, return_lse=return_lse)
        return [bits(each) for each in (result if return_lse else (result,))]

    known._calls.clear()
    first = call(qkv())
    assert len(known._calls) == 1
    assert call(qkv()) == first
    other = call(qkv(seed=5))  # new addresses
    assert len(known._calls) == 1
    assert other != first
    known._calls.clear()
    assert call(qkv(seed=5)) == other


def test_a_known_call_writes_to_out_and_refuses_one_over_an_input() -> None:
    import cupy

    q, k, v = qkv()
    expected = bits(attnprobe.attention(q, k, v))
    for _ in range(2):
        out = cupy.empty_like(q)
        assert attnprobe.attention(q, k, v, out=out) is out
        assert bits(out) == expected
    with pytest.raises(ProblemError, match="out shares memory with k"):
        attnprobe.attention(q, k, v, out=k)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_call_waits_for_what_its_stream_does_and_for_nothing_else(is_known: bool) -> None:
    import cupy

    q, k, v = qkv()
    expected = bits(attnprobe.attention(q, k, v))
    late = cupy.zeros_like(q)
    attnprobe.attention(late, k, v)
    slow_copy = cupy.RawModule(code=SLOW_COPY).get_function("slow_copy")
    stream, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    if not is_known:
        known._calls.clear()
    with stream:
        slow_copy((1,), (256,), (q, late, np.int32(q.size)))
        O = attnprobe.attention(late, k, v)
    with other:
        beside = attnprobe.attention(q, k, v)
        other.synchronize()
        finished = stream.done
    assert bits(beside) == expected
    assert not finished  # nobody waited for the slow stream
    stream.synchronize()
    assert bits(O) == expected


@pytest.mark.parametrize("kind", KINDS, ids=named)
@pytest.mark.parametrize("is_known", [False, True])
def test_a_call_can_be_captured_and_replayed_on_new_contents(kind: Any, is_known: bool) -> None:
    import cupy

    arrays, later = qkv(), qkv(seed=7)
    call = kind(*arrays)
    call(causal=True)
    if not is_known:
        known._calls.clear()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        O, LSE = call(causal=True, return_lse=True)
        graph = stream.end_capture()
    for array, new in zip(arrays, later, strict=True):
        array[...] = new
    cupy.cuda.Device().synchronize()
    graph.launch(stream)
    stream.synchronize()
    expected = kind(*later)(causal=True, return_lse=True)
    assert [bits(O), bits(LSE)] == [bits(each) for each in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"loading the kernel attention_\w+ is not possible while a CUDA graph"),
        ({"sinks": [0.0, 1.0]}, "bringing sinks to the GPU is not possible while a CUDA graph"),
        ({"alibi_slopes": np.ones(2, np.float32)}, "bringing alibi_slopes to the GPU"),
    ],
)
def test_what_would_break_a_capture_is_refused_and_the_capture_goes_on(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    import cupy

    arrays = qkv()
    counter = cupy.zeros(4, np.float32)
    counter += 1  # its kernel is compiled before the capture
    monkeypatch.setattr(kernels, "_loaded", kernels.Once(kernels._load, 8))
    known._calls.clear()
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        counter += 1
        with pytest.raises(DeviceError, match=message):
            attnprobe.attention(*arrays, **arguments)
        counter += 1
        graph = stream.end_capture()
        assert bits(counter) == np.full(4, 1, np.float32).tobytes()  # captured, not run
        graph.launch(stream)
        stream.synchronize()
    assert bits(counter) == np.full(4, 3, np.float32).tobytes()
    attnprobe.attention(*arrays, **arguments)  # and outside it works


def test_threads_that_make_the_first_call_at_once_load_one_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cupy

    arrays = qkv()
    expected = bits(attnprobe.attention(*arrays))
    loads: list[kernels.Wanted] = []

    def load(wanted: kernels.Wanted) -> Any:
        loads.append(wanted)
        return kernels._load(wanted)

    monkeypatch.setattr(kernels, "_loaded", kernels.Once(load, 8))
    known._calls.clear()
    together = threading.Barrier(8)

    def call(_: int) -> bytes:
        with cupy.cuda.Stream(non_blocking=True) as stream:
            together.wait(PATIENCE)
            O = attnprobe.attention(*arrays)
            stream.synchronize()
            return bits(O)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(8))) == {expected}
    assert len(loads) == 1


def test_many_threads_call_at_once_with_arrays_of_their_own() -> None:
    import cupy

    inputs = [qkv(seqlen=64 + 8 * (each % 3), seed=each) for each in range(8)]
    expected = [bits(attnprobe.attention(*arrays, causal=True)) for arrays in inputs]
    cupy.cuda.Device().synchronize()
    together = threading.Barrier(8)

    def call(number: int) -> int:
        """Return how many of the results were wrong."""
        wrong = 0
        with cupy.cuda.Stream(non_blocking=True) as stream:
            together.wait(PATIENCE)
            for _ in range(50):
                O = attnprobe.attention(*inputs[number], causal=True)
                stream.synchronize()
                wrong += bits(O) != expected[number]
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [0] * 8


def test_every_device_serves_its_own_arrays_from_a_thread_of_its_own() -> None:
    import cupy

    devices = range(cupy.cuda.runtime.getDeviceCount())
    hosts = [cupy.asnumpy(array) for array in qkv()]
    expected = bits(attnprobe.attention(*qkv()))

    def call(device: int) -> list[bytes]:
        with cupy.cuda.Device(device):
            arrays = [cupy.asarray(host) for host in hosts]
            results = [attnprobe.attention(*arrays) for _ in range(3)]
            assert {int(O.device.id) for O in results} == {device}
            return [bits(O) for O in results]

    with ThreadPoolExecutor(len(devices)) as pool:
        assert list(pool.map(call, devices)) == [[expected] * 3 for _ in devices]


def test_the_device_of_the_arrays_is_chosen_whatever_the_current_one_is() -> None:
    import cupy

    last = cupy.cuda.runtime.getDeviceCount() - 1
    hosts = [cupy.asnumpy(array) for array in qkv()]
    expected = bits(attnprobe.attention(*qkv()))
    with cupy.cuda.Device(last):
        arrays = [cupy.asarray(host) for host in hosts]
    for _ in range(2):
        O = attnprobe.attention(*arrays)  # the current device is 0
        assert int(O.device.id) == last
        with cupy.cuda.Device(last):
            assert bits(O) == expected


SECOND_START = """
import cupy, numpy as np
import attnprobe
from attnprobe import nvrtc
arrays = [cupy.ones((1, 64, 2, 64), np.float16) for _ in range(3)]
print(float(attnprobe.attention(*arrays).sum()), nvrtc.nvrtc.cache_info().currsize)
"""


def test_a_second_process_needs_no_compiler(tmp_path: Path) -> None:
    environment = {**os.environ, "ATTNPROBE_CACHE_DIR": str(tmp_path), "ATTNPROBE_CACHE": "1"}
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SECOND_START],
            env={**environment, "PYTHONPATH": str(Path(attnprobe.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["8192.0", "1"], ["8192.0", "0"]]
