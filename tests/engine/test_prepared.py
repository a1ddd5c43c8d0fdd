"""Prepared launches: which bytes the driver is given, and calls repeated with new addresses."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from attnprobe.engine import known
from attnprobe.engine import prepared as prepared_
from attnprobe.engine.launch import Launched
from attnprobe.engine.prepared import Encoded, Prepared, Struct
from attnprobe.errors import DeviceError

cupy = pytest.importorskip("cupy")  # without a GPU: nothing here reaches one

GRID, BLOCK, SHARED_BYTES, FUNCTION, STREAM = (3, 1, 1), (128, 1, 1), 4096, 77, 5


class Driver:
    """Stands in for the driver: keeps the bytes of each launch's arguments."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.launches: list[tuple[tuple[int, ...], list[bytes]]] = []
        self.refusals: list[int] = []

    def launch(self, *numbers: int) -> None:
        if self.refusals:
            raise Refused(self.refusals.pop(0))
        table = (ctypes.c_uint64 * len(self.sizes)).from_address(numbers[-2])
        read = [ctypes.string_at(at, size) for at, size in zip(table, self.sizes, strict=True)]
        self.launches.append((numbers[:-2], read))


class Refused(Exception):
    """Stands in for CUDADriverError."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver((40,))
    monkeypatch.setattr(cupy.cuda.driver, "launchKernel", made.launch)
    monkeypatch.setattr(cupy.cuda.driver, "CUDADriverError", Refused)
    return made


def prepared(arguments: list[Any], names: tuple[str, ...]) -> Prepared:
    function = SimpleNamespace(ptr=FUNCTION)
    return Prepared(function, GRID, BLOCK, SHARED_BYTES, arguments, names)


@pytest.mark.parametrize("version", [12020, 12030])
def test_a_kernel_that_waits_itself_is_launched_so_where_the_driver_can(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: version)
    beside: list[tuple[Any, ...]] = []

    def launcher(*shape: Any) -> Any:
        return lambda *numbers: beside.append((*shape, numbers[0]))

    monkeypatch.setattr(prepared_, "launcher", launcher)
    function = SimpleNamespace(ptr=FUNCTION)
    argument = Struct(words(0, 0, 0, 0, 0), {"Q": 0})
    launch = Prepared(function, GRID, BLOCK, SHARED_BYTES, [argument], ("Q",), dependent=True)
    for each in (launch, launch.ordered(("Q",)), launch.renamed({"Q": "K"})):
        each((1,), STREAM)
    shape = (FUNCTION, GRID, BLOCK, SHARED_BYTES, Refused, STREAM)
    assert (beside, len(driver.launches)) == (([shape] * 3, 0) if version >= 12030 else ([], 3))


def words(*values: int) -> bytes:
    return struct.pack(f"{len(values)}Q", *values)


def test_addresses_are_written_into_their_places_and_the_rest_is_kept(driver: Driver) -> None:
    places = {"Q": 0, "K": 8, "sinks": 24}
    launch = prepared([Struct(words(0, 0, 33, 0, 44), places)], ("Q", "K", "sinks"))
    launch((1, 2, 3), STREAM)
    launch((5, 6, 7), STREAM)
    numbers = (FUNCTION, *GRID, *BLOCK, SHARED_BYTES, STREAM)
    assert driver.launches == [
        (numbers, [words(1, 2, 33, 3, 44)]),
        (numbers, [words(5, 6, 33, 7, 44)]),
    ]


def test_addresses_may_come_in_another_order_and_more_than_are_used(driver: Driver) -> None:
    places = {"Q": 0, "K": 8, "V": 16, "O": 24}
    launch = prepared([Struct(words(0, 0, 0, 0, 9), places)], ("Q", "K", "V", "O"))
    launch.ordered(("V", "unused", "K", "Q", "O"))((3, 0, 2, 1, 4), STREAM)
    assert driver.launches[0][1] == [words(1, 2, 3, 4, 9)]


def test_an_address_that_is_not_given_stays_as_it_was(driver: Driver) -> None:
    launch = prepared([Struct(words(0, 8, 0, 0, 0), {"Q": 0, "LSE": 8})], ("Q",))
    launch((1,), STREAM)
    assert driver.launches[0][1] == [words(1, 8, 0, 0, 0)]


def test_arguments_stand_apart_aligned_and_made_from_addresses(driver: Driver) -> None:
    driver.sizes = (128, 16, 4)
    arguments = [
        Encoded("K", lambda address: bytes([address]) * 128, 128),
        Struct(words(0, 6), {"Q": 0}),
        struct.pack("i", -2),
    ]
    launch = prepared(arguments, ("Q", "K"))
    launch((1, 2), STREAM)
    assert driver.launches[0][1] == [bytes([2]) * 128, words(1, 6), struct.pack("i", -2)]
    table = (ctypes.c_uint64 * 3).from_address(launch._filled[1, 2][0])
    assert [address % 16 for address in table] == [0, 0, 0]


def test_arguments_are_made_once_for_addresses_that_recur_and_not_kept_without_end(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_, "_MOST_FILLED", 3)
    driver.sizes = (1, 16)
    encoded: list[int] = []

    def encode(address: int) -> bytes:
        encoded.append(address)
        return bytes([address])

    launch = prepared([Encoded("K", encode, 1), Struct(words(0, 6), {"Q": 0})], ("Q", "K"))
    wanted = [(1, 2), (1, 3), (1, 2), (9, 2), (1, 3), (4, 5), (1, 2)]
    for addresses in wanted:
        launch(addresses, STREAM)
    assert [read for _, read in driver.launches] == [[bytes([k]), words(q, 6)] for q, k in wanted]
    assert encoded == [2, 3, 2, 5, 2]  # with the fourth pair all before it went
    assert len(launch._filled) == 2


def test_threads_do_not_write_into_each_others_arguments(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def launch_slowly(*numbers: int) -> None:
        both.wait(30)  # both have filled their arguments by now
        driver.launch(*numbers)

    monkeypatch.setattr(cupy.cuda.driver, "launchKernel", launch_slowly)
    launch = prepared([Struct(words(0, 0, 0, 0, 0), {"Q": 0})], ("Q",))
    threads = [threading.Thread(target=launch, args=((each,), STREAM)) for each in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read[0][0] for _, read in driver.launches) == [1, 2]


def test_a_thread_without_a_context_gets_one(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: asked.append(1))
    launch = prepared([Struct(words(0, 0, 0, 0, 0), {"Q": 0})], ("Q",))
    driver.refusals = [201]  # CUDA_ERROR_INVALID_CONTEXT
    launch((1,), STREAM)
    assert (len(driver.launches), asked) == (1, [1])


@pytest.mark.parametrize("refusals", [[1], [201, 1], [201, 201]])
def test_what_the_driver_refuses_is_said(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, refusals: list[int]
) -> None:
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: None)
    launch = prepared([Struct(words(0, 0, 0, 0, 0), {"Q": 0})], ("Q",))
    driver.refusals = list(refusals)
    with pytest.raises(DeviceError, match=f"refused a launch: status {refusals[-1]}"):
        launch((1,), STREAM)
    launch((1,), STREAM)  # and works again afterwards
    assert len(driver.launches) == 1


def test_a_launch_can_go_by_other_names(driver: Driver) -> None:
    driver.sizes = (24, 1, 4)
    arguments = [
        Struct(words(0, 0, 9), {"Q": 0, "K": 8}),
        Encoded("Q", lambda address: bytes([address]), 1),
        struct.pack("i", 3),
    ]
    launch = prepared(arguments, ("Q", "K")).renamed({"Q": "Q_rotated"})
    launch((1, 2), STREAM)
    launch.ordered(("Q", "K", "Q_rotated"))((7, 2, 5), STREAM)
    assert [read for _, read in driver.launches] == [
        [words(1, 2, 9), b"\1", struct.pack("i", 3)],
        [words(5, 2, 9), b"\5", struct.pack("i", 3)],
    ]


def test_launches_after_others_take_what_those_made(driver: Driver) -> None:
    driver.sizes = (16,)
    first = prepared([Struct(words(0, 0), {"Q": 0, "rotated": 8})], ("Q", "rotated"))
    then = prepared([Struct(words(0, 0), {"Q": 0, "O": 8})], ("Q", "O"))
    one, two, three = (array(each) for each in (1024, 2048, 4096))
    before = Launched((first,), {"Q": one, "rotated": two}, {"rotated": two}, 0)
    both = Launched((then,), {"Q": two, "O": three}, {}, 0).after(before, {"Q": "rotated"})
    assert {name: id(each) for name, each in both.arrays.items()} == {
        "Q": id(one),
        "rotated": id(two),
        "O": id(three),
    }
    assert list(both.scratch) == ["rotated"]
    for launch in both.launches:
        launch.ordered(("Q", "O", "rotated"))((1, 2, 3), STREAM)
    assert [read for _, read in driver.launches] == [[words(1, 3)], [words(3, 2)]]


SHAPE = (1, 8, 2, 64)
FIELDS = ("Q", "K", "V", "sinks", "O")
ROOM = 1 << 32  # made-up addresses from here


def array(
    address: int,
    shape: tuple[int, ...] = SHAPE,
    dtype: Any = np.float16,
    device: int = 0,
    strides: Any = None,
) -> Any:
    """A CuPy array at a made-up address: it has all attributes and no memory."""
    memory = cupy.cuda.UnownedMemory(ROOM + address, 1 << 20, None, device)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides)


@pytest.fixture
def device(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """The driver, and a device 0 that hands out addresses from 1 << 20 on."""
    driver.sizes = (56,)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 0)
    stream = SimpleNamespace(ptr=STREAM)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: stream)
    handed: list[int] = []

    def allocate(size: int) -> Any:
        handed.append(size)
        memory = cupy.cuda.UnownedMemory(ROOM + (len(handed) << 20), max(size, 1), None, 0)
        return cupy.cuda.MemoryPointer(memory, 0)

    known._calls.clear()
    with cupy.cuda.using_allocator(allocate):
        yield driver
    known._calls.clear()


class Found(NamedTuple):
    """What ``known.find`` returns, by name."""

    key: Any
    call: Any
    addresses: list[int]


def find(*given: Any, options: Any = (False,), kind: str = "made up") -> Found:
    q, k, v, *others = (*given, *[None] * (5 - len(given)))
    return Found(*known.find(kind, q, k, v, tuple(others), options))


def call(*given: Any, used: dict[str, Any] | None = None) -> None:
    """Make a call that is not known yet, and remember it."""
    given = (*given, *[None] * (5 - len(given)))
    out = given[-1]
    o = array(900) if out is None else out
    arrays = dict(zip(FIELDS, given, strict=True))
    arrays = {name: each for name, each in arrays.items() if isinstance(each, cupy.ndarray)}
    scratch = {"partial": array(950, (100,), np.float32)}
    lse = array(940, (1, 2, 8), np.float32)
    arrays = {**arrays, "O": o, "LSE": lse, **scratch, **(used or {})}
    names = ("Q", "K", "V", "O", "LSE", "partial", "sinks")
    argument = Struct(words(*[0] * 7), {name: 8 * at for at, name in enumerate(names)})
    launch = prepared([argument], tuple(arrays))
    found = find(*given)
    done = SimpleNamespace(o=o, lse=lse, out=out, launched=Launched((launch,), arrays, scratch, 0))
    known.remember(found.key, FIELDS, given, done)  # type: ignore[arg-type]


def launched(driver: Driver) -> list[int]:
    """The addresses of the last launch, from ROOM on; 0 for null."""
    return [word and word - ROOM for word in struct.unpack("7Q", driver.launches[-1][1][0])]


Q, K, V = 1024, 8192, 16384


def test_a_known_call_launches_with_the_new_addresses(device: Driver) -> None:
    call(array(Q), array(K), array(V))
    found = find(array(2 * Q), array(K), array(3 * V))
    assert found.call is not None
    O = found.call(found.addresses, None, False)
    assert (O.shape, O.dtype, O.data.ptr) == (SHAPE, np.float16, ROOM + (1 << 20))
    assert launched(device) == [2 * Q, K, 3 * V, 1 << 20, 0, 2 << 20, 0]


def test_results_and_scratch_are_allocated_for_each_call(device: Driver) -> None:
    call(array(Q), array(K), array(V))
    for _ in range(2):
        found = find(array(Q), array(K), array(V))
        assert found.call is not None
        O, lse = found.call(found.addresses, None, True)
        assert (lse.shape, lse.dtype) == ((1, 2, 8), np.float32)
    assert launched(device) == [Q, K, V, 4 << 20, 5 << 20, 6 << 20, 0]
    assert (O.data.ptr - ROOM, lse.data.ptr - ROOM) == (4 << 20, 5 << 20)


def test_two_arguments_that_were_one_array_may_differ_later(device: Driver) -> None:
    same = array(K)
    call(array(Q), same, same)
    found = find(array(Q), array(K), array(V))
    assert found.call is not None
    found.call(found.addresses, None, False)
    assert launched(device)[:3] == [Q, K, V]


def test_other_arrays_than_q_k_v_go_to_their_places(device: Driver) -> None:
    call(array(Q), array(K), array(V), array(512, (2,), np.float32))
    found = find(array(Q), array(K), array(V), array(768, (2,), np.float32))
    assert found.call is not None
    found.call(found.addresses, None, False)
    assert launched(device)[-1] == 768


def test_out_is_written_and_returned(device: Driver) -> None:
    call(array(Q), array(K), array(V), None, array(32768))
    out = array(65536)
    found = find(array(Q), array(K), array(V), None, out)
    assert found.call is not None
    assert found.call(found.addresses, out, False) is out
    assert launched(device)[:5] == [Q, K, V, 65536, 0]


@pytest.mark.parametrize("over", [Q, K + 1024, V - 2032])
def test_out_over_an_input_goes_the_long_way(device: Driver, over: int) -> None:
    call(array(Q), array(K), array(V), None, array(32768))
    out = array(over)
    found = find(array(Q), array(K), array(V), None, out)
    assert found.call is not None
    assert found.call(found.addresses, out, False) is None
    assert device.launches == []


def test_all_that_a_plan_depends_on_tells_calls_apart(device: Driver) -> None:
    call(array(Q), array(K), array(V))
    plain = (array(2 * Q), array(K), array(V))
    assert find(*plain).call is not None
    assert find(*plain, options=(True,)).call is None
    assert find(*plain, kind="other").call is None
    for other in (
        array(Q, (1, 7, 2, 64)),
        array(Q, strides=(4096, 512, 128, 2)),
        array(Q, dtype=np.int16),
        array(Q + 2),
        array(Q, device=1),
    ):
        assert find(other, array(K), array(V)).call is None
    assert find(*plain, array(512, (2,), np.float32)).call is None
    assert find(*plain, 0.5).call is None


def test_what_cannot_be_known_takes_the_long_way(device: Driver) -> None:
    plain = (array(Q), array(K), array(V))
    assert find(*plain, [1.0, 2.0]) == known.UNKNOWABLE
    assert find(*plain, options=([-1, -1],)) == known.UNKNOWABLE
    assert find(np.zeros(SHAPE, np.float16), *plain[1:]) == known.UNKNOWABLE


def test_calls_whose_arrays_were_copied_are_not_kept(device: Driver) -> None:
    sinks = array(512, (2,), np.float64)
    call(array(Q), array(K), array(V), sinks, used={"sinks": array(640, (2,), np.float32)})
    assert find(array(Q), array(K), array(V), sinks).call is None


def test_a_scalar_array_that_was_read_on_the_host_is_not_kept(device: Driver) -> None:
    scale = array(512, (), np.float32)
    call(array(Q), array(K), array(V), scale)
    assert find(array(Q), array(K), array(V), scale).call is None


def test_an_array_of_another_library_is_not_kept(device: Driver) -> None:
    other = SimpleNamespace()  # hashable by identity, as torch's tensors are
    call(array(Q), array(K), array(V), other)
    assert known._calls == {}
