"""The written parts of docs/: one module per subject, each registering its functions here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One written part: the page (relative to the repository), its marker's name, its text."""

    page: str
    name: str
    write: Callable[[], str]


_sections: dict[tuple[str, str], Section] = {}


def section(page: str, name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register the decorated function as what writes the part ``name`` of ``page``."""

    def register(write: Callable[[], str]) -> Callable[[], str]:
        _sections[page, name] = Section(page, name, write)
        return write

    return register


def registered() -> list[Section]:
    """Return the sections registered so far, by page and name."""
    return [_sections[key] for key in sorted(_sections)]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table. Pipes in cells are escaped."""
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
