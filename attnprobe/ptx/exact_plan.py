"""Exact products in the emulator: from registers to raw matrices and back, for each layout row.

A stand-in for ``fragments.Product``: the generated code calls the same methods, and what passes
between them are raw bits with the warps on the last axis.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe.errors import UnsupportedError
from attnprobe.layouts import Instruction, Operand
from attnprobe.ptx import exact_kinds
from attnprobe.ptx.values import DTYPES, LANES, TYPE_CODES, Array


class RawPacker:
    """One operand: its registers as raw bits (rows, cols, warps), and these as registers."""

    def __init__(self, operand: Operand) -> None:
        fragment = operand.fragment
        if fragment.lanes != LANES:
            raise UnsupportedError(
                f"operand {operand.name} is spread over {fragment.lanes} lanes, not {LANES}"
            )
        self.format = operand.format
        self.registers = operand.registers
        self.shape = fragment.rows, fragment.cols
        self.word = np.dtype(np.uint64 if self.format.bits == 64 else np.uint32)
        code = TYPE_CODES.get(self.format.ptx, "u4")
        self.dtype = DTYPES[code if code in ("f4", "u4", "i4", "f8") else "u4"]
        self.flat = fragment.flat_index().reshape(-1)
        self.source = np.zeros(fragment.rows * fragment.cols, np.int64)
        self.source[self.flat[::-1]] = np.arange(self.flat.size)[::-1]

    def matrix(self, warps: int, *registers: Array) -> Array:
        """Return the raw bits that the registers (warps, 32) hold: (rows, cols, warps)."""
        words = np.empty((warps, LANES, self.registers), self.word)
        for number, register in enumerate(registers):
            words[:, :, number] = register.view(self.word)
        if self.format.bits >= 8:
            held = words.view(self.format.storage)
        else:
            held = self.format.unpack(words)
        held = held.reshape(warps, -1).T
        return held.take(self.source, axis=0).reshape(*self.shape, warps)

    def split(self, matrix: Array) -> list[Array]:
        """Return the registers, (warps, 32) each, that hold the raw ``matrix``."""
        warps = matrix.shape[-1]
        held = matrix.reshape(-1, warps).take(self.flat, axis=0)
        slots = np.ascontiguousarray(held.T).reshape(warps, LANES, -1)
        if self.format.bits >= 8:
            words = slots.view(self.word)
        else:
            words = self.format.pack(slots)
        return [words[:, :, number].view(self.dtype) for number in range(self.registers)]


class ExactProduct:
    """The plan of one mma instruction, to the bit."""

    def __init__(self, row: Instruction) -> None:
        self.arithmetic = exact_kinds.arithmetic(row)
        self.a, self.b = RawPacker(row["A"]), RawPacker(row["B"])
        self.c, self.d = RawPacker(row["C"]), RawPacker(row["D"])

    def pack_a(self, warps: int, *registers: Array) -> Any:
        """Return what the arithmetic needs of A."""
        return self.arithmetic.left(self.a.matrix(warps, *registers))

    def pack_b(self, warps: int, *registers: Array) -> Any:
        """Return what the arithmetic needs of B."""
        return self.arithmetic.right(self.b.matrix(warps, *registers))

    def pack_c(self, warps: int, *registers: Array) -> Array:
        """Return raw C, (m, n, warps)."""
        return self.c.matrix(warps, *registers)

    def multiply(self, a: Any, b: Any, c: Array) -> Array:
        """Return raw D, (m, n, warps)."""
        return self.arithmetic.multiply(a, b, c)

    def unpack(self, d: Array) -> list[Array]:
        """Return D's registers."""
        return self.d.split(d)


@lru_cache(maxsize=256)
def exact_product(row: Instruction) -> ExactProduct:
    """Return the exact plan of an mma row.

    Raises
    ------
    UnsupportedError
        If its arithmetic is not known to the bit.
    """
    return ExactProduct(row)


def tiles(row: Instruction, a: Array, b: Array, c: Array, cc: int = 90) -> Array:
    """Return raw D of many tiles at once.

    Parameters
    ----------
    a, b, c : raw bits in the formats' storage dtypes, (tiles, m, k), (tiles, k, n), (tiles, m, n).

    Returns
    -------
    raw bits, (tiles, m, n).
    """
    chosen = exact_kinds.arithmetic(row, cc)
    return multiplied(chosen, a, b, c)


def multiplied(chosen: exact_kinds.Arithmetic, a: Array, b: Array, c: Array) -> Array:
    """Return raw D (tiles, m, n) of raw A, B and C (tiles first) under any arithmetic."""
    last = [np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in (a, b, c)]
    with np.errstate(all="ignore"):  # NaN and infinities are values like any other here
        d = chosen.multiply(chosen.left(last[0]), chosen.right(last[1]), last[2])
    return np.ascontiguousarray(np.moveaxis(d, -1, 0))
