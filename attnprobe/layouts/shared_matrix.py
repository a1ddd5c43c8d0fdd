"""Matrices of wgmma in shared memory: what a descriptor says, and where it puts each element.

A matrix has an outer axis (m of A, n of B) and k. K-major, 16 bytes in a row run along k, else
(MN-major, "transposed") along the outer axis. In both, eight rows of the swizzle's width make an
atom; leading and stride offset tell where the next atoms are.

Source: PTX ISA 9.1, 9.7.15.5.1.2 "Shared Memory Matrix Layout" and "Matrix Descriptor Format".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.layouts.swizzle import CHUNK, SWIZZLES, Swizzle, swizzle

_BY_CODE = {row.descriptor_code: row for row in SWIZZLES.values()}
ROWS = 8  # of an atom


@dataclass(frozen=True)
class Descriptor:
    """The fields of a matrix descriptor, in bytes.

    Attributes
    ----------
    address : shared address of the matrix, a multiple of 16 below 2**18.
    leading, stride : the two offsets, multiples of 16 below 2**18; ``chunks`` says what they mean.
    swizzle : a name of ``swizzle.SWIZZLES``.
    base_offset : phase of the swizzle where the matrix does not start on its repeat, 0 to 7.
    """

    address: int
    leading: int
    stride: int
    swizzle: str
    base_offset: int = 0

    def __post_init__(self) -> None:
        for name in ("address", "leading", "stride"):
            value = getattr(self, name)
            if value % CHUNK or not 0 <= value < 1 << 18:
                raise UsageError(f"{name} {value} is no multiple of 16 below 2**18")
        if not 0 <= self.base_offset < 8:
            raise UsageError(f"base offset {self.base_offset} is not 0 to 7")

    def encode(self) -> int:
        """Return the 64 bits."""
        code = swizzle(self.swizzle).descriptor_code
        offsets = self.leading >> 4 << 16 | self.stride >> 4 << 32
        return self.address >> 4 | offsets | self.base_offset << 49 | code << 62

    @classmethod
    def decode(cls, bits: int) -> Descriptor:
        """Return the fields of 64 bits."""
        address, leading, stride = ((bits >> at & 0x3FFF) << 4 for at in (0, 16, 32))
        return cls(address, leading, stride, _BY_CODE[bits >> 62 & 3].name, bits >> 49 & 7)


@lru_cache(maxsize=512)
def chunks(
    outer: int, depth: int, bits: int, transposed: bool, leading: int, stride: int, mode: str
) -> npt.NDArray[np.int64]:
    """Return where each 16-byte chunk is before the swizzle, in bytes from the matrix's address.

    Parameters
    ----------
    outer, depth : extents of the outer axis and of k, in elements of ``bits`` bits.
    transposed : MN-major.
    leading, stride : offsets of the descriptor, in bytes.
    mode : name of the swizzle.

    Returns
    -------
    int64, (outer, chunks of a row of k), or transposed (depth, chunks of a row of the outer axis).

    Raises
    ------
    UsageError
        If a row is no whole number of chunks.
    """
    rows, columns = (depth, outer) if transposed else (outer, depth)
    if columns * bits % (8 * CHUNK):
        raise UsageError(f"rows of {columns} elements of {bits} bits are no multiple of 16 bytes")
    row = np.arange(rows, dtype=np.int64)[:, None]
    chunk = np.arange(columns * bits // (8 * CHUNK), dtype=np.int64)[None, :]
    found = _places(swizzle(mode), row, chunk, transposed, leading, stride)
    found.setflags(write=False)
    return found


def _places(
    mode: Swizzle,
    row: npt.NDArray[np.int64],
    chunk: npt.NDArray[np.int64],
    transposed: bool,
    leading: int,
    stride: int,
) -> npt.NDArray[np.int64]:
    """Rows of an atom are ``span`` bytes apart; what the offsets add depends on the mode:

    K-major: eight rows further on is ``stride``. With a swizzle a row is one run of chunks; without
    one, the next chunk is ``leading``.
    MN-major: with a swizzle, the next ``span`` bytes of a row are ``leading`` away and eight rows
    further on is ``stride``; without one the two are the other way round.
    """
    inside = row % ROWS * mode.span
    group, atom = row // ROWS, chunk // (mode.span // CHUNK)
    within = chunk % (mode.span // CHUNK) * CHUNK
    if not transposed:
        across = leading if not mode.bits else mode.span  # no product is wider than its rows
        return inside + group * stride + within + atom * across
    down, across = (stride, leading) if mode.bits else (leading, stride)
    return inside + group * down + within + atom * across
