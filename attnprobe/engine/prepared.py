"""One kernel launch, prepared: all but the addresses is laid out as the driver takes it.

CuPy reads every argument of a launch anew: a struct of many fields costs 25 us that way, and one of
plain words still 4. The driver itself wants a table of pointers to the arguments' bytes. So that is
what a prepared launch holds, for each addresses that it was run with: allocators give the same ones
again and again, and then nothing is left to do but to call the driver.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from attnprobe.engine.dependent import LEAST_DRIVER, launcher
from attnprobe.errors import DeviceError
from attnprobe.frozen import dataclass

_WORD = struct.Struct("Q")
_ALIGNMENT = 16  # of each argument's bytes in the buffer, for the driver's copy of them
_MOST_FILLED = 512  # addresses that a launch keeps its arguments for, about 2 KB each
_INVALID_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT; Source: cuda.h


@dataclass(frozen=True)
class Struct:
    """An argument by value, with addresses inside.

    Attributes
    ----------
    data : its bytes; the addresses in it are written over.
    places : name of an array -> where its address stands, bytes from the start.
    """

    data: bytes
    places: Mapping[str, int]


@dataclass(frozen=True)
class Encoded:
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


class _Form:
    """Arguments as the driver takes them, but for the addresses: pointers, then their bytes.

    Parameters
    ----------
    arguments : of the kernel, in order.
    names : of the arrays, in the order in which their addresses will come.
    """

    def __init__(self, arguments: Sequence[Argument], names: Sequence[str]) -> None:
        number = {name: index for index, name in enumerate(names)}
        self._offsets: list[int] = []  # of each argument's bytes
        self._words: list[tuple[int, int]] = []  # where an address stands, and which
        self._encoded: list[tuple[int, Callable[[int], bytes], int]] = []
        self._table = struct.Struct(f"{len(arguments)}Q")
        data = bytearray(self._table.size)
        for argument in arguments:
            data += bytes(-len(data) % _ALIGNMENT)
            begin = len(data)
            self._offsets.append(begin)
            if isinstance(argument, Encoded):
                data += bytes(argument.size)
                self._encoded.append((begin, argument.encode, number[argument.name]))
            elif isinstance(argument, Struct):
                data += argument.data
                places = argument.places.items()
                self._words += [(begin + at, number[name]) for name, at in places if name in number]
            else:
                data += argument
        self._data = bytes(data)

    def filled(self, addresses: Sequence[int]) -> tuple[int, Any]:
        """Return where the pointers stand in memory, and what holds it."""
        data = array("B", self._data)
        start, _ = data.buffer_info()
        self._table.pack_into(data, 0, *[start + offset for offset in self._offsets])
        for place, number in self._words:
            _WORD.pack_into(data, place, addresses[number])
        view = memoryview(data)
        for begin, encode, number in self._encoded:
            encoded = encode(addresses[number])
            view[begin : begin + len(encoded)] = encoded
        return start, data


class Prepared:
    """A launch without its addresses. Any number of threads may run it at once.

    Parameters
    ----------
    function : ``cupy.cuda.Function`` of the device that is current at each run.
    grid, block, shared_bytes : shape of the launch.
    arguments : of the kernel, in order.
    names : of the arrays, in the order in which their addresses will come.
    dependent : whether the kernel waits itself for the launch before it (dependent.py). An older
        driver launches it behind that as any other.
    """

    def __init__(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        arguments: Sequence[Argument],
        names: Sequence[str],
        dependent: bool = False,
    ) -> None:
        import cupy

        self._made_of = (function, grid, block, shared_bytes, tuple(arguments))
        self._arguments, self._names = tuple(arguments), tuple(names)
        self._form = _Form(self._arguments, self._names)
        self._refused = cupy.cuda.driver.CUDADriverError
        self._dependent = dependent
        launch = cupy.cuda.driver.launchKernel
        self._launch: Callable[[int, int, int], Any] = (
            launcher(function.ptr, grid, block, shared_bytes, self._refused)
            if dependent and cupy.cuda.runtime.driverGetVersion() >= LEAST_DRIVER
            else partial(launch, function.ptr, *grid, *block, shared_bytes)
        )
        self._establish_context = cupy.cuda.runtime.memGetInfo
        # Nothing in here is ever changed: threads may launch with it at once.
        self._filled: dict[tuple[int, ...], tuple[int, Any]] = {}
        self._get_filled = self._filled.get

    def ordered(self, names: Sequence[str]) -> Prepared:
        """Return the same launch, to be given its addresses in another order."""
        return Prepared(*self._made_of, names, self._dependent)

    def renamed(self, names: Mapping[str, str]) -> Prepared:
        """Return the same launch with arrays under other names, old -> new."""
        arguments = [
            replace(each, places={names.get(name, name): at for name, at in each.places.items()})
            if isinstance(each, Struct)
            else replace(each, name=names.get(each.name, each.name))
            if isinstance(each, Encoded)
            else each
            for each in self._arguments
        ]
        order = tuple(names.get(name, name) for name in self._names)
        return Prepared(*self._made_of[:-1], arguments, order, self._dependent)

    def __call__(self, addresses: tuple[int, ...], stream: int) -> None:
        """Queue the kernel on ``stream`` (a cudaStream_t), with one address for each name.

        Raises
        ------
        DeviceError
            If the driver refuses.
        """
        filled = self._get_filled(addresses) or self._fill(addresses)
        try:
            self._launch(stream, filled[0], 0)  # the driver copies the arguments
        except self._refused as error:
            self._launch_in_new_thread(filled[0], stream, error)

    def _launch_in_new_thread(self, arguments: int, stream: int, error: Any) -> None:
        """Launch again where a thread had no context yet; pass on what else the driver refused."""
        try:
            if error.status != _INVALID_CONTEXT:
                raise error
            self._establish_context()  # any call of the runtime API that works on a device does it
            self._launch(stream, arguments, 0)
        except self._refused as last:
            raise DeviceError(f"the driver refused a launch: {last}") from last

    def _fill(self, addresses: tuple[int, ...]) -> tuple[int, Any]:
        """Return the arguments of a launch with ``addresses``, and keep them for the next one."""
        filled = self._form.filled(addresses)
        if len(self._filled) >= _MOST_FILLED:
            self._filled.clear()
        self._filled[addresses] = filled
        return filled
