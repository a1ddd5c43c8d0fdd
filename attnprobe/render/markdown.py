"""Documents as Markdown: headings, code blocks for lines, and tables."""

from __future__ import annotations

from attnprobe.render.document import Block, Document, Heading, Lines, Table


def render(document: Document) -> str:
    """Return the document as Markdown that ends in a newline."""
    first = True
    blocks = []
    for block in document:
        blocks.append(_block(block, "#" if first else "##"))
        first = first and not isinstance(block, Heading)
    return "\n\n".join(blocks) + "\n"


def _block(block: Block, mark: str) -> str:
    match block:
        case Heading(text):
            return f"{mark} {_plain(text)}"
        case Lines(lines):
            return "\n".join(["```text", *lines, "```"])
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    header = [_plain(text.replace("\n", " ")) for text in table.header]
    rule = ["---:" if column in table.numeric else "---" for column in range(len(header))]
    rows = [[_plain(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def _plain(text: str) -> str:
    """Return text in which nothing means anything to Markdown."""
    for mark in "\\|*_`<":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("[", "\\[")
