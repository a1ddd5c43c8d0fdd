"""What a layout row predicts: the product of the matrices that the registers hold by the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Product:
    """A B + C in float64, and what bounds its error.

    Attributes
    ----------
    exact : (blocks, m, n).
    magnitude : sum of |a b| over k plus |c|, (blocks, m, n): no partial sum is larger.
    terms : how many terms are added for one element: k + 1.
    """

    exact: Float
    magnitude: Float
    terms: int


def matrix(operand: Operand, held: Array) -> Float:
    """Return the matrix (..., rows, cols) that registers (..., registers, lanes) hold."""
    values = operand.format.decode(registers.unpack(held, operand.format))
    return operand.fragment.scatter(values)


def product(row: Instruction, held: Mapping[str, Array]) -> Product:
    """Return the product of what the registers of A, B and C hold by ``row``."""
    a, b, c = (matrix(row[name], held[name]) for name in "ABC")
    with np.errstate(all="raise"):
        exact = a @ b + c
        magnitude = np.abs(a) @ np.abs(b) + np.abs(c)
    return Product(exact, magnitude, a.shape[-1] + 1)


def fragment_bits(operand: Operand, values: Float) -> Array:
    """Return matrices (..., rows, cols) as raw elements (..., lanes, elements) of the format."""
    return operand.fragment.gather(operand.format.encode(values))
