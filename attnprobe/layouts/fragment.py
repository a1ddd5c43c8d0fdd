"""A fragment layout as mixed-radix digits: which lane holds which element of an operand, and where.

A row of the layout tables is two lists of digits. ``lane`` splits the lane number, lowest digit
first; ``elem`` splits the element number within the lane (low bits of register 0 first). Each digit
says how far one step of it moves in row and column. The position of an element is the sum:

    # lane % 4: a pair of columns; lane // 4: the row
    QUAD_ROWS = (Digit(4, col=2), Digit(8, row=1))
    C_16x8    = Fragment(16, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8)))

    row = lane // 4 + 8 * (elem // 2)        col = 2 * (lane % 4) + elem % 2

Extents need not be powers of two (wgmma has N = 24). A fragment that does not cover its operand
exactly once cannot be built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.layouts import formula


@dataclass(frozen=True)
class Digit:
    """One digit of a lane or element number: its extent, and its step in row and column."""

    extent: int
    row: int = 0
    col: int = 0

    def __post_init__(self) -> None:
        if self.extent < 1:
            raise LayoutError(f"a digit has at least one value; got extent {self.extent}")


Digits = tuple[Digit, ...]


@dataclass(frozen=True)
class Fragment:
    """Where each lane's elements of a ``rows`` x ``cols`` operand are.

    Attributes
    ----------
    rows, cols : size of the operand (A is m x k, B is k x n, C and D are m x n).
    lane : digits of the lane number, lowest first; their extents multiply to the number of lanes.
    elem : digits of the element number within a lane, lowest first.
    copies : how many (lane, element) pairs hold each position; 1 unless the row says otherwise.

    Raises
    ------
    LayoutError
        If some position is not covered exactly ``copies`` times.
    """

    rows: int
    cols: int
    lane: Digits
    elem: Digits
    copies: int = 1

    def __post_init__(self) -> None:
        coords = self._coords
        outside = (coords < 0).any() or (coords >= (self.rows, self.cols)).any()
        if outside:
            raise LayoutError(f"{self.rows}x{self.cols}: some element lies outside the operand")
        flat = coords[..., 0] * self.cols + coords[..., 1]
        counts = np.bincount(flat.ravel(), minlength=self.rows * self.cols)
        wrong = np.flatnonzero(counts != self.copies)
        if wrong.size:
            row, col = divmod(int(wrong[0]), self.cols)
            raise LayoutError(
                f"{self.rows}x{self.cols}: ({row}, {col}) is held {counts[wrong[0]]} times, "
                f"not {self.copies}; {wrong.size} positions are wrong"
            )

    @property
    def lanes(self) -> int:
        """Number of lanes (32 for a warp, 128 for a warpgroup)."""
        return prod(digit.extent for digit in self.lane)

    @property
    def elements(self) -> int:
        """Number of elements that one lane holds."""
        return prod(digit.extent for digit in self.elem)

    @cached_property
    def _coords(self) -> npt.NDArray[np.int64]:
        lane = _positions(self.lane)[:, None, :]
        elem = _positions(self.elem)[None, :, :]
        coords = lane + elem
        coords.setflags(write=False)
        return coords

    def coords(self) -> npt.NDArray[np.int64]:
        """Return (row, col) of every element: int64, shape (lanes, elements, 2), read-only."""
        return self._coords

    def flat_index(self) -> npt.NDArray[np.int64]:
        """Return ``row * cols + col`` of every element: int64, shape (lanes, elements)."""
        return self._coords[..., 0] * self.cols + self._coords[..., 1]

    def where(self, row: int, col: int) -> list[tuple[int, int]]:
        """Return the (lane, element) pairs that hold position (row, col), in order of lane."""
        hits = np.argwhere((self._coords == (row, col)).all(axis=-1))
        return [(int(lane), int(elem)) for lane, elem in hits]

    def gather(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what the lanes hold of ``matrix`` (..., rows, cols): shape (..., lanes, elements).

        Raises
        ------
        LayoutError
            If the last two axes are not (rows, cols).
        """
        self._check("a matrix", matrix.shape, (self.rows, self.cols))
        flat = matrix.reshape(*matrix.shape[:-2], self.rows * self.cols)
        return flat[..., self.flat_index()]

    def scatter(self, held: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the matrix (..., rows, cols) that ``held`` (..., lanes, elements) spells.

        Where the fragment replicates, the highest lane's copy is taken.

        Raises
        ------
        LayoutError
            If the last two axes are not (lanes, elements).
        """
        self._check("what the lanes hold", held.shape, (self.lanes, self.elements))
        out = np.empty((*held.shape[:-2], self.rows * self.cols), held.dtype)
        out[..., self.flat_index()] = held
        return out.reshape(*held.shape[:-2], self.rows, self.cols)

    def _check(self, what: str, shape: tuple[int, ...], wanted: tuple[int, int]) -> None:
        # A transposed array has the right number of elements and would be read in silence.
        if shape[-2:] != wanted:
            raise LayoutError(f"{what} of this fragment ends in axes {wanted}; got shape {shape}")

    def links(self, row: str = "row", col: str = "col") -> list[formula.Link]:
        """Return the digits as links between ``lane`` or ``i`` and axes of the given names."""
        found: list[formula.Link] = []
        for number, digits in (("lane", self.lane), ("i", self.elem)):
            weight = 1
            for digit in digits:
                for axis, step in ((row, digit.row), (col, digit.col)):
                    found.append(formula.Link(number, weight, axis, step, digit.extent))
                weight *= digit.extent
        return found

    def formula(self) -> tuple[str, str]:
        """Return row and column as Python expressions in ``lane`` and ``i``, the element number."""
        links, sizes = formula.joined(self.links()), self._sizes()
        return formula.position(links, "row", sizes), formula.position(links, "col", sizes)

    def inverse(self) -> tuple[str, str]:
        """Return lane and element number as Python expressions in ``row`` and ``col``.

        Where the fragment replicates, they give the holder with the lowest numbers.
        """
        links, sizes = formula.joined(self.links()), self._sizes()
        return formula.holder(links, "lane", sizes), formula.holder(links, "i", sizes)

    def _sizes(self) -> dict[str, int]:
        return {"lane": self.lanes, "i": self.elements, "row": self.rows, "col": self.cols}


def _positions(digits: Digits) -> npt.NDArray[np.int64]:
    """Return (row, col) contributed by each value of the number that ``digits`` split."""
    total = np.zeros((1, 2), np.int64)
    for digit in digits:
        steps = np.arange(digit.extent, dtype=np.int64)[:, None] * (digit.row, digit.col)
        total = (steps[:, None, :] + total[None, :, :]).reshape(-1, 2)
    return total
