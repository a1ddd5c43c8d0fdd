"""Where an element of a tile lies in shared memory: pitch, swizzle, and the banks of an access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnprobe.errors import UsageError

CHUNK = 16  # bytes: one row of an 8x8 matrix of 16-bit elements, and the unit that swizzles move
BANK_GROUPS = 8  # chunks that lie side by side in the 32 banks of 4 bytes


@dataclass(frozen=True)
class Swizzle:
    """One way to spread the chunks of a tile over the banks.

    Attributes
    ----------
    name : "none", "32", "64", "128" or "row".
    says : what it does, as an expression for the chunk's number in its line or for the address.
    """

    name: str
    says: str

    def offset(self, line: int, byte: int, pitch: int) -> int:
        """Return the byte offset of byte ``byte`` of line ``line``, lines ``pitch`` bytes apart."""
        if self.name == "row":
            chunk, within = divmod(byte, CHUNK)
            return line * pitch + (chunk ^ line % BANK_GROUPS) * CHUNK + within
        plain = line * pitch + byte
        return plain ^ ((plain >> 7 & _MASKS[self.name]) << 4)


# 32, 64 and 128 are what TMA and wgmma call 32B, 64B and 128B swizzling: 16-byte chunks are
# permuted within 32, 64 or 128 bytes. Source: PTX ISA 9.1, 5.5.6 "Swizzling modes".
_MASKS = {"none": 0, "32": 1, "64": 3, "128": 7}

SWIZZLES: dict[str, Swizzle] = {
    each.name: each
    for each in (
        Swizzle("none", "address"),
        Swizzle("32", "address ^ (address >> 7 & 1) << 4"),
        Swizzle("64", "address ^ (address >> 7 & 3) << 4"),
        Swizzle("128", "address ^ (address >> 7 & 7) << 4"),
        Swizzle("row", "chunk ^ line % 8"),
    )
}


def swizzle(name: str) -> Swizzle:
    """Return the swizzle of that name.

    Raises
    ------
    UsageError
        If there is none; names those that there are.
    """
    if name not in SWIZZLES:
        raise UsageError(f"no swizzle {name!r}; there are {', '.join(SWIZZLES)}")
    return SWIZZLES[name]


def check_pitch(chosen: Swizzle, pitch: int, least: int) -> None:
    """Raise unless lines of ``least`` bytes can lie ``pitch`` bytes apart under the swizzle.

    Raises
    ------
    UsageError
        If the pitch is too small, or not what the alignment or the swizzle asks for.
    """
    if pitch < least:
        raise UsageError(f"a line of the tile has {least} bytes; a pitch of {pitch} is too small")
    if pitch % CHUNK:
        raise UsageError(f"matrix rows must be 16-byte aligned; a pitch of {pitch} bytes is not")
    if chosen.name == "row" and pitch % (CHUNK * BANK_GROUPS):
        raise UsageError(
            f"swizzle 'row' permutes the eight chunks of 128 bytes; a pitch of {pitch} is no "
            "multiple of 128"
        )


def conflict_degree(offsets: Sequence[int]) -> int:
    """Return how many times the banks must be read for 16 bytes at each of the offsets.

    1 is free of conflicts. Equal addresses are read once.
    """
    groups: dict[int, set[int]] = {}
    for offset in offsets:
        groups.setdefault(offset // CHUNK % BANK_GROUPS, set()).add(offset)
    return max(len(group) for group in groups.values())
