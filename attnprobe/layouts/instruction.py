"""One PTX matrix instruction as a row: its name, where it runs, and the fragment of each operand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from attnprobe.errors import LayoutError
from attnprobe.formats import Format
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
    """

    name: str
    fragment: Fragment
    format: Format
    axes: tuple[str, str]
    matrix_rows: int = 0

    def __post_init__(self) -> None:
        if self.fragment.elements % self.format.per_register:
            raise LayoutError(f"operand {self.name}: {self.fragment.elements} elements of {self.format.name} "
                              "do not fill whole registers")

    @property
    def registers(self) -> int:
        """32-bit registers per lane."""
        return self.fragment.elements * self.format.bits // 32

    def element(self, register: int, part: int = 0) -> int:
        """Return the element number in the ``part``-th slot (low bits first) of ``register``."""
        return register * self.format.per_register + part


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
        if self.shape:
            self._check_shape()

    def _check_shape(self) -> None:
        m, n, k = self.shape
        wanted = {"A": (m, k), "B": (k, n), "C": (m, n), "D": (m, n)}
        for operand in self.operands:
            size = (operand.fragment.rows, operand.fragment.cols)
            if operand.name in wanted and size != wanted[operand.name]:
                raise LayoutError(f"{self.ptx}: operand {operand.name} is {size}, not {wanted[operand.name]}")

    @property
    def targets(self) -> str:
        """The targets that take it, as the PTX ISA writes them: ``sm_80+``."""
        return f"sm_{self.min_cc}+"

    @cached_property
    def by_name(self) -> Mapping[str, Operand]:
        """Operands by name."""
        return {operand.name: operand for operand in self.operands}

    def __getitem__(self, name: str) -> Operand:
        return self.by_name[name]
