"""One register operand of an instruction: a fragment, a format, and the names of its axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.formats import Format
from attnprobe.layouts import formula
from attnprobe.layouts.choice import Choice
from attnprobe.layouts.fragment import Fragment


@dataclass(frozen=True)
class Operand:
    """One register operand: which fragment of it the lanes hold, in which format.

    Attributes
    ----------
    name : "A", "B", "C" or "D" for a product, "E" for sparsity metadata, "SFA" and "SFB" for scale
        factors; "D" for what a load gives, "R" for what a store takes.
    fragment : lane x element -> (row, col).
    format : number format of one element.
    axes : what row and col are called in the PTX ISA, such as ("m", "k").
    matrix_rows : for ldmatrix and its kin, rows of one matrix; rows of the fragment count through
        all matrices (row = matrix * matrix_rows + row within the matrix). So too for mma.m8n8k4
        with .f16, in which each quad pair of lanes multiplies matrices of its own. 0 elsewhere.
    choices : which of the fragment's copies are read, by immediates. () where all are alike.

    Raises
    ------
    LayoutError
        If the elements do not fill whole registers, the rows whole matrices, or the choices
        choose between other digits than those of the copies.
    """

    name: str
    fragment: Fragment
    format: Format
    axes: tuple[str, str]
    matrix_rows: int = 0
    choices: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        if self.fragment.elements % self.format.per_register:
            raise LayoutError(
                f"operand {self.name}: {self.fragment.elements} elements of {self.format.name} "
                "do not fill whole registers"
            )
        if self.matrix_rows and self.fragment.rows % self.matrix_rows:
            raise LayoutError(
                f"operand {self.name}: {self.fragment.rows} rows are no whole number of "
                f"matrices of {self.matrix_rows} rows"
            )
        for digit in (*self.fragment.lane, *self.fragment.elem):
            if digit.row < self.matrix_rows < digit.row * digit.extent:
                raise LayoutError(f"operand {self.name}: {digit} runs across matrices; split it")
        if self.choices and prod(len(each.values) for each in self.choices) != self.fragment.copies:
            raise LayoutError(
                f"operand {self.name}: the choices do not name its {self.fragment.copies} copies"
            )

    @property
    def matrices(self) -> int:
        """How many matrices the rows of the fragment count through; 1 elsewhere."""
        return self.fragment.rows // self.matrix_rows if self.matrix_rows else 1

    def chosen(self, **immediates: int) -> npt.NDArray[np.bool_]:
        """Return which (lane, element) are read with these immediates: bool, (lanes, elements).

        Names are those of ``choices`` with "_" for "-". An immediate that is left out has its first
        legal value; one that chooses nothing here is passed over.

        Raises
        ------
        UsageError
            For a value that is not legal.
        """
        numbers = np.indices((self.fragment.lanes, self.fragment.elements))
        mask = np.ones(numbers.shape[1:], bool)
        for choice in self.choices:
            value = immediates.get(choice.immediate.replace("-", "_"), choice.values[0])
            mask &= choice.picks(numbers[("lane", "i").index(choice.number)], value)
        return mask

    @property
    def registers(self) -> int:
        """Registers per lane: of 32 bits, or of one element where an element is wider (f64)."""
        return self.fragment.elements // self.format.per_register

    def element(self, register: int, part: int = 0) -> int:
        """Return the element number in the ``part``-th slot (low bits first) of ``register``."""
        return register * self.format.per_register + part

    def slot(self, element: int) -> tuple[int, int]:
        """Return (register, part) of an element: the inverse of ``element``."""
        return divmod(element, self.format.per_register)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of a position's coordinates: the axes, after "matrix" where it has any."""
        return ("matrix", *self.axes) if self.matrix_rows else self.axes

    @property
    def axis_sizes(self) -> tuple[int, ...]:
        """Extents of a position's coordinates, in the order of ``axis_names``."""
        rows, cols = self.fragment.rows, self.fragment.cols
        if not self.matrix_rows:
            return rows, cols
        return rows // self.matrix_rows, self.matrix_rows, cols

    def coords(self) -> npt.NDArray[np.int64]:
        """Return every element's position: int64, shape (lanes, elements, len(axis_names))."""
        coords = self.fragment.coords()
        if not self.matrix_rows:
            return coords
        matrix, row = np.divmod(coords[..., 0], self.matrix_rows)
        return np.stack([matrix, row, coords[..., 1]], axis=-1)

    def fragment_position(self, position: tuple[int, ...]) -> tuple[int, int]:
        """Return (row, col) of the fragment for a position in ``axis_names``."""
        if self.matrix_rows:
            matrix, row, col = position
            return matrix * self.matrix_rows + row, col
        row, col = position
        return row, col

    def formulas(self) -> dict[str, str]:
        """Return each axis as a Python expression in ``lane`` and ``i`` (the element number)."""
        links, sizes = self._links(), self._sizes()
        return {axis: formula.position(links, axis, sizes) for axis in self.axis_names}

    def inverse(self) -> dict[str, str]:
        """Return ``lane`` and ``i`` as Python expressions in the axes."""
        links, sizes = self._links(), self._sizes()
        return {number: formula.holder(links, number, sizes) for number in ("lane", "i")}

    def _links(self) -> list[formula.Link]:
        links = self.fragment.links(*self.axes)
        if self.matrix_rows:
            links = [self._through_matrices(link) for link in links]
        return formula.joined(links)

    def _through_matrices(self, link: formula.Link) -> formula.Link:
        if link.axis != self.axes[0] or link.step < self.matrix_rows:
            return link
        return replace(link, axis="matrix", step=link.step // self.matrix_rows)

    def _sizes(self) -> dict[str, int]:
        numbers = {"lane": self.fragment.lanes, "i": self.fragment.elements}
        return numbers | dict(zip(self.axis_names, self.axis_sizes, strict=True))
