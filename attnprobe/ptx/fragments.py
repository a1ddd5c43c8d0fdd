"""From registers to matrices and back, planned once for each layout row.

A plan is made from the row's fragments alone. Registers are arrays (warps, 32) of raw 32-bit words;
matrices are (warps, rows, columns) in float32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from attnprobe.errors import UnsupportedError
from attnprobe.formats import Format
from attnprobe.layouts import Instruction, Operand
from attnprobe.ptx import numeric
from attnprobe.ptx.exact_plan import ExactProduct
from attnprobe.ptx.memory import unit_dtype
from attnprobe.ptx.values import LANES, Array


def decode(words: Array, form: Format) -> Array:
    """Return raw 32-bit ``words`` (..., w) as float32 elements (..., w * elements per word)."""
    if form.name == "f16":
        return words.view(np.float16).astype(np.float32)
    if form.name == "bf16":
        return numeric.bf16_to_f32(words.view(np.uint16))
    if form.name == "f32":
        return words.view(np.float32)
    return form.decode(form.unpack(words)).astype(np.float32)


def encode(values: Array, form: Format) -> Array:
    """Return float32 elements (..., e) as float32 or raw 32-bit words (..., registers)."""
    if form.name == "f32":
        return values
    if form.name == "f16":
        return np.ascontiguousarray(numeric.f16_bits(values)).view(np.uint32)
    return form.pack(form.encode(values))


class Packer:
    """One operand: how its registers become a matrix, and the matrix its registers."""

    def __init__(self, operand: Operand) -> None:
        fragment = operand.fragment
        if fragment.lanes != LANES:
            raise UnsupportedError(
                f"operand {operand.name} is spread over {fragment.lanes} lanes, not {LANES}"
            )
        self.format = operand.format
        self.registers = operand.registers
        self.shape = operand.axis_sizes
        flat = fragment.flat_index()  # (lanes, elements)
        self.flat = flat.reshape(-1)
        # For each position of the matrix, which (lane, element) holds it; of copies, the first.
        self.source = np.zeros(fragment.rows * fragment.cols, np.int64)
        self.source[self.flat[::-1]] = np.arange(self.flat.size)[::-1]

    def matrix(self, warps: int, *registers: Array) -> Array:
        """Return the matrix (warps, rows, cols), float32, that the registers hold.

        Where the rows of the fragment count through matrices: (warps, matrices, rows, cols).
        """
        words = np.empty((warps, LANES, self.registers), np.uint32)
        for number, register in enumerate(registers):
            words[:, :, number] = (
                register if register.dtype == np.uint32 else register.view(np.uint32)
            )
        held = decode(words, self.format).reshape(warps, -1)
        return held.take(self.source, axis=1).reshape(warps, *self.shape)

    def split(self, matrix: Array) -> list[Array]:
        """Return the registers that hold ``matrix``: (warps, 32) each, float32 or raw uint32."""
        held = matrix.reshape(len(matrix), -1).take(self.flat, axis=1)
        words = encode(held.reshape(len(matrix), LANES, -1), self.format)
        return [words[:, :, number] for number in range(self.registers)]


class Product:
    """The plan of one mma instruction."""

    def __init__(self, row: Instruction) -> None:
        self.a, self.b = Packer(row["A"]), Packer(row["B"])
        self.c, self.d = Packer(row["C"]), Packer(row["D"])

    def pack_a(self, warps: int, *registers: Array) -> Array:
        """Return A, (warps, m, k)."""
        return self.a.matrix(warps, *registers)

    def pack_b(self, warps: int, *registers: Array) -> Array:
        """Return B, (warps, k, n)."""
        return self.b.matrix(warps, *registers)

    def pack_c(self, warps: int, *registers: Array) -> Array:
        """Return C, (warps, m, n)."""
        return self.c.matrix(warps, *registers)

    def multiply(self, a: Array, b: Array, c: Array) -> Array:
        """Return A B + C, (warps, m, n), rounded to D's format."""
        total = np.matmul(a, b)
        total += c
        if self.d.format.name != "f32":
            total = self.d.format.decode(self.d.format.encode(total)).astype(np.float32)
        result: Array = total
        return result

    def unpack(self, d: Array) -> list[Array]:
        """Return D's registers."""
        return self.d.split(d)


class Loader:
    """The plan of one ldmatrix instruction: which words of the gathered rows each register
    takes.
    """

    def __init__(self, row: Instruction) -> None:
        operand = row.operands[0]
        self.addresses = row.addresses
        self.row_bytes = operand.fragment.cols * operand.format.bits // 8
        self.registers = operand.registers
        self.storage = operand.format.storage
        self.flat = operand.fragment.flat_index()  # (lanes, elements)
        # Where every register takes whole words in order of lane, it is a slice of what was
        # gathered.
        per = operand.format.per_register
        words = self.flat.reshape(LANES, self.registers, per)
        plain = words[..., 0] // per
        first = plain[0]
        self.slices: list[int] | None = None
        in_order = (plain == first + np.arange(LANES)[:, None]).all()
        if in_order and (words == plain[..., None] * per + np.arange(per)).all():
            self.slices = [int(value) for value in first]

    def split(self, gathered: Array) -> list[Array]:
        """Return the registers, from rows gathered as (warps, addresses) units of ``row_bytes``."""
        warps = len(gathered)
        gathered = np.ascontiguousarray(gathered)  # indexing keeps the order of the addresses' axes
        if self.slices is not None:
            words = gathered.view(np.uint32).reshape(warps, -1)
            return [words[:, start : start + LANES] for start in self.slices]
        elements = gathered.view(self.storage).reshape(warps, -1)
        held = elements.take(self.flat.reshape(-1), axis=1)
        parts = held.view(np.uint32).reshape(warps, LANES, self.registers)
        return [parts[:, :, number] for number in range(self.registers)]


class Mover:
    """The plan of stmatrix and movmatrix: matrices (rows of bytes in memory) from registers."""

    def __init__(self, row: Instruction) -> None:
        source = row.operands[-1]
        fragment = source.fragment
        self.addresses = row.addresses
        self.row_bytes = fragment.cols * source.format.bits // 8
        self.registers = source.registers
        self.storage = source.format.storage
        self.shape = fragment.rows, fragment.cols
        self.flat = fragment.flat_index().reshape(-1)  # (lane, element) -> position
        self.target = Loader(row) if row.family == "movmatrix" else None

    def rows(self, warps: int, *registers: Array) -> Array:
        """Return the matrices' elements in memory's order: (warps, rows, cols)."""
        words = np.empty((warps, LANES, self.registers), np.uint32)
        for number, register in enumerate(registers):
            words[:, :, number] = register.view(np.uint32)
        out = np.empty((warps, self.shape[0] * self.shape[1]), self.storage)
        out[:, self.flat] = words.view(self.storage).reshape(warps, -1)
        return out.reshape(warps, *self.shape)

    def units(self, warps: int, *registers: Array) -> Array:
        """Return each row as a unit of its bytes: (warps, rows)."""
        return self.rows(warps, *registers).view(unit_dtype(self.row_bytes))[..., 0]

    def move(self, warps: int, *registers: Array) -> list[Array]:
        """Return the registers of movmatrix."""
        assert self.target is not None
        return self.target.split(self.units(warps, *registers))


@lru_cache(maxsize=256)
def mover(row: Instruction) -> Mover:
    """Return the plan of an stmatrix or a movmatrix row."""
    return Mover(row)


@lru_cache(maxsize=256)
def product(row: Instruction) -> Product | ExactProduct:
    """Return the plan of an mma row: integers and f64, which sum without choice, have one only."""
    accumulator = row["D"].format
    if accumulator.is_integer or accumulator.bits == 64:
        return ExactProduct(row)
    return Product(row)


@lru_cache(maxsize=256)
def loader(row: Instruction) -> Loader:
    """Return the plan of an ldmatrix row."""
    return Loader(row)
