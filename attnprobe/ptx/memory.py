"""Global memory: NumPy arrays mapped to device addresses, read and written in place.

An access must lie wholly within the span of bytes of one mapped array. Between any two arrays there
is a gap, so running off the end of one never lands in the next.
"""

from __future__ import annotations

import bisect
import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnprobe.errors import UsageError
from attnprobe.ptx.values import Array

FIRST_ADDRESS = 1 << 32
GAP = 1 << 16
ALIGN = 256


@dataclass(frozen=True, eq=False)
class Buffer:
    """One mapped array.

    Attributes
    ----------
    address : device address of the array's first element ``array[0, 0, ...]``.
    name : what errors call it.
    writable : whether kernels may write to it.
    low, high : device addresses between which the array's elements lie.
    origin : device address of ``raw[0]``; a multiple of 256.
    raw : bytes of the memory that owns the array, uint8.
    """

    address: int
    name: str
    writable: bool
    low: int
    high: int
    origin: int
    raw: Array = field(repr=False)
    array: Array = field(repr=False)
    views: dict[int, Array] = field(default_factory=dict, repr=False)

    def units(self, size: int) -> Array:
        """Return the memory as whole units of ``size`` bytes (a power of two up to 16, or rows
        of 8 bytes).
        """
        found = self.views.get(size)
        if found is None:
            found = as_units(self.raw, size)
            self.views[size] = found
        return found


_UNITS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype(np.complex128),  # moved as 16 bytes, never computed with
    32: np.dtype("V32"),
}


def as_units(raw: Array, size: int) -> Array:
    """Return the bytes ``raw`` as whole units of ``size`` bytes; a rest at the end is left out."""
    whole = len(raw) // size * size
    return raw[:whole].view(_UNITS[size])


def unit_dtype(size: int) -> np.dtype[Any]:
    """Return the dtype in which ``size`` bytes are moved."""
    return _UNITS[size]


class GlobalMemory:
    """The address space of one or several launches."""

    def __init__(self) -> None:
        self._next = FIRST_ADDRESS
        self._buffers: list[Buffer] = []
        self._origins: list[int] = []
        self._owners: dict[tuple[int, int], int] = {}
        self.version = 0

    def map(self, array: Array, name: str = "", writable: bool = True) -> Buffer:
        """Give ``array`` a device address and return it as a buffer.

        Views of one owning array get addresses with the same distance as their elements have, so
        that a view is aligned on the device as it would be on a GPU. Bytes of the owner outside the
        view's own elements stay out of bounds.

        Raises
        ------
        UsageError
            If a writable mapping is asked of a read-only array.
        """
        if writable and not array.flags.writeable:
            raise UsageError(f"{name or 'the array'} is read-only; map it with writable=False")
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        owner_low, owner_high = _span(owner)
        low, high = _span(array)
        size = owner_high - owner_low
        origin = self._next
        self._next += -(-(size + GAP) // ALIGN) * ALIGN
        raw = _bytes_at(owner_low, size)
        first = int(array.__array_interface__["data"][0])
        buffer = Buffer(
            address=origin + first - owner_low,
            name=name or f"buffer {len(self._buffers)}",
            writable=writable,
            low=origin + low - owner_low,
            high=origin + high - owner_low,
            origin=origin,
            raw=raw,
            array=array,
        )
        self._buffers.append(buffer)
        self._origins.append(origin)
        self.version += 1
        return buffer

    def at(self, address: int) -> Buffer | None:
        """Return the buffer whose memory is the nearest below ``address``, or None."""
        index = bisect.bisect_right(self._origins, address) - 1
        return self._buffers[index] if index >= 0 else None

    def nearest(self, address: int) -> str:
        """Say where ``address`` lies relative to the mapped arrays."""
        best, distance = "no array is mapped", None
        for buffer in self._buffers:
            if buffer.low <= address < buffer.high:
                return f"{address - buffer.address} bytes into {buffer.name}"
            for edge, word in ((buffer.low, "before"), (buffer.high, "past the end of")):
                off = abs(address - edge)
                if distance is None or off < distance:
                    distance, best = (
                        off,
                        f"{off} bytes {word} {buffer.name} ({buffer.high - buffer.low} bytes)",
                    )
        return best


def _span(array: Array) -> tuple[int, int]:
    """Return the host addresses of the first byte of ``array``'s elements and of the byte after
    the last.
    """
    first = int(array.__array_interface__["data"][0])
    if array.size == 0:
        return first, first
    low = high = first
    for extent, stride in zip(array.shape, array.strides, strict=True):
        reach = (extent - 1) * stride
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high + array.itemsize


def _bytes_at(host_address: int, size: int) -> Array:
    """Return the host memory there as uint8. The caller keeps its owner alive."""
    if not size:
        return np.empty(0, np.uint8)
    memory = memoryview((ctypes.c_ubyte * size).from_address(host_address)).cast("B")
    return np.frombuffer(memory, np.uint8)
