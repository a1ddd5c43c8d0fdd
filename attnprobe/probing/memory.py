"""Shared memory of a load probe: rows of numbered elements, and the offsets that the lanes pass.

Memory holds one row of 16 bytes for each lane. Row l belongs to lane l; rows of lanes whose address
the instruction must not use are there as well, so that a load which took them would show them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UnsupportedError
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import fills

Array = npt.NDArray[Any]
Offsets = npt.NDArray[np.uint32]
ROW_BYTES = 16


def row_elements(operand: Operand) -> int:
    """Return how many elements one row of memory holds."""
    return ROW_BYTES * 8 // operand.format.bits


def tagged_rows(operand: Operand) -> npt.NDArray[np.uint32]:
    """Return memory as words: element i of it is i + 1. uint32, (words,).

    Raises
    ------
    UnsupportedError
        If the format is too narrow to number all elements.
    """
    count = operand.fragment.lanes * row_elements(operand)
    if count >= 2**operand.format.bits:
        raise UnsupportedError(f"{count} elements do not fit {operand.format.bits}-bit numbers")
    return (np.arange(count) + 1).astype(operand.format.storage).view(np.uint32)


def numbered(operand: Operand) -> npt.NDArray[np.uint16]:
    """Return the number of each slot from 1 on, as raw elements of 16 bits: (lanes, elements)."""
    shape = operand.fragment.lanes, operand.fragment.elements
    return (np.arange(shape[0] * shape[1]) + 1).astype(np.uint16).reshape(shape)


def contiguous(row: Instruction) -> Offsets:
    """Every lane passes the address of its own row, rows in order: uint32, (lanes,), in bytes."""
    return (np.arange(row.lanes) * ROW_BYTES).astype(np.uint32)


def scattered(row: Instruction) -> Offsets:
    """Every lane passes the address of its own row, rows in a shuffled order."""
    lanes = row.lanes
    order = np.argsort(fills.random_words("rows", lanes), kind="stable")
    return (order * ROW_BYTES).astype(np.uint32)


def same(row: Instruction) -> Offsets:
    """Every lane passes the address of row 0."""
    return np.zeros(row.lanes, np.uint32)


ADDRESSES: dict[str, Callable[[Instruction], Offsets]] = {
    "contiguous": contiguous,
    "scattered": scattered,
    "same": same,
}


def tile(row: Instruction, a: Operand) -> npt.NDArray[np.uint32]:
    """Return a row-major tile of the size of A: uint32, (passes, words).

    Element (m, k) is the tag of number m * cols + k, in as many passes as it takes.
    """
    base = fills.tag_base(row, a)
    number = np.arange(a.fragment.rows * a.fragment.cols)
    digits = [number // base**digit % base + 1 for digit in range(fills.tag_passes(row, a))]
    words = [a.format.encode(digit.astype(np.float64)).view(np.uint32) for digit in digits]
    return np.stack(words)


def usual_offsets(a: Operand) -> Offsets:
    """Return what lanes pass in the usual order: row l % m, column 8 * (l // m).

    uint32, (lanes,), in bytes. Lanes beyond the tile pass the address of its start: theirs must not
    be used, but must be valid.
    """
    lane = np.arange(a.fragment.lanes)
    row, col = lane % a.fragment.rows, 8 * (lane // a.fragment.rows)
    offset = (row * a.fragment.cols + col) * (a.format.bits // 8)
    return np.where(col < a.fragment.cols, offset, 0).astype(np.uint32)
