"""One kernel launch, prepared: all but the addresses is laid out as the driver takes it.

CuPy reads every argument of a launch anew: a struct of many fields costs 25 us that way, and one of
plain words still 4. The driver itself wants a table of pointers to the arguments' bytes. So that is
what a prepared launch holds, for each addresses that it was run with: allocators give the same ones
again and again, and then nothing is left to do but to call the driver.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from attnprobe.errors import DeviceError

_POINTER_BYTES = 8
_ALIGNMENT = 16  # of each argument's bytes in the buffer, for the driver's copy of them
_MOST_MADE = 512  # addresses that a launch keeps its arguments for, about 2 KB each
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
    encode : address -> bytes, ``size`` of them.
    size : bytes.
    """

    name: str
    encode: Callable[[int], bytes]
    size: int


Argument = Struct | Encoded | bytes  # bytes: a number by value


class _Made:
    """Arguments as the driver takes them: a table of pointers, then the bytes that they point to.

    Parameters
    ----------
    size : of all, bytes.
    offsets : of each argument's bytes.
    """

    __slots__ = ("address", "data")

    def __init__(self, size: int, offsets: Sequence[int]) -> None:
        self.data: Any = ctypes.create_string_buffer(size)
        self.address = ctypes.addressof(self.data)  # of the table; stays as long as ``data`` does
        pointers = [self.address + offset for offset in offsets]
        struct.pack_into(f"{len(pointers)}Q", self.data, 0, *pointers)


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
        self._offsets, self._size = _places(self._arguments)
        launch = cupy.cuda.driver.launchKernel
        self._launch = partial(launch, function.ptr, *grid, *block, shared_bytes)
        self._refused = cupy.cuda.driver.CUDADriverError
        self._establish_context = cupy.cuda.runtime.memGetInfo
        self._made: dict[tuple[int, ...], _Made] = {}  # none is changed once it is in here
        self._get_made = self._made.get

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

    def __call__(self, addresses: tuple[int, ...], stream: int) -> None:
        """Queue the kernel on ``stream`` (a cudaStream_t), with one address for each name.

        Raises
        ------
        DeviceError
            If the driver refuses.
        """
        made = self._get_made(addresses) or self._make(addresses)
        try:
            self._launch(stream, made.address, 0)  # the driver copies the arguments
        except self._refused as error:
            self._launch_in_new_thread(made, stream, error)

    def _launch_in_new_thread(self, made: _Made, stream: int, error: Any) -> None:
        """Launch again where a thread had no context yet; pass on what else the driver refused."""
        try:
            if error.status != _INVALID_CONTEXT:
                raise error
            self._establish_context()  # any call of the runtime API that works on a device does it
            self._launch(stream, made.address, 0)
        except self._refused as last:
            raise DeviceError(f"the driver refused a launch: {last}") from last

    def _make(self, addresses: tuple[int, ...]) -> _Made:
        """Return the arguments of a launch with ``addresses``, and keep them for the next one."""
        made = _Made(self._size, self._offsets)
        given = dict(zip(self._names, addresses, strict=True))
        for argument, offset in zip(self._arguments, self._offsets, strict=True):
            made.data[offset : offset + _size(argument)] = _bytes(argument, given)
        if len(self._made) >= _MOST_MADE:
            self._made.clear()
        self._made[addresses] = made
        return made


def _places(arguments: Sequence[Argument]) -> tuple[list[int], int]:
    """Return where the bytes of each argument stand behind the table, and the end of the last."""
    offsets, end = [], _POINTER_BYTES * len(arguments)
    for argument in arguments:
        offsets.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
        end = offsets[-1] + _size(argument)
    return offsets, end


def _size(argument: Argument) -> int:
    if isinstance(argument, Struct):
        return len(argument.data)
    return argument.size if isinstance(argument, Encoded) else len(argument)


def _bytes(argument: Argument, addresses: Mapping[str, int]) -> bytes:
    """Return the bytes of an argument; an address that is not given stays as it was."""
    if isinstance(argument, Encoded):
        return argument.encode(addresses[argument.name])
    if not isinstance(argument, Struct):
        return argument
    data = bytearray(argument.data)
    for name, place in argument.places.items():
        if name in addresses:
            struct.pack_into("Q", data, place, addresses[name])
    return bytes(data)
