"""Elements to 32-bit words of registers and back, and the names of register slots.

A *slot* is a place for one element in the registers of a warp: (lane, register, part), with parts
counted from the low bits. Slots of an operand are numbered ``lane * elements + element``; this
number names a slot without saying which element of the matrix it holds, which is what a probe asks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import Format
from attnprobe.layouts import Operand

Array = npt.NDArray[Any]
Registers = npt.NDArray[np.uint32]


def pack(elements: Array, form: Format) -> Registers:
    """Return raw elements (..., lanes, elements) as registers: uint32, (..., words, lanes).

    A word is a register, or half of one of f64: low half first.
    """
    return np.ascontiguousarray(np.swapaxes(form.pack(elements), -1, -2))


def unpack(held: Registers, form: Format) -> Array:
    """Return registers (..., words, lanes) as raw elements (..., lanes, elements)."""
    return form.unpack(np.swapaxes(held, -1, -2))


def words(operand: Operand) -> int:
    """Return how many 32-bit words one lane holds of ``operand``."""
    return operand.registers * operand.format.words


def slots(operand: Operand) -> int:
    """Return how many elements all lanes together hold of ``operand``."""
    return operand.fragment.lanes * operand.fragment.elements


def slot(operand: Operand, number: int) -> tuple[int, int, int]:
    """Return (lane, register, part) of slot ``number``."""
    lane, element = divmod(number, operand.fragment.elements)
    register, part = divmod(element, operand.format.per_register)
    return lane, register, part


def slot_name(operand: Operand, number: int) -> str:
    """Return the slot's name as a person writes it: ``lane 5 a[1].hi``."""
    lane, register, part = slot(operand, number)
    return f"lane {lane} {register_name(operand, register, part)}"


def register_name(operand: Operand, register: int, part: int) -> str:
    """Return ``a[1]``, or ``a[1].lo`` and ``a[1].hi`` where a register holds two elements."""
    name = f"{operand.name.lower()}[{register}]"
    if operand.format.per_register == 1:
        return name
    if operand.format.per_register == 2:
        return name + (".lo", ".hi")[part]
    return f"{name}.{part}"


def position(operand: Operand, row: int, col: int) -> str:
    """Return the name of an element: ``A[8, 0]``, or ``matrix 1 [0, 3]`` of a matrix load."""
    if operand.matrix_rows:
        matrix, inner = divmod(row, operand.matrix_rows)
        return f"matrix {matrix} [{inner}, {col}]"
    return f"{operand.name}[{row}, {col}]"
