"""Units: what one lane moves in one access, gathered from memory and scattered to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnprobe.ptx.memory import unit_dtype
from attnprobe.ptx.values import DTYPES, LANES, POISON_BYTE, Array, spread

# Generic addresses: windows of shared, local and parameter memory, far from mapped arrays.
SHARED_WINDOW = 0x7E0000000000
LOCAL_WINDOW = 0x7D0000000000
PARAM_WINDOW = 0x7C0000000000
WINDOW_BYTES = 1 << 32
WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAM_WINDOW}


@dataclass(frozen=True)
class Access:
    """One load or store as the text has it.

    Attributes
    ----------
    site : number of the instruction.
    code : dtype code of one element; count : elements of the vector.
    offset : constant part of the address.
    order : of a strong operation whose scope is wider than a block: "relaxed", "acquire",
        "release", "acq_rel" or "sc"; "" of others.
    """

    site: int
    code: str
    count: int
    offset: int
    order: str = ""

    @property
    def bytes(self) -> int:
        """Bytes that one lane accesses."""
        return DTYPES[self.code].itemsize * self.count


def poisoned(shape: tuple[int, ...], size: int) -> Array:
    out = np.empty(shape, unit_dtype(size))
    out.view(np.uint8)[...] = POISON_BYTE
    return out


def gather(units: Array, index: Array, mask: Array | None, warps: int) -> Array:
    """Return ``units[index]``; lanes outside ``mask`` get poison."""
    if mask is None:
        return units[index]
    out = poisoned((warps, LANES), units.dtype.itemsize)
    out[mask] = units[spread(index, warps)[mask]]
    return out


def scatter(units: Array, index: Array, values: Array, mask: Array | None, warps: int) -> None:
    """Write ``values`` at ``index``; of lanes that write to one place, the last stays."""
    if mask is not None:
        units[spread(index, warps)[mask]] = spread(values, warps)[mask]
    elif index.shape == values.shape:
        units[index] = values
    else:
        units[spread(index, warps)] = spread(values, warps)


def split(data: Array, access: Access) -> list[Array]:
    """Return the elements of loaded units as one array each."""
    dtype = DTYPES[access.code]
    if access.count == 1:
        return [data.view(dtype)]
    parts = np.ascontiguousarray(data).view(dtype).reshape(*data.shape, access.count)
    return [parts[..., number] for number in range(access.count)]


def join(values: list[Any], access: Access, warps: int) -> Array:
    """Return units made of ``count`` elements."""
    unit = unit_dtype(access.bytes)
    if access.count == 1:
        value: Array = values[0]
        return value.view(unit)
    shape = np.broadcast_shapes(*(value.shape for value in values))
    joined = np.empty((*shape, access.count), DTYPES[access.code])
    for number, value in enumerate(values):
        joined[..., number] = value
    return joined.view(unit)[..., 0]
