"""Swizzles of shared memory: how TMA and wgmma exchange 16-byte chunks within rows of a tile.

A swizzle is a function of the address alone: some bits above the row's are XORed into those that
number the 16-byte chunk. So whoever writes with it and whoever reads with it agree wherever the
tile starts, and the pattern repeats every ``repeat`` bytes of shared memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.frozen import dataclass

CHUNK = 16  # bytes that stay together


@dataclass(frozen=True)
class Swizzle:
    """One swizzle mode.

    Attributes
    ----------
    name : the width of its rows, "128B"; "none" for none.
    bits : how many address bits are exchanged: from bit 7 on into those from bit 4 on.
    descriptor_code : bits 62-63 of a wgmma descriptor.
    tensor_map_code : the CUtensorMapSwizzle of a tensor map.
    """

    name: str
    bits: int
    descriptor_code: int
    tensor_map_code: int

    @property
    def span(self) -> int:
        """Bytes of one row: at most so wide is a box of a tensor map."""
        return CHUNK << self.bits

    @property
    def repeat(self) -> int:
        """Bytes after which the pattern repeats: tiles that start there look alike."""
        return 8 * self.span

    def apply(self, addresses: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return where the bytes at ``addresses`` (integers) of the plain tile are."""
        if not self.bits:
            return addresses
        mask = (1 << self.bits) - 1
        found: npt.NDArray[Any] = addresses ^ ((addresses >> 7 & mask) << 4)
        return found

    def __call__(self, address: int) -> int:
        return int(self.apply(np.array(address, np.int64)))


# Source: PTX ISA 9.1, 9.7.15.5.1.2.2 "Matrix Descriptor Format" and 5.5.6 "Swizzling Modes"; CUDA
# driver API, cuTensorMapEncodeTiled. Which chunk goes where is on record from an H200: for wgmma
# (probes/wgmma_tiles.toml) and for TMA (probes/recorded/sm_90/tensor_copies.json).
SWIZZLES: dict[str, Swizzle] = {
    row.name: row
    for row in (
        Swizzle("none", 0, 0, 0),
        Swizzle("32B", 1, 3, 1),
        Swizzle("64B", 2, 2, 2),
        Swizzle("128B", 3, 1, 3),
    )
}


def swizzle(name: str) -> Swizzle:
    """Return the mode ``name``.

    Raises
    ------
    UsageError
        If there is none; names those that there are.
    """
    if name not in SWIZZLES:
        raise UsageError(f"no swizzle {name!r}; there are {', '.join(SWIZZLES)}")
    return SWIZZLES[name]
