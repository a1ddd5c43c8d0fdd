"""Stamps: who accessed a word of shared memory, and when, in 32 bits; and what the log keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnprobe.ptx.memory import unit_dtype
from attnprobe.ptx.values import Array

# A stamp: clock in the high 25 bits, then one bit for an atomic operation, then the warp, or an
# agent behind the warps.
CLOCK_SHIFT = 7
ATOMIC = 64
WARP = 63
NEVER = 0xFFFFFFFF
PENDING = 0xFFFFFF80  # plus the warp that issued the copy


@dataclass(frozen=True)
class Logged:
    """One access, kept so that a race can name both sides."""

    site: int
    kind: str
    rows: Array
    stamps: Array
    index: Array
    mask: Array | None
    size: int


def words_of(index: Array, size: int) -> tuple[Array, int]:
    """Return the index in whole words for accesses narrower than one."""
    return (index, size) if size >= 4 else (index >> (2 if size == 1 else 1), 4)


def widened(stamps: Array, size: int) -> Array:
    """Return (n, 1) stamps repeated for every word of a unit: units (n, 1)."""
    repeated = np.repeat(stamps[:, :, None], size // 4, axis=2)
    return np.ascontiguousarray(repeated).view(unit_dtype(size))[..., 0]


def stamps_of(units: Array, index: Array | None) -> Array:
    """Return the stamps of units, one a word: (..., words)."""
    picked = np.ascontiguousarray(units if index is None else units[index])
    return picked.view(np.uint32).reshape(*picked.shape, -1)
