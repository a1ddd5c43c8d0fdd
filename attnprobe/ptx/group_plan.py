"""Plans of wgmma, made once for each layout row: registers and shared memory to matrices and back.

As with mma.sync, which lane holds which element comes from the row's fragments; where shared memory
holds which element comes from ``attnprobe.layouts.shared_matrix``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe.errors import UnsupportedError
from attnprobe.formats import Format
from attnprobe.layouts import Instruction, Operand
from attnprobe.layouts.shared_matrix import Descriptor, chunks
from attnprobe.layouts.swizzle import CHUNK, swizzle
from attnprobe.layouts.wgmma import matrices
from attnprobe.ptx import exact_kinds
from attnprobe.ptx.values import DTYPES, LANES, TYPE_CODES, Array

WARPS = 4  # of a warpgroup


class Registers:
    """One operand that a warpgroup holds in registers."""

    def __init__(self, operand: Operand) -> None:
        fragment = operand.fragment
        self.format, self.count = operand.format, operand.registers
        self.shape = fragment.rows, fragment.cols
        self.flat = fragment.flat_index().reshape(-1)  # (lane, element) -> position
        self.source = np.zeros(fragment.rows * fragment.cols, np.int64)
        self.source[self.flat] = np.arange(self.flat.size)
        self.dtype = DTYPES[TYPE_CODES.get(operand.format.ptx, "u4")]
        if self.dtype.itemsize != 4:
            self.dtype = np.dtype(np.uint32)

    def raw(self, registers: list[Array]) -> Array:
        """Return raw elements (warpgroups, rows, cols) of registers (4 * warpgroups, 32)."""
        words = np.stack([register.view(np.uint32) for register in registers], axis=-1)
        slots = self.format.unpack(words).reshape(len(words) // WARPS, -1)
        return slots.take(self.source, axis=1).reshape(-1, *self.shape)

    def split(self, raw: Array) -> list[Array]:
        """Return the registers that hold raw elements: (4 * warpgroups, 32) each."""
        held = raw.reshape(len(raw), -1).take(self.flat, axis=1)
        words = self.format.pack(held.reshape(len(raw) * WARPS, LANES, -1))
        parts = np.ascontiguousarray(np.moveaxis(words, -1, 0))
        return [part.view(self.dtype) for part in parts]


class Stored:
    """One operand that lies in shared memory behind a descriptor: A as (m, k), B as (n, k)."""

    def __init__(self, outer: int, depth: int, form: Format, transposed: bool) -> None:
        self.outer, self.depth, self.format, self.transposed = outer, depth, form, transposed

    def places(self, descriptor: int) -> Array:
        """Return the shared address of each 16-byte chunk: int64 (rows, chunks).

        Raises
        ------
        UnsupportedError
            For a descriptor with a base offset.
        """
        told = Descriptor.decode(descriptor)
        if told.base_offset:
            raise UnsupportedError("a matrix descriptor with a base offset is not emulated")
        mode = swizzle(told.swizzle)
        first = told.address // mode.repeat * mode.repeat
        found = _swizzled(
            self.outer, self.depth, self.format.bits, self.transposed,
            told.leading, told.stride, told.swizzle, told.address - first,
        )  # fmt: skip
        return found + first

    def raw(self, units: Array, places: Array) -> Array:
        """Return raw elements (warpgroups, outer, depth) of 16-byte units at chunk numbers."""
        words = np.ascontiguousarray(units[places]).view(np.uint32)
        found = self.format.unpack(words)
        return np.swapaxes(found, 1, 2) if self.transposed else found


@lru_cache(maxsize=1024)
def _swizzled(
    outer: int, depth: int, bits: int, transposed: bool, leading: int, stride: int, mode: str,
    phase: int,
) -> Array:  # fmt: skip
    """Return where chunks are, from the last repeat of the swizzle before the matrix."""
    plain = chunks(outer, depth, bits, transposed, leading, stride, mode) + phase
    found = swizzle(mode).apply(plain)
    found.setflags(write=False)
    return found


class GroupPlan:
    """The plan of one wgmma form.

    Attributes
    ----------
    exact : products have the bits of the hardware; integers always have.
    fused : products that add to one D may be summed at once.
    """

    def __init__(self, row: Instruction, transpose_a: bool, transpose_b: bool, exact: bool) -> None:
        self.row = row
        whole = matrices(row)
        m, n, k = row.shape
        self.a_format, self.b_format = whole["A"].format, whole["B"].format
        self.d = Registers(row["D"])
        self.a = Registers(row["A"]) if "A" in row.by_name else None
        self.a_stored = Stored(m, k, self.a_format, transpose_a)
        self.b = Stored(n, k, self.b_format, transpose_b)
        self.arithmetic: exact_kinds.Arithmetic | None = None
        if exact or self.d.format.is_integer:
            self.arithmetic = exact_kinds.arithmetic(whole)
        self.fused = self.arithmetic is None and self.d.format.name == "f32"

    def numbers(self, raw: Array, form: Format, negate: bool) -> Array:
        """Return an operand as the arithmetic takes it: float32, or raw bits with the sign in."""
        if self.arithmetic is None:
            values = _decoded(raw, form)
            return -values if negate else values
        if negate:
            flipped: Array = raw ^ raw.dtype.type(1 << form.bits - 1)
            return flipped
        return raw

    def multiply(self, a: Array, b: Array, c: Array | None) -> Array:
        """Return raw A B^T + C, (warpgroups, m, n): A (warpgroups, m, k), B (warpgroups, n, k).

        ``c`` is raw; None for zeros.
        """
        form = self.d.format
        if self.arithmetic is not None:
            start = np.zeros((*a.shape[:2], b.shape[1]), form.storage) if c is None else c
            return _last(self.arithmetic, a, np.swapaxes(b, 1, 2), start)
        total = np.matmul(a, np.swapaxes(b, 1, 2))
        if c is not None:
            total += form.decode(c).astype(np.float32) if form.name != "f32" else c.view(np.float32)
        if form.name == "f32":
            found: Array = total.view(np.uint32)
            return found
        rounded: Array = form.encode(total)
        return rounded


def _last(arithmetic: exact_kinds.Arithmetic, a: Array, b: Array, c: Array) -> Array:
    """Return what ``arithmetic`` gives of matrices whose first axis is its last."""
    moved: list[Any] = [np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in (a, b, c)]
    d = arithmetic.multiply(arithmetic.left(moved[0]), arithmetic.right(moved[1]), moved[2])
    return np.ascontiguousarray(np.moveaxis(d, -1, 0))


def _decoded(raw: Array, form: Format) -> Array:
    if form.name == "f16":
        return raw.view(np.float16).astype(np.float32)
    if form.name == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return form.decode(raw).astype(np.float32)


@lru_cache(maxsize=256)
def group_plan(row: Instruction, transpose_a: bool, transpose_b: bool, exact: bool) -> GroupPlan:
    """Return the plan of a wgmma row.

    Raises
    ------
    UnsupportedError
        With ``exact``, if its arithmetic is not known to the bit.
    """
    return GroupPlan(row, transpose_a, transpose_b, exact)


__all__ = ["CHUNK", "WARPS", "GroupPlan", "group_plan"]
