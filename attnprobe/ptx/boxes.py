"""Boxes of tensors in global memory: read as 16-byte chunks, with a fill outside, and written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attnprobe.layouts.swizzle import CHUNK
from attnprobe.layouts.tensor_map import TensorMap
from attnprobe.ptx.memory import Buffer, GlobalMemory, unit_dtype
from attnprobe.ptx.values import Array


@dataclass
class Box:
    """The elements of one box: where each is in the buffer, and which lie inside the tensor.

    Attributes
    ----------
    units : the buffer's memory as units of the element's size.
    index : number of each element's unit, in the order of the box: int64 (elements,).
    inside : bool (elements,); None for all.
    fill : bits of an element outside.
    """

    units: Array
    index: Array
    inside: Array | None
    fill: int

    def read(self) -> Array:
        """Return the box as 16-byte units."""
        if self.inside is None:
            found = self.units[self.index]
        else:
            found = np.full(len(self.index), self.fill, self.units.dtype)
            found[self.inside] = self.units[self.index[self.inside]]
        return found.view(unit_dtype(CHUNK))

    def write(self, chunks: Array) -> None:
        """Write 16-byte units to where the elements lie."""
        elements = np.ascontiguousarray(chunks).view(self.units.dtype)
        if self.inside is None:
            self.units[self.index] = elements
        else:
            self.units[self.index[self.inside]] = elements[self.inside]


@lru_cache(maxsize=64)
def _steps(told: TensorMap) -> tuple[Array, tuple[Array, ...]]:
    """Return each element's distance from the box's corner in elements' bytes, and its steps along
    each axis.
    """
    steps = (1, *told.element_strides[1:])
    axes = [np.arange(n, dtype=np.int64) * s for n, s in zip(told.counts, steps, strict=True)]
    grid = np.meshgrid(*reversed(axes), indexing="ij")  # the innermost axis runs fastest
    flat = tuple(axis.reshape(-1) for axis in reversed(grid))
    strides = (told.size, *told.strides)
    offset = sum(axis * stride for axis, stride in zip(flat, strides, strict=True))
    return np.asarray(offset), flat


def box(
    memory: GlobalMemory, told: TensorMap | tuple[int, int], corner: Array, *, write: bool
) -> Box | str:
    """Return the box at ``corner``, or the run of bytes (address, size); or what is wrong."""
    if isinstance(told, tuple):
        address, size = told
        fault = _fault(memory, address, address + size, write)
        buffer = memory.at(address)
        if fault or buffer is None:
            return fault
        first = (address - buffer.origin) // CHUNK
        count = size // CHUNK
        return Box(buffer.units(CHUNK), np.arange(first, first + count), None, 0)
    offset, flat = _steps(told)
    strides = (told.size, *told.strides)
    begin = told.address + sum(int(c) * s for c, s in zip(corner, strides, strict=True))
    inside = _inside(told, corner, flat)
    if write and inside is not None:
        inside = told.written(inside)
    kept = offset if inside is None else offset[inside]
    if not len(kept):
        return Box(np.zeros(0, unit_dtype(told.size)), offset, inside, told.fill_bits)
    fault = _fault(memory, begin + int(kept[0]), begin + int(kept[-1]) + told.size, write)
    buffer = memory.at(begin + int(kept[0]))
    if fault or buffer is None:
        return fault
    index = (offset + (begin - buffer.origin)) // told.size
    return Box(buffer.units(told.size), index, inside, told.fill_bits)


def _inside(told: TensorMap, corner: Array, flat: tuple[Array, ...]) -> Array | None:
    """Return which elements of the box lie in the tensor: None where all do."""
    found: Array | None = None
    for axis, first, extent in zip(flat, corner, told.shape, strict=True):
        first = int(first)
        if first >= 0 and first + int(axis[-1]) < extent:
            continue
        here = (axis + first >= 0) & (axis + first < extent)
        found = here if found is None else found & here
    return found


def _fault(memory: GlobalMemory, low: int, high: int, write: bool) -> str:
    """Return what is wrong with an access from ``low`` to ``high``; "" if nothing is."""
    verb = "write" if write else "read"
    buffer: Buffer | None = memory.at(low)
    if buffer is None or low < buffer.low or high > buffer.high:
        outside = low if buffer is None or low < buffer.low else high - 1
        return (
            f"out of bounds: a bulk copy's {verb} of global addresses {low:#x} to {high:#x}, "
            f"{memory.nearest(outside)}"
        )
    if write and not buffer.writable:
        return f"write to {buffer.name}, which is mapped read-only"
    return ""
