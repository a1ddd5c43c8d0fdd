"""What a picture of an instruction shows, before it is SVG or HTML: grids of cells.

A product is drawn as it is written on paper: B above D, A to its left, so that the row of A and the
column of B that make an element of D meet in it. Whatever does not fit that, one below the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.layouts.lookup import part_name, register_name

# Widest operand, in cells -> width and height of a cell in pixels.
_SIZES = ((8, (46, 34)), (16, (42, 32)), (32, (31, 28)), (64, (21, 21)), (128, (13, 13)))
_SMALLEST = (7, 9)
LANE_TEXT, REGISTER_TEXT = 18, 30  # least width of a cell that names its lane, its register too

_BESIDE = 64  # an A wider than this is drawn below


@dataclass(frozen=True)
class Cell:
    """One position: where it is in its grid, and who holds it.

    Attributes
    ----------
    row, col : within the grid.
    holders : (lane, element) of each that holds it.
    register : the first holder's, as kernels write it, with its part: ``a[1].hi``.
    """

    row: int
    col: int
    holders: tuple[tuple[int, int], ...]
    register: str

    @property
    def lane(self) -> int:
        """The first holder's lane."""
        return self.holders[0][0]


@dataclass(frozen=True)
class Grid:
    """One matrix of an operand.

    Attributes
    ----------
    title : "" for an operand that is one matrix.
    rows : cells by row.
    suppliers : for each row, the lane that passes its address; () where none does.
    """

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    suppliers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One operand: its grids."""

    operand: Operand
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes
    ----------
    row : the instruction.
    panels : its operands.
    alike : operands left out because they are laid out as another: (name, as which).
    crossed : A, B and D stand so that rows and columns meet.
    cell : width and height of a cell in pixels.
    """

    row: Instruction
    panels: tuple[Panel, ...]
    alike: tuple[tuple[str, str], ...]
    crossed: bool
    cell: tuple[int, int]

    def names_of(self, panel: Panel) -> list[str]:
        """Return the names of the operands that a panel shows: its own, then those alike."""
        name = panel.operand.name
        return [name, *(other for other, twin in self.alike if twin == name)]

    def panel(self, name: str) -> Panel | None:
        """Return the panel of an operand, or None."""
        return next((each for each in self.panels if each.operand.name == name), None)


def picture(row: Instruction, operands: tuple[Operand, ...]) -> Picture:
    """Return what a picture of some operands of ``row`` shows."""
    shown: list[Operand] = []
    alike = []
    for operand in operands:
        twin = next((each for each in shown if _alike(each, operand)), None)
        if twin is None:
            shown.append(operand)
        else:
            alike.append((operand.name, twin.name))
    widest = max(operand.fragment.cols * _side_by_side(operand) for operand in shown)
    cell = next((size for limit, size in _SIZES if widest <= limit), _SMALLEST)
    names = {operand.name for operand in shown}
    beside = widest <= _BESIDE and not any(operand.matrix_rows for operand in shown)
    crossed = beside and {"A", "B", "D"} <= names
    panels = tuple(Panel(operand, _grids(row, operand)) for operand in shown)
    return Picture(row, panels, tuple(alike), crossed, cell)


def _side_by_side(operand: Operand) -> int:
    """Return how many matrices of an operand stand in one line: up to four."""
    return min(4, operand.axis_sizes[0]) if operand.matrix_rows else 1


def _alike(first: Operand, second: Operand) -> bool:
    """Return whether a second picture would show the same: C beside D."""
    return (
        {first.name, second.name} == {"C", "D"}
        and first.fragment == second.fragment
        and first.format == second.format
    )


def _grids(row: Instruction, operand: Operand) -> tuple[Grid, ...]:
    holders: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for lane, positions in enumerate(operand.fragment.coords().tolist()):
        for element, position in enumerate(positions):
            holders.setdefault(tuple(position), []).append((lane, element))
    fragment, height = operand.fragment, operand.matrix_rows or operand.fragment.rows
    grids = []
    for number, first in enumerate(range(0, fragment.rows, height)):
        rows = tuple(
            tuple(
                _cell(operand, line, col, holders[first + line, col])
                for col in range(fragment.cols)
            )
            for line in range(height)
        )
        supplied = range(first, min(first + height, row.addresses)) if operand.matrix_rows else ()
        title = f"matrix {number}" if operand.matrix_rows else ""
        grids.append(Grid(title, rows, tuple(supplied)))
    return tuple(grids)


def _cell(operand: Operand, row: int, col: int, holders: list[tuple[int, int]]) -> Cell:
    return Cell(row, col, tuple(holders), slot_name(operand, holders[0][1]))


def slot_name(operand: Operand, element: int) -> str:
    """Return an element's place in a lane as kernels write it: ``a[1].hi``."""
    register, part = operand.slot(element)
    half = part_name(part, operand.format.per_register)
    name = register_name(operand.name, register)
    return f"{name}.{half}" if half else name


def short_slot(operand: Operand, element: int) -> str:
    """Return the same without the operand's letter, for a cell: ``1.hi``, ``3``."""
    register, part = operand.slot(element)
    half = part_name(part, operand.format.per_register)
    return f"{register}.{half}" if half else str(register)


def where(operand: Operand, cell: Cell) -> str:
    """Return in words who holds a cell."""
    low = operand.slot(cell.holders[0][1])[1] * operand.format.bits
    lanes = ", ".join(str(lane) for lane, _ in cell.holders)
    word = "lane" if len(cell.holders) == 1 else "lanes"
    bits = f"bits {low} to {low + operand.format.bits - 1}"
    position = f"{operand.name}[{cell.row}][{cell.col}]"
    return f"{position}: {word} {lanes}, {cell.register}, {bits}"
