"""A document: headings, lines and tables, before anything decides how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A line that names what follows."""

    text: str


@dataclass(frozen=True)
class Lines:
    """Lines of text, drawn as they are."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    header : one text per column; a newline in it starts a second header line.
    rows : cells by row.
    numeric : columns whose cells are aligned to the right.
    groups : the group of each row; rows of a group share a colour where there is colour, and a
        line is drawn between groups where there are lines. Empty where rows are not grouped.
    shades : the group of each cell, by row, -1 for none: cells of a group share a colour. Empty
        where whole rows do.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    groups: tuple[int, ...] = ()
    shades: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"every row of a table has {len(self.header)} cells")
        if self.groups and len(self.groups) != len(self.rows):
            raise ValueError("a table's groups are one per row")
        if self.shades and [len(row) for row in self.shades] != [len(row) for row in self.rows]:
            raise ValueError("a table's shades are one per cell")


Block = Heading | Lines | Table
Document = tuple[Block, ...]


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    numeric: Iterable[int] = (),
    groups: Iterable[int] = (),
    shades: Iterable[Sequence[int]] = (),
) -> Table:
    """Return a table of the texts of ``rows``; see ``Table`` for the rest."""
    cells = tuple(tuple(str(cell) for cell in row) for row in rows)
    shaded = tuple(tuple(row) for row in shades)
    return Table(tuple(header), cells, frozenset(numeric), tuple(groups), shaded)
