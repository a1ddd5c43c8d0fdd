"""Documents as plain text: aligned columns, never wrapped and never cut, for pipes and files."""

from __future__ import annotations

from attnprobe.render.document import Block, Document, Heading, Lines, Table


def render(document: Document) -> str:
    """Return the document as text that ends in a newline. A blank line parts the blocks."""
    return "\n".join("".join(f"{line}\n" for line in block_lines(block)) for block in document)


def block_lines(block: Block) -> list[str]:
    """Return one block's lines."""
    match block:
        case Heading(text):
            return [text]
        case Lines(lines):
            return list(lines)
        case Table():
            return table_lines(block)


def table_lines(table: Table) -> list[str]:
    """Return the table's lines: header, then rows, two blanks between columns."""
    header = [text.split("\n") for text in table.header]
    height = max(len(parts) for parts in header)
    top = [tuple(parts[i] if i < len(parts) else "" for parts in header) for i in range(height)]
    every = [*top, *table.rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(table.header))]
    return [_line(row, widths, table.numeric) for row in every]


def _line(row: tuple[str, ...], widths: list[int], numeric: frozenset[int]) -> str:
    cells = [
        cell.rjust(width) if column in numeric else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
