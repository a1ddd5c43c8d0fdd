"""Documents on a terminal, through rich; plain text wherever the stream is not a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from attnprobe.render import text
from attnprobe.render.document import Block, Document, Heading, Lines, Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# One colour per group of rows, over and over. Groups are parted by lines as well: colour alone says
# nothing to who cannot see it. All eight are readable on black and on white.
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red", "bright_cyan", "bright_magenta")

_UNBOUNDED = 100_000  # columns; no table is as wide


def write(document: Document, stream: TextIO) -> None:
    """Draw the document on ``stream``. NO_COLOR in the environment takes the colours away."""
    if not stream.isatty():
        stream.write(text.render(document))
        return
    from rich.console import Console

    draw(document, Console(file=stream, highlight=False))


def draw(document: Document, console: Console) -> None:
    """Draw the document on a rich console. A table wider than the console runs over, uncut."""
    for number, block in enumerate(document):
        if number:
            console.print()
        _draw_block(block, console)


def _draw_block(block: Block, console: Console) -> None:
    from rich.text import Text

    match block:
        case Heading(title):
            console.print(Text(title, style="bold"), soft_wrap=True)
        case Lines(lines):
            console.print(Text("\n".join(lines)), soft_wrap=True)
        case Table():
            drawn = _table(block)
            # rich shrinks a table to the console's width and drops what does not fit then, so
            # the console is as wide as the table for as long as it draws it.
            before = console.size
            console.size = before._replace(width=max(before.width, _natural_width(drawn, console)))
            console.print(drawn)
            console.size = before


def _natural_width(renderable: RenderableType, console: Console) -> int:
    from rich.measure import Measurement

    unbounded = console.options.update(max_width=_UNBOUNDED)
    return Measurement.get(console, unbounded, renderable).maximum


def _table(block: Table) -> RenderableType:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column, title in enumerate(block.header):
        justify = "right" if column in block.numeric else "left"
        table.add_column(Text(title), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    groups = block.groups or (-1,) * len(block.rows)
    following = (*groups[1:], groups[-1]) if groups else ()
    shades = block.shades or ((-1,) * len(block.header),) * len(block.rows)
    for row, group, after, shaded in zip(block.rows, groups, following, shades, strict=True):
        cells = [Text(cell, style=_style(shade)) for cell, shade in zip(row, shaded, strict=True)]
        table.add_row(*cells, style=_style(group) or None, end_section=group != after)
    return table


def _style(group: int) -> str:
    return "" if group < 0 else _COLOURS[group % len(_COLOURS)]
