"""Which addresses the lanes pass to ldmatrix or stmatrix, so that r[i] is a[i] of an operand.

A matrix of the instruction is eight rows of 16 bytes in shared memory, a *line* of the tile each.
Without ``.trans`` lane l has bytes 4 * (l % 4) and up of row l // 4; with it, the 16-bit elements
l // 4 of rows 2 * (l % 4) and 2 * (l % 4) + 1. So a register of the operand, byte by byte, says
where the rows of its matrix begin, or that it is no such matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UnsupportedError, UsageError
from attnprobe.formats import FORMATS
from attnprobe.layouts import catalogue, lookup
from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.layouts.questions import closed
from attnprobe.layouts.questions.swizzle import (
    CHUNK,
    Swizzle,
    check_pitch,
    conflict_degree,
    swizzle,
)

Array = npt.NDArray[Any]
MATRIX_ROWS = 8
WARP = 32


@dataclass(frozen=True)
class Address:
    """What one lane passes.

    Attributes
    ----------
    lane : the lane, through all warps.
    row, col : first element of the operand that lies there.
    offset : bytes from the start of the tile.
    """

    lane: int
    row: int
    col: int
    offset: int


@dataclass(frozen=True)
class Access:
    """One matrix instruction.

    Attributes
    ----------
    ptx : its mnemonic.
    transposed : it has ``.trans``.
    registers : the registers of the operand, in the order in which they stand in its list.
    addresses : of every lane whose address counts.
    row, col, offset : the same as C++ expressions in ``lane``.
    degrees : for each matrix of warp 0, the times that the banks are read: 1 is without conflict.
    """

    ptx: str
    transposed: bool
    registers: tuple[int, ...]
    addresses: tuple[Address, ...]
    row: str
    col: str
    offset: str
    degrees: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """The answer.

    Attributes
    ----------
    row : the instruction whose operand it is.
    operand : the operand as it is moved: of 16-bit elements where D is packed before it is stored.
    packed : D was wider and is packed to 16 bits before.
    order : "row" or "col": which elements of the tile lie side by side.
    pitch : bytes from line to line.
    swizzle : how chunks are permuted.
    accesses : the instructions, which together move the whole operand.
    """

    row: Instruction
    operand: Operand
    packed: bool
    order: str
    pitch: int
    swizzle: Swizzle
    accesses: tuple[Access, ...]

    @property
    def conflict_free(self) -> bool:
        """Whether no matrix of any access has a bank conflict."""
        return all(degree == 1 for access in self.accesses for degree in access.degrees)


def load(
    text: str, operand: str, *, order: str = "row", pitch: int = 0, swizzled: str = "none"
) -> Load:
    """Return the addresses for an operand of the instruction that ``text`` names.

    Parameters
    ----------
    operand : A, B, C or D. D is stored (stmatrix), the others are loaded (ldmatrix).
    order : "row" where elements of a row lie side by side in memory, "col" those of a column.
    pitch : bytes from line to line; 0 stands for lines without gaps.
    swizzled : name of a swizzle.

    Raises
    ------
    UsageError
        If there is no such instruction, operand or swizzle, or the pitch does not fit.
    UnsupportedError
        If no matrix instruction gives this operand from this tile.
    """
    row = catalogue.find(text)
    return of_row(row, operand, order=order, pitch=pitch, swizzled=swizzled)


def of_row(
    row: Instruction, name: str, *, order: str = "row", pitch: int = 0, swizzled: str = "none"
) -> Load:
    """Return the addresses for an operand of ``row``; parameters and errors as of ``load``."""
    wanted = lookup.operand(row, name)
    if order not in ("row", "col"):
        raise UsageError(f"no order {order!r}; elements lie side by side by row or by col")
    if not row.shape:
        raise UsageError(f"{row.ptx} is no product; name the product whose operand is moved")
    if wanted.matrix_rows:
        raise UnsupportedError(
            f"{row.ptx} multiplies several matrices at once; no one tile holds operand {name}"
        )
    moved = _as_moved(wanted)
    chosen = swizzle(swizzled)
    along = moved.fragment.cols if order == "row" else moved.fragment.rows
    least = along * moved.format.bits // 8
    pitch = pitch or least
    check_pitch(chosen, pitch, least)
    verb = "stmatrix" if wanted.name == "D" else "ldmatrix"
    matrices = _matrices(moved, order)
    accesses = tuple(
        _access(verb, moved, order, registers, matrices, (chosen, pitch))
        for registers in _calls(moved.registers)
    )
    return Load(row, moved, moved is not wanted, order, pitch, chosen, accesses)


def _as_moved(operand: Operand) -> Operand:
    """Return the operand as a matrix instruction moves it: an f32 D is packed to 16 bits before."""
    if operand.name in ("C", "D") and operand.format.name == "f32":
        if operand.fragment.elements % 2:
            raise UnsupportedError(f"operand {operand.name} has no pairs to pack to 16 bits")
        return replace(operand, format=FORMATS["b16"])
    return operand


def _calls(registers: int) -> list[tuple[int, ...]]:
    """Return the registers in groups of four, then two, then one: x4, x2 and x1."""
    groups, first = [], 0
    for size in (4, 2, 1):
        while registers - first >= size:
            groups.append(tuple(range(first, first + size)))
            first += size
    return groups


# --- matrices -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matrix:
    """One register as a matrix: whether transposed, and (line, byte) of each of its eight rows."""

    transposed: bool
    rows: tuple[tuple[int, int], ...]


def _matrices(operand: Operand, order: str) -> list[list[_Matrix]]:
    """Return the matrix of each register of each warp: [warp][register]."""
    places = _places(operand, order)
    warps = len(places) // WARP
    found = []
    for warp in range(warps):
        lanes = places[warp * WARP : (warp + 1) * WARP]
        found.append([_matrix(operand, order, register, lanes[:, register])
                      for register in range(operand.registers)])  # fmt: skip
    return found


def _places(operand: Operand, order: str) -> Array:
    """Return (line, byte) of every byte that a lane holds: (lanes, registers, 4, 2).

    A byte whose parts lie apart, as two 4-bit elements of different lines do, has line -1.
    """
    coords = operand.fragment.coords()
    lines, along = (coords[..., 0], coords[..., 1]) if order == "row" else (
        coords[..., 1], coords[..., 0])  # fmt: skip
    bits = operand.format.bits
    if bits >= 8:
        size = bits // 8
        lines = np.repeat(lines, size, axis=-1)
        inside = np.tile(np.arange(size), coords.shape[1])
        byte = np.repeat(along, size, axis=-1) * size + inside
    else:
        count = 8 // bits
        lines = lines.reshape(len(lines), -1, count)
        along = along.reshape(len(along), -1, count)
        together = (lines == lines[..., :1]).all(-1) & (
            along == along[..., :1] // count * count + np.arange(count)
        ).all(-1)
        lines, byte = np.where(together, lines[..., 0], -1), along[..., 0] // count
    shape = (len(lines), operand.registers, -1)
    return np.stack([lines.reshape(shape), byte.reshape(shape)], axis=-1)


def _matrix(operand: Operand, order: str, register: int, places: Array) -> _Matrix:
    """Return the matrix that 32 lanes have in one register; ``places`` is (lanes, bytes, 2).

    Raises
    ------
    UnsupportedError
        If it is none; says what lies where.
    """
    if places.shape[1] == 4 and (places[..., 0] >= 0).all():
        for transposed in (False, True):
            rows = _row_starts(places, transposed)
            if rows is not None:
                return _Matrix(transposed, rows)
    name = lookup.register_name(operand.name, register)
    held = ", ".join(f"({line}, {byte})" for line, byte in places[0].tolist())
    other = "col" if order == "row" else "row"
    raise UnsupportedError(
        f"no ldmatrix or stmatrix of 16-bit elements moves {name} to or from a {order}-major tile: "
        f"the bytes of lane 0 lie at (line, byte) {held}; without .trans they must be four in one "
        f"line, with .trans two in each of two lines. Try a {other}-major tile (--order {other}), "
        "or move bytes within registers first"
    )


def _row_starts(places: Array, transposed: bool) -> tuple[tuple[int, int], ...] | None:
    starts: dict[int, tuple[int, int]] = {}
    for lane, held in enumerate(places.tolist()):
        for at, (line, byte) in enumerate(held):
            if transposed:
                matrix_row, column = 2 * (lane % 4) + at // 2, 2 * (lane // 4) + at % 2
            else:
                matrix_row, column = lane // 4, 4 * (lane % 4) + at
            start = (line, byte - column)
            if starts.setdefault(matrix_row, start) != start:
                return None
    rows = tuple(starts[row] for row in range(MATRIX_ROWS))
    return rows if all(byte >= 0 and byte % CHUNK == 0 for _, byte in rows) else None


# --- addresses ------------------------------------------------------------------------------------


def _access(
    verb: str,
    operand: Operand,
    order: str,
    registers: tuple[int, ...],
    matrices: list[list[_Matrix]],
    memory: tuple[Swizzle, int],
) -> Access:
    used = [[of_warp[register] for register in registers] for of_warp in matrices]
    kinds = {matrix.transposed for of_warp in used for matrix in of_warp}
    if len(kinds) > 1:
        raise UnsupportedError("some registers need .trans and some do not: load them apart")
    transposed = kinds.pop()
    chosen, pitch = memory
    addresses = []
    for warp, of_warp in enumerate(used):
        for number, (line, byte) in enumerate(start for each in of_warp for start in each.rows):
            along = byte * 8 // operand.format.bits
            row, col = (line, along) if order == "row" else (along, line)
            offset = chosen.offset(line, byte, pitch)
            addresses.append(Address(warp * WARP + number, row, col, offset))
    first = addresses[: len(registers) * MATRIX_ROWS]
    degrees = tuple(
        conflict_degree([each.offset for each in first[start : start + MATRIX_ROWS]])
        for start in range(0, len(first), MATRIX_ROWS)
    )
    trans = ".trans" if transposed else ""
    ptx = f"{verb}.sync.aligned.m8n8.x{len(registers)}{trans}.shared.b16"
    formulas = _formulas(addresses, operand, order, memory)
    return Access(ptx, transposed, registers, tuple(addresses), *formulas, degrees)


def _formulas(
    addresses: list[Address], operand: Operand, order: str, memory: tuple[Swizzle, int]
) -> tuple[str, str, str]:
    """Return row, col and offset as C++ in ``lane``, which holds for the lanes that count."""
    count = 1 << (addresses[-1].lane).bit_length()
    known = {each.lane: each for each in addresses}
    row, col = (
        closed.in_cpp(_whole({lane: getattr(each, axis) for lane, each in known.items()}, count),
                      "lane")
        for axis in ("row", "col")
    )  # fmt: skip
    chosen, pitch = memory
    line, along = ("row", "col") if order == "row" else ("col", "row")
    bits = operand.format.bits
    byte = (
        along if bits == 8 else f"{bits // 8} * {along}" if bits > 8 else f"{along} / {8 // bits}"
    )
    if chosen.name == "row":
        chunk = f"{along} / {CHUNK * 8 // bits}"
        return row, col, f"{pitch} * {line} + 16 * ({chunk} ^ {line} % 8)"
    plain = f"{pitch} * {line} + {byte}"
    if chosen.name == "none":
        return row, col, plain
    mask = {"32": 1, "64": 3, "128": 7}[chosen.name]
    return row, col, f"x ^ (x >> 7 & {mask}) << 4, x = {plain}"


def _whole(known: dict[int, int], count: int) -> tuple[int, ...]:
    """Return a value for every lane below ``count``: those of lanes that do not count are free."""
    if len(known) == count:
        return tuple(known[lane] for lane in range(count))
    completed = closed.completed(known, count)
    return completed or tuple(known.get(lane, 0) for lane in range(count))
