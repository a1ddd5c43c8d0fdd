"""One PTX matrix instruction as a row: its name, where it runs, the fragment of each operand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.formats import Format
from attnprobe.layouts import formula
from attnprobe.layouts.fragment import Fragment


@dataclass(frozen=True)
class Operand:
    """One register operand: which fragment of it the lanes hold, in which format.

    Attributes
    ----------
    name : "A", "B", "C" or "D" for a product; "D" for what a load gives.
    fragment : lane x element -> (row, col).
    format : number format of one element.
    axes : what row and col are called in the PTX ISA, such as ("m", "k").
    matrix_rows : for ldmatrix and its kin, rows of one matrix; rows of the fragment count through
        all matrices (row = matrix * matrix_rows + row within the matrix). 0 elsewhere.

    Raises
    ------
    LayoutError
        If the elements do not fill whole registers, or the rows whole matrices.
    """

    name: str
    fragment: Fragment
    format: Format
    axes: tuple[str, str]
    matrix_rows: int = 0

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


@dataclass(frozen=True)
class Instruction:
    """A matrix instruction.

    Attributes
    ----------
    ptx : the whole mnemonic as it is written in PTX.
    family : "mma", "ldmatrix", ...: which probes and which emulator function apply.
    shape : (m, n, k) of a product, () of a load.
    operands : register operands in the order in which PTX writes them.
    min_ptx : least PTX ISA version, "7.0".
    min_cc : least compute capability, 80 for sm_80.
    source : document and section that the row was taken from.
    addresses : for a load: the row (counted through all matrices) whose address each lane supplies.
        Lane l of the ``addresses`` first lanes supplies row l. 0 where no lane supplies any.
    transposed : a load with ``.trans``.
    """

    ptx: str
    family: str
    shape: tuple[int, ...]
    operands: tuple[Operand, ...]
    min_ptx: str
    min_cc: int
    source: str
    addresses: int = 0
    transposed: bool = False
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = [operand.name for operand in self.operands]
        if len(set(names)) != len(names):
            raise LayoutError(f"{self.ptx}: an operand is named twice: {names}")
        if len({operand.fragment.lanes for operand in self.operands}) != 1:
            raise LayoutError(
                f"{self.ptx}: the operands are spread over different numbers of lanes"
            )
        if self.shape:
            self._check_shape()

    def _check_shape(self) -> None:
        m, n, k = self.shape
        wanted = {"A": (m, k), "B": (k, n), "C": (m, n), "D": (m, n)}
        for operand in self.operands:
            size = (operand.fragment.rows, operand.fragment.cols)
            if operand.name in wanted and size != wanted[operand.name]:
                raise LayoutError(
                    f"{self.ptx}: operand {operand.name} is {size}, not {wanted[operand.name]}"
                )

    @property
    def targets(self) -> str:
        """The targets that take it, as the PTX ISA writes them: ``sm_80+``."""
        return f"sm_{self.min_cc}+"

    @cached_property
    def by_name(self) -> Mapping[str, Operand]:
        """Operands by name."""
        return {operand.name: operand for operand in self.operands}

    @property
    def lanes(self) -> int:
        """Number of lanes that take part: 32 for a warp, 128 for a warpgroup."""
        return self.operands[0].fragment.lanes

    def __getitem__(self, name: str) -> Operand:
        return self.by_name[name]
