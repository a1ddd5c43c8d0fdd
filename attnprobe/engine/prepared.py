"""One kernel launch, prepared: all but the addresses is laid out as the driver takes it.

CuPy reads every argument of a launch anew: a struct of many fields costs 25 us that way, and one of
plain words still 4. The driver itself wants a table of pointers to the arguments' bytes. So that is
what a prepared launch holds; to run it, addresses are written into the bytes and the driver is
called.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from attnprobe.errors import DeviceError

_POINTER_BYTES = 8
_ALIGNMENT = 16  # of each argument's bytes in the buffer, for the driver's copy of them
_MOST_MADE = 1024  # groups of addresses that a launch keeps its encoded arguments for
_INVALID_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT; Source: cuda.h


class Struct(NamedTuple):
    """An argument by value, with addresses inside.

    Attributes
    ----------
    data : its bytes; the addresses in it are written over.
    places : name of an array -> where its address stands, bytes from the start.
    """

    data: bytes
    places: Mapping[str, int]


class Encoded(NamedTuple):
    """An argument by value that is made from one array's address: a tensor map.

    Attributes
    ----------
    name : of the array.
    encode : address -> bytes, ``size`` of them; called at every launch, so it should remember.
    size : bytes.
    """

    name: str
    encode: Callable[[int], bytes]
    size: int


Argument = Struct | Encoded | bytes  # bytes: a number by value


class _Buffer:
    """Memory of one launch's arguments: the table of pointers, then their bytes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.offsets: list[int] = []  # of each argument's bytes
        end = _POINTER_BYTES * len(sizes)
        for size in sizes:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            self.offsets.append(start)
            end = start + size
        self.data = bytearray(end)
        self._kept = (ctypes.c_char * end).from_buffer(self.data)  # holds the bytes in their place
        self.address = ctypes.addressof(self._kept)
        for number, offset in enumerate(self.offsets):
            struct.pack_into("Q", self.data, _POINTER_BYTES * number, self.address + offset)


class Prepared:
    """A launch without its addresses. Any number of threads may run it at once.

    Parameters
    ----------
    function : ``cupy.cuda.Function`` of the device that is current at each run.
    grid, block, shared_bytes : shape of the launch.
    arguments : of the kernel, in order.
    names : of the arrays, in the order in which their addresses will come.
    """

    def __init__(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        arguments: Sequence[Argument],
        names: Sequence[str],
    ) -> None:
        import cupy

        self._made_of = (function, grid, block, shared_bytes, tuple(arguments))
        self._arguments, self._names = tuple(arguments), tuple(names)
        launch = cupy.cuda.driver.launchKernel
        self._launch = partial(launch, function.ptr, *grid, *block, shared_bytes)
        self._refused = cupy.cuda.driver.CUDADriverError
        self._establish_context = cupy.cuda.runtime.memGetInfo
        first = self._new_buffer()
        self._runs = _runs(self._arguments, first.offsets, names)
        self._groups = _groups(self._arguments, first.offsets, names)
        whole = len(self._runs) == 1 and self._runs[0][2:] == (0, len(names))
        self._only_run = self._runs[0][:2] if whole else None
        self._free = [first]  # taken and given back whole, so that no two threads share one

    def ordered(self, names: Sequence[str]) -> Prepared:
        """Return the same launch, to be given its addresses in another order."""
        return Prepared(*self._made_of, names)

    def renamed(self, names: Mapping[str, str]) -> Prepared:
        """Return the same launch with arrays under other names, old -> new."""
        arguments = [
            each._replace(places={names.get(name, name): at for name, at in each.places.items()})
            if isinstance(each, Struct)
            else each._replace(name=names.get(each.name, each.name))
            if isinstance(each, Encoded)
            else each
            for each in self._arguments
        ]
        order = tuple(names.get(name, name) for name in self._names)
        return Prepared(*self._made_of[:-1], arguments, order)

    def __call__(self, addresses: Sequence[int], stream: int) -> None:
        """Queue the kernel on ``stream`` (a cudaStream_t), with one address for each name.

        Raises
        ------
        DeviceError
            If the driver refuses.
        """
        try:
            buffer = self._free.pop()
        except IndexError:  # all are in the hands of other threads
            buffer = self._new_buffer()
        data = buffer.data
        for group in self._groups:
            data[group.begin : group.end] = group.made_of(addresses)
        if self._only_run is not None:
            pack, offset = self._only_run
            pack(data, offset, *addresses)
        else:
            for pack, offset, start, last in self._runs:
                pack(data, offset, *addresses[start:last])
        try:
            self._launch(stream, buffer.address, 0)
        except self._refused as error:
            self._launch_in_new_thread(buffer, stream, error)
        self._free.append(buffer)  # the driver has copied the arguments

    def _launch_in_new_thread(self, buffer: _Buffer, stream: int, error: Any) -> None:
        """Launch again where a thread had no context yet; pass on what else the driver refused."""
        try:
            if error.status != _INVALID_CONTEXT:
                raise error
            self._establish_context()  # any call of the runtime API that works on a device does it
            self._launch(stream, buffer.address, 0)
        except self._refused as last:
            raise DeviceError(f"the driver refused a launch: {last}") from last

    def _new_buffer(self) -> _Buffer:
        sizes = [_size(argument) for argument in self._arguments]
        buffer = _Buffer(sizes)
        for argument, offset, size in zip(self._arguments, buffer.offsets, sizes, strict=True):
            if isinstance(argument, Struct):
                buffer.data[offset : offset + size] = argument.data
            elif isinstance(argument, bytes):
                buffer.data[offset : offset + size] = argument
        return buffer


_Run = tuple[Callable[..., None], int, int, int]  # pack, offset, first and end of the addresses


class _Group:
    """Encoded arguments that follow each other in the buffer: made once for addresses that recur.

    Parameters
    ----------
    arguments : of the launch, in order.
    numbers : of their arrays' addresses among those of the launch.
    begin : where the first stands in the buffer, bytes from its start.
    """

    def __init__(self, arguments: Sequence[Encoded], numbers: Sequence[int], begin: int) -> None:
        self.begin, self.end = begin, begin + sum(argument.size for argument in arguments)
        self._encoders = tuple(argument.encode for argument in arguments)
        self._numbers = tuple(numbers)
        self._pick: Callable[[Sequence[int]], Any] = itemgetter(*numbers)
        self._made: dict[Any, bytes] = {}

    def made_of(self, addresses: Sequence[int]) -> bytes:
        """Return the bytes of all arguments, one after the other."""
        picked = self._pick(addresses)
        made = self._made.get(picked)
        if made is None:
            each = zip(self._encoders, self._numbers, strict=True)
            made = b"".join([encode(addresses[number]) for encode, number in each])
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            self._made[picked] = made
        return made


def _size(argument: Argument) -> int:
    if isinstance(argument, Struct):
        return len(argument.data)
    return argument.size if isinstance(argument, Encoded) else len(argument)


def _runs(
    arguments: Sequence[Argument], offsets: Sequence[int], names: Sequence[str]
) -> tuple[_Run, ...]:
    """Return which stretches of addresses are written at each launch, and where."""
    number = {name: index for index, name in enumerate(names)}
    runs: list[_Run] = []
    for argument, offset in zip(arguments, offsets, strict=True):
        if isinstance(argument, Struct):
            places = {number[name]: at for name, at in argument.places.items() if name in number}
            runs += _stretches(places, offset)
    return tuple(runs)


def _groups(
    arguments: Sequence[Argument], offsets: Sequence[int], names: Sequence[str]
) -> tuple[_Group, ...]:
    """Return the encoded arguments, as few groups as there are."""
    number = {name: index for index, name in enumerate(names)}
    found: list[_Group] = []
    open_: list[Encoded] = []
    begin = end = 0
    for argument, offset in zip(arguments, offsets, strict=True):
        if not isinstance(argument, Encoded):
            continue
        if open_ and offset != end:
            found.append(_Group(open_, [number[each.name] for each in open_], begin))
            open_ = []
        if not open_:
            begin = offset
        open_.append(argument)
        end = offset + argument.size
    if open_:
        found.append(_Group(open_, [number[each.name] for each in open_], begin))
    return tuple(found)


def _stretches(places: Mapping[int, int], offset: int) -> list[_Run]:
    """Return runs of addresses whose places follow each other, as few as there are."""
    found: list[_Run] = []
    wanted = sorted(places)
    while wanted:
        first = last = wanted.pop(0)
        while wanted and wanted[0] == last + 1 and _follow(places, last):
            last = wanted.pop(0)
        pack = struct.Struct(f"{last + 1 - first}Q").pack_into
        found.append((pack, offset + places[first], first, last + 1))
    return found


def _follow(places: Mapping[int, int], number: int) -> bool:
    return places[number + 1] == places[number] + _POINTER_BYTES
