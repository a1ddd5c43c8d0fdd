"""Vectors: single dot products that tell apart how a product adds, as raw bits and as tiles.

A vector is one dot product: factors at places of k, and c; every other factor is 0. A function
gives all vectors of a question for the formats of one row; what a format cannot hold is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import Format
from attnprobe.layouts import Instruction

Array = npt.NDArray[Any]
Factor = float | str  # a value, or raw bits "0x7f81"
Terms = Mapping[int, tuple[Factor, Factor]]


@dataclass(frozen=True)
class Vector:
    """One dot product.

    Attributes
    ----------
    says : the sum in words.
    terms : place of k -> the two factors.
    c : the accumulator.
    """

    says: str
    terms: Terms
    c: Factor = 0.0


@dataclass(frozen=True)
class Shape:
    """What a vector function must know of a row.

    Attributes
    ----------
    a, b, out : formats of A, of B, and of C and D.
    k : products of one element.
    """

    a: Format
    b: Format
    out: Format
    k: int
    saturates: bool = False

    @property
    def mantissa(self) -> int:
        """Fraction bits of the result."""
        return {"f16": 10, "f32": 23, "f64": 52}[self.out.ptx]

    def power(self, exponent: int, scale: float = 1.0) -> tuple[float, float]:
        """Return two factors whose product is scale * 2**exponent, each near its square root."""
        half = exponent // 2
        return scale * 2.0**half, 2.0 ** (exponent - half)


@dataclass(frozen=True, eq=False)
class Packed:
    """Vectors as raw bits.

    Attributes
    ----------
    says : of each vector.
    a, b : raw factors, (vectors, k).
    c : raw accumulators, (vectors,).
    """

    says: tuple[str, ...]
    a: Array
    b: Array
    c: Array


Make = Callable[[Shape], Iterator[Vector]]
VECTORS: dict[str, Make] = {}


def vectors(function: Make) -> Make:
    """Register a function under its name."""
    VECTORS[function.__name__] = function
    return function


def shape_of(row: Instruction) -> Shape:
    """Return what the vectors of ``row`` depend on."""
    a, b, d = (row[name].format for name in "ABD")
    return Shape(a, b, d, row.shape[2], "satfinite" in row.ptx)


@lru_cache(maxsize=512)
def pack(row: Instruction, name: str) -> Packed:
    """Return the vectors ``name`` of ``row`` that its formats hold exactly; there may be none."""
    from attnprobe.probing import vectors_of_ends, vectors_of_sums  # noqa: F401  (register theirs)

    shape = shape_of(row)
    says, left, right, third = [], [], [], []
    for vector in VECTORS[name](shape):
        a, b = [0] * shape.k, [0] * shape.k
        try:
            for place, (x, y) in vector.terms.items():
                a[place], b[place] = raw(x, shape.a), raw(y, shape.b)
            c = raw(vector.c, shape.out)
        except (OverflowError, IndexError):  # IndexError: a place beyond k
            continue
        says.append(vector.says)
        left.append(a)
        right.append(b)
        third.append(c)
    return Packed(
        tuple(says),
        np.array(left, shape.a.storage).reshape(-1, shape.k),
        np.array(right, shape.b.storage).reshape(-1, shape.k),
        np.array(third, shape.out.storage),
    )


def raw(value: Factor, form: Format) -> int:
    """Return the bits of ``value`` in ``form``.

    Raises
    ------
    OverflowError
        If the format does not hold it exactly.
    """
    bits = int(value, 16) if isinstance(value, str) else _bits(float(value).hex(), form)
    if bits is None:
        raise OverflowError(f"{form.name} does not hold {value}")
    return bits


@cache
def _bits(text: str, form: Format) -> int | None:
    """Return the bits of a number written as hexadecimal (so that -0 is not 0), None if inexact."""
    value = float.fromhex(text)
    with np.errstate(all="ignore"):
        encoded = form.encode(np.array([value]))
        back = form.decode(encoded)[0]
    same = back == value and np.signbit(back) == np.signbit(value)
    if not same or (form.ptx == "e4m3" and not np.isfinite(value)):
        return None
    return int(encoded[0])


def tiles(row: Instruction, packed: Packed) -> tuple[Array, Array, Array]:
    """Return raw A, B, C that hold the vectors: as many as B has columns in one tile.

    Each has a row and a column of its own; what else the tile computes is not looked at.
    """
    m, n, k = row.shape
    number, tile, i, j = _places(row, len(packed.c))
    count = int(tile[-1]) + 1 if len(tile) else 0
    a = np.zeros((count, m, k), packed.a.dtype)
    b = np.zeros((count, k, n), packed.b.dtype)
    c = np.zeros((count, m, n), packed.c.dtype)
    a[tile, i] = packed.a[number]
    b[tile, :, j] = packed.b[number]
    c[tile, i, j] = packed.c[number]
    return a, b, c


def picked(row: Instruction, d: Array, count: int) -> Array:
    """Return the results of ``count`` vectors from raw D of their tiles."""
    _, tile, i, j = _places(row, count)
    result: Array = d[tile, i, j]
    return result


def _places(row: Instruction, count: int) -> tuple[Array, Array, Array, Array]:
    m, n, _ = row.shape
    number = np.arange(count)
    tile, j = np.divmod(number, n)
    return number, tile, (j + n * (tile % (m // n))) % m, j
