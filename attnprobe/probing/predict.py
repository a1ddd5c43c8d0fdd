"""What a layout row predicts: the product of the matrices that the registers hold by the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import macros, registers

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


def matrix(operand: Operand, held: Array) -> Float:
    """Return the matrix (..., rows, cols) that registers (..., words, lanes) hold."""
    values = operand.format.decode(registers.unpack(held, operand.format))
    return operand.fragment.scatter(values)


def product(row: Instruction, held: Mapping[str, Array]) -> Float:
    """Return A B + C of what the registers hold by ``row``: float64, (blocks, rows, cols) of D.

    ``held`` has A, B and C; of a sparse product also E, and "variant": the number of the choice of
    immediates, (blocks,). Sums are exact where float64 holds them.
    """
    a, b, c = (matrix(row[name], held[name]) for name in "ABC")
    if row.sparsity is not None:
        a = row.sparsity.expand(a, metadata(row, held))
    return times(row, a, b) + c


def times(row: Instruction, a: Float, b: Float) -> Float:
    """Return A B: of matrices side by side each with its own, of single bits the count.

    ``a`` is (..., m, k) with the zeros of a sparse A in place, ``b`` (..., k, n).
    """
    many = row["D"].matrices
    if many > 1:
        a = a.reshape(*a.shape[:-2], many, -1, a.shape[-1])
        b = b.reshape(*b.shape[:-2], many, -1, b.shape[-1])
    both = a @ b
    if ".xor." in row.mnemonic:
        both = a.sum(-1)[..., :, None] + b.sum(-2)[..., None, :] - 2 * both
    return both.reshape(*both.shape[:-3], -1, both.shape[-1]) if many > 1 else both


def magnitude(row: Instruction, held: Mapping[str, Array]) -> Float:
    """Return the sum of |a b| over k plus |c|, (blocks, m, n): no partial sum is larger."""
    a, b, c = (np.abs(matrix(row[name], held[name])) for name in "ABC")
    return times(row, a, b) + c


def terms(row: Instruction) -> int:
    """Return how many terms are added for one element of D: k + 1."""
    return row.shape[2] + 1


def metadata(row: Instruction, held: Mapping[str, Array]) -> Array:
    """Return the metadata of each row of A: raw values, (blocks, m, indices)."""
    e = row["E"]
    raw = registers.unpack(held["E"], e.format)
    assert row.sparsity is not None, "only a sparse product has metadata"
    unread = row.sparsity.codes[0] if row.sparsity.codes else 0  # nothing in a row that is right
    out = np.full((len(raw), e.fragment.rows * e.fragment.cols), unread, raw.dtype)
    flat = e.fragment.flat_index()
    for number, values in enumerate(macros.variants(row)):
        blocks = np.flatnonzero(held["variant"].reshape(-1) == number)
        chosen = e.chosen(**{name.replace("-", "_"): each for name, each in values.items()})
        out[blocks[:, None], flat[chosen]] = raw[blocks][:, chosen]
    return out.reshape(len(raw), e.fragment.rows, e.fragment.cols)


def result_bits(row: Instruction, values: Float) -> Array:
    """Return D (..., rows, cols) as raw elements (..., lanes, elements) of its format.

    Integers wrap around, or with ``.satfinite`` stop at the ends of the range.
    """
    d = row["D"]
    if d.format.is_integer and "satfinite" not in row.mnemonic.split("."):
        values = (values + 2.0**31) % 2.0**32 - 2.0**31
    return fragment_bits(d, values)


def fragment_bits(operand: Operand, values: Float) -> Array:
    """Return matrices (..., rows, cols) as raw elements (..., lanes, elements) of the format."""
    return operand.fragment.gather(operand.format.encode(values))
