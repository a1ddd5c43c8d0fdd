"""Known calls of torch tensors: told apart by all that matters, with torch's stream and memory."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnprobe.engine import known
from attnprobe.engine.arrays import Operand, take
from attnprobe.engine.launch import Launched
from attnprobe.engine.prepared import Prepared, Struct
from attnprobe.errors import DeviceError

cupy = pytest.importorskip("cupy")  # without a GPU: nothing here reaches one

SHAPE = (1, 8, 2, 64)
FIELDS = ("Q", "K", "V", "sinks", "O")
NAMES = ("Q", "K", "V", "O", "LSE", "first", "second", "sinks")
ROOM = 1 << 32  # made-up addresses from here
STREAM, RAW_STREAM = 5, 9
Q, K, V = 1024, 8192, 16384


class Tensor:
    """Stands in for torch's class, with what a known call reads of it."""

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...] = SHAPE,
        dtype: str = "float16",
        device: int = 0,
        strides: tuple[int, ...] | None = None,
        requires_grad: bool = False,
    ) -> None:
        self._address, self._device = address, device
        whole = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        self._strides = whole if strides is None else strides
        self.shape, self.dtype, self.requires_grad = shape, dtype, requires_grad
        self.ndim = len(shape)
        self.device = f"cuda:{device}"

    def data_ptr(self) -> int:
        if self._address < 0:
            raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage")
        return ROOM + self._address

    def stride(self) -> tuple[int, ...]:
        return self._strides

    def is_contiguous(self) -> bool:
        whole = tuple(int(np.prod(self.shape[axis + 1 :])) for axis in range(self.ndim))
        return self._strides == whole

    def get_device(self) -> int:
        return self._device

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self._device)  # kDLCUDA

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("was to be taken in")


Tensor.__module__ = "torch"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Launches made, each (stream, words of the argument); with a torch and a device 0."""
    made: list[Any] = []

    def launch(*numbers: int) -> None:
        table = ctypes.c_uint64.from_address(numbers[-2])
        read = struct.unpack("8Q", ctypes.string_at(table.value, 64))
        made.append((numbers[-3], [word and word - ROOM for word in read]))

    handed: list[Any] = []

    def empty(*shape: Any, dtype: str, device: str) -> Tensor:
        sizes = shape[0] if isinstance(shape[0], tuple) else shape
        handed.append(sizes)
        assert device == "cuda:0"
        return Tensor(len(handed) << 20, sizes, dtype)

    def empty_strided(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: str) -> Tensor:
        handed.append(sizes)
        return Tensor(len(handed) << 20, sizes, dtype, strides=strides)

    torch: Any = ModuleType("torch")
    torch.Tensor, torch.empty, torch.uint8 = Tensor, empty, "uint8"
    torch.from_dlpack = lambda array: Tensor(0, array.shape, str(array.dtype))
    torch.cuda = SimpleNamespace(
        current_stream=lambda device: SimpleNamespace(cuda_stream=STREAM + device)
    )
    quick = SimpleNamespace(_empty_strided_cuda=empty_strided)
    torch._C = SimpleNamespace(
        _cuda_getCurrentRawStream=lambda device: RAW_STREAM + device,
        _dynamo=SimpleNamespace(guards=quick),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(known, "_tensor", None)
    monkeypatch.setattr(cupy.cuda.driver, "launchKernel", launch)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 0)
    known._calls.clear()
    yield made
    known._calls.clear()


def find(*given: Any, options: Any = (False,)) -> Any:
    q, k, v, *others = (*given, *[None] * (5 - len(given)))
    return known.find("made up", q, k, v, tuple(others), options)


def in_cupy(tensor: Tensor, dtype: Any = np.float16) -> Any:
    """What DLPack makes of a tensor: a CuPy array at the same address."""
    memory = cupy.cuda.UnownedMemory(tensor.data_ptr(), 1 << 20, None, 0)
    return cupy.ndarray(tensor.shape, dtype, cupy.cuda.MemoryPointer(memory, 0))


def call(*given: Any, copied: bool = False) -> None:
    """Make a call that is not known yet, and remember it."""
    given = (*given, *[None] * (5 - len(given)))
    out = given[-1]
    found = find(*given)
    arrays = {
        name: in_cupy(each)
        for name, each in zip(FIELDS, given, strict=True)
        if isinstance(each, Tensor)
    }
    if copied:
        arrays["sinks"] = in_cupy(Tensor(777 * 16))
    o = in_cupy(Tensor(900 * 16)) if out is None else arrays["O"]
    lse = in_cupy(Tensor(940 * 16, (1, 2, 8)), np.float32)
    scratch = {
        "first": in_cupy(Tensor(950 * 16, (100,)), np.float32),
        "second": in_cupy(Tensor(960 * 16, (2,)), np.float32),
    }
    arrays = {**arrays, "O": o, "LSE": lse, **scratch}
    argument = Struct(struct.pack("8Q", *[0] * 8), {name: 8 * at for at, name in enumerate(NAMES)})
    launch = Prepared(SimpleNamespace(ptr=77), (1, 1, 1), (32, 1, 1), 0, [argument], tuple(arrays))
    done: Any = SimpleNamespace(
        o=o,
        lse=lse,
        out=out,
        launched=Launched((launch,), arrays, scratch, 0),
        query=Operand(arrays["Q"], True, given[0]),
    )
    known.remember(found[0], FIELDS, given, done)


def test_results_and_scratch_are_torchs_and_the_stream_is_its_current_one(
    launches: list[Any],
) -> None:
    call(Tensor(Q), Tensor(K), Tensor(V))
    _, made, addresses = find(Tensor(2 * Q), Tensor(K), Tensor(3 * V))
    O, lse = made(addresses, None, True)
    assert (type(O), O.shape, O.dtype) == (Tensor, SHAPE, "float16")
    assert O.is_contiguous()
    assert lse.is_contiguous()
    assert (type(lse), lse.shape, lse.dtype) == (Tensor, (1, 2, 8), "float32")
    scratch = 3 << 20  # the third piece of memory: 400 bytes, and what begins at the next 256
    assert launches == [
        (RAW_STREAM, [2 * Q, K, 3 * V, 1 << 20, 2 << 20, scratch, scratch + 512, 0])
    ]


def test_without_torchs_quick_ways_the_public_ones_give_results_and_stream(
    launches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["torch"], "_C", SimpleNamespace())
    call(Tensor(Q), Tensor(K), Tensor(V))
    _, made, addresses = find(Tensor(Q), Tensor(K), Tensor(V))
    O = made(addresses, None, False)
    assert (O.shape, O.dtype, O.data_ptr()) == (SHAPE, "float16", ROOM + (1 << 20))
    assert launches[0][0] == STREAM


def test_a_tensor_is_not_taken_in_while_torch_captures_a_graph(
    launches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    capturing = SimpleNamespace(is_current_stream_capturing=lambda: True)
    monkeypatch.setattr(sys.modules["torch"], "cuda", capturing)
    with pytest.raises(DeviceError, match=r"q: a call of these shapes .* before the capture"):
        take("q", Tensor(Q))


def test_out_and_other_tensors_go_to_their_places(launches: list[Any]) -> None:
    call(Tensor(Q), Tensor(K), Tensor(V), Tensor(512, (2,)), Tensor(32768))
    out = Tensor(65536)
    _, made, addresses = find(Tensor(Q), Tensor(K), Tensor(V), Tensor(768, (2,)), out)
    assert made(addresses, out, False) is out
    words = launches[0][1]
    assert (words[3], words[4], words[7]) == (65536, 0, 768)


def test_out_over_an_input_goes_the_long_way(launches: list[Any]) -> None:
    call(Tensor(Q), Tensor(K), Tensor(V), None, Tensor(32768))
    out = Tensor(K + 1024)
    _, made, addresses = find(Tensor(Q), Tensor(K), Tensor(V), None, out)
    assert made(addresses, out, False) is None
    assert launches == []


def test_all_that_a_plan_depends_on_tells_calls_apart(launches: list[Any]) -> None:
    call(Tensor(Q), Tensor(K), Tensor(V))
    assert find(Tensor(2 * Q), Tensor(K), Tensor(V))[1] is not None
    assert find(Tensor(Q), Tensor(K), Tensor(V), options=(True,))[1] is None
    for other in (
        Tensor(Q, (1, 7, 2, 64)),
        Tensor(Q, strides=(2048, 256, 64, 1)),
        Tensor(Q, dtype="bfloat16"),
        Tensor(Q + 2),
        Tensor(Q, device=1),
        Tensor(Q, requires_grad=True),
    ):
        assert find(other, Tensor(K), Tensor(V))[1] is None
        assert find(Tensor(K), other, Tensor(V))[1] is None
        assert find(Tensor(K), Tensor(V), other)[1] is None
    assert find(Tensor(Q), Tensor(K), Tensor(V), Tensor(512, (2,)))[1] is None


def test_tensors_among_the_others_are_told_apart_likewise(launches: list[Any]) -> None:
    plain = (Tensor(Q), Tensor(K), Tensor(V))
    call(*plain, Tensor(512, (2,)))
    assert find(*plain, Tensor(1024, (2,)))[1] is not None
    for other in (
        Tensor(512, (3,)),
        Tensor(512, (2,), strides=(2,)),
        Tensor(512, (2,), dtype="float32"),
        Tensor(514, (2,)),
        Tensor(512, (2,), device=1),
        Tensor(512, (2,), requires_grad=True),
    ):
        assert find(*plain, other)[1] is None


def test_what_cannot_be_known_takes_the_long_way(launches: list[Any]) -> None:
    plain = (Tensor(Q), Tensor(K), Tensor(V))
    without_memory, cupys = Tensor(-1), in_cupy(Tensor(K))
    assert find(*plain, [1.0, 2.0]) == known.UNKNOWABLE
    assert find(without_memory, *plain[1:]) == known.UNKNOWABLE
    assert find(plain[0], cupys, plain[2]) == known.UNKNOWABLE
    assert find(cupys, *plain[1:]) == known.UNKNOWABLE
    call(*plain, cupys)
    call(*plain, Tensor(512, (2,)), copied=True)
    call(*plain, Tensor(512, ()))  # was read on the host
    assert known._calls == {}
