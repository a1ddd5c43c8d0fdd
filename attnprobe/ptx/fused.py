"""Chains of products as one: accumulators that many products add to, summed over k at once.

A kernel's loop over k and over column tiles is many small products. Where nothing looks at an
accumulator in between, the sum over the whole chain is the same sum, so A is taken for all steps of
k side by side, B for all steps and all column tiles, and the matrix library does the rest in one
call for each warp. As with single products, everything about layouts comes from the row.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from attnprobe.layouts import Instruction, Operand
from attnprobe.ptx.fragments import decode
from attnprobe.ptx.values import LANES, Array


class Pieces:
    """One operand in registers, many fragments of it: where each element is in the registers.

    Registers of several fragments lie one after another, each as 32 lanes of its elements.
    """

    def __init__(self, operand: Operand) -> None:
        self.format = operand.format
        self.registers = operand.registers
        self.rows, self.cols = operand.fragment.rows, operand.fragment.cols
        self.size = operand.fragment.elements * LANES
        flat = operand.fragment.flat_index()  # (lanes, elements)
        lane, element = np.indices(flat.shape)
        per = operand.format.per_register
        place = element // per * (LANES * per) + lane * per + element % per
        place_of = np.zeros(self.rows * self.cols, np.int64)
        place_of[flat.reshape(-1)[::-1]] = place.reshape(-1)[::-1]
        self.place: Array = place_of.reshape(self.rows, self.cols)
        # For one element a register: the position that each register's lanes hold.
        self.held = flat.T.reshape(self.registers, -1)

    def elements(self, warps: int, registers: tuple[Array, ...]) -> Array:
        """Return all registers' elements as float32: (warps, registers * elements)."""
        words = np.empty((len(registers), warps, LANES), np.uint32)
        for number, register in enumerate(registers):
            words[number] = register if register.dtype == np.uint32 else register.view(np.uint32)
        held = decode(words, self.format)
        return held.transpose(1, 0, 2).reshape(warps, -1)


class Fused:
    """The plan of chains of one mma row with float32 accumulators."""

    def __init__(self, row: Instruction) -> None:
        self.a, self.b, self.c = Pieces(row["A"]), Pieces(row["B"]), Pieces(row["C"])
        self.d = Pieces(row["D"])
        self._left = lru_cache(maxsize=64)(self._left_index)
        self._right = lru_cache(maxsize=64)(self._right_index)
        self._start = lru_cache(maxsize=64)(self._start_index)
        self._split = lru_cache(maxsize=64)(self._split_index)

    def _left_index(self, tiles: int, steps: int) -> Array:
        """(tiles * m, steps * k): A's fragments come tile by tile, step by step."""
        number = np.arange(tiles * steps).reshape(tiles, 1, steps, 1)
        index = number * self.a.size + self.a.place[None, :, None, :]
        return index.reshape(-1)

    def _right_index(self, tiles: int, steps: int) -> Array:
        """(steps * k, tiles * n): B's fragments come tile by tile, step by step."""
        number = np.arange(tiles * steps).reshape(tiles, steps).T[:, None, :, None]
        index = number * self.b.size + self.b.place[None, :, None, :]
        return index.reshape(-1)

    def _start_index(self, down: int, across: int) -> Array:
        """(down * m, across * n): C's fragments come row of tiles by row of tiles."""
        number = np.arange(down * across).reshape(down, 1, across, 1)
        index = number * self.c.size + self.c.place[None, :, None, :]
        return index.reshape(-1)

    def _split_index(self, down: int, across: int) -> Array:
        """(down * across * registers, lanes): where each register's element is in D."""
        row, col = np.divmod(self.d.held, self.d.cols)
        g = np.arange(down)[:, None, None, None]
        c = np.arange(across)[None, :, None, None]
        index = (g * self.d.rows + row) * (across * self.d.cols) + c * self.d.cols + col
        return index.reshape(-1)

    def left(self, warps: int, tiles: int, *registers: Array) -> Array:
        """Return A of all row tiles and steps: (warps, tiles * m, steps * k)."""
        held = self.a.elements(warps, registers)
        index = self._left(tiles, len(registers) // (tiles * self.a.registers))
        return held.take(index, axis=1).reshape(warps, tiles * self.a.rows, -1)

    def right(self, warps: int, tiles: int, *registers: Array) -> Array:
        """Return B of all steps and column tiles: (warps, steps * k, tiles * n)."""
        held = self.b.elements(warps, registers)
        index = self._right(tiles, len(registers) // (tiles * self.b.registers))
        return held.take(index, axis=1).reshape(warps, -1, tiles * self.b.cols)

    def start(self, warps: int, down: int, across: int, *registers: Array) -> Array:
        """Return C of all tiles: (warps, down * m, across * n)."""
        held = self.c.elements(warps, registers)
        index = self._start(down, across)
        return held.take(index, axis=1).reshape(warps, down * self.c.rows, -1)

    def chain(self, down: int, across: int, a: Array, b: Array, c: Array | None) -> Array:
        """Return the registers of all tiles of A B + C: (registers, warps, 32)."""
        total = np.matmul(a, b)
        if c is not None:
            total += c
        warps = len(total)
        held = total.reshape(warps, -1).take(self._split(down, across), axis=1)
        return np.ascontiguousarray(held.reshape(warps, -1, LANES).transpose(1, 0, 2))


def fusible(row: Instruction) -> bool:
    """Whether a chain of this row's products may be summed at once: float32 all the way."""
    whole = not any(operand.matrix_rows for operand in row.operands)
    return whole and row["C"].format.name == row["D"].format.name == "f32"


@lru_cache(maxsize=256)
def fused(row: Instruction) -> Fused:
    """Return the plan of a row's chains."""
    return Fused(row)
