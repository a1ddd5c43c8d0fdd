"""A layout as an SVG picture: every position with its lane and register, in light and in dark."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.render import palette
from attnprobe.render.layout import formula_lines
from attnprobe.render.picture import (
    LANE_TEXT,
    REGISTER_TEXT,
    Cell,
    Grid,
    Panel,
    Picture,
    picture,
    short_slot,
    where,
)

_MARGIN, _GAP = 28, 34  # around the picture, between panels
_TITLE = 46  # height of the picture's heading
_CAPTION, _AXIS = 28, 18  # height of a panel's caption, of its column numbers
_ROW_NUMBERS, _SUPPLIERS = 30, 74  # width of the row numbers, with and without their lanes
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"


@dataclass(frozen=True)
class _Box:
    """Something drawn, and how large it is."""

    text: str
    width: float
    height: float


def draw(row: Instruction, operands: tuple[Operand, ...]) -> str:
    """Return the picture of some operands of an instruction."""
    drawn = picture(row, operands)
    boxes = {panel.operand.name: _panel(drawn, panel) for panel in drawn.panels}
    body = _crossed(boxes, _formulas(drawn)) if drawn.crossed else _stacked([*boxes.values()])
    width = max(body.width, _text_width(row.ptx, 17)) + 2 * _MARGIN
    height = body.height + _TITLE + 2 * _MARGIN
    facts = f"{row.family}; PTX ISA {row.min_ptx}; {row.targets}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(row.ptx)}">\n'
        f"<title>{escape(row.ptx)}</title>\n<style>{_style()}</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n'
        f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 14}">{escape(row.ptx)}</text>\n'
        f'<text class="soft" x="{_MARGIN}" y="{_MARGIN + 34}">{escape(facts)}</text>\n'
        f"{_moved(body, _MARGIN, _MARGIN + _TITLE)}</svg>\n"
    )


def _style() -> str:
    names = [(quad, member) for quad in range(palette.QUADS) for member in range(palette.MEMBERS)]

    def fills(theme: str) -> str:
        rules = (f".s{q}{m}{{fill:{palette.colour(q, m, theme)}}}" for q, m in names)
        return "".join(rules)

    return (
        f"text{{font-family:{_MONO};fill:#1b1d22;text-anchor:middle}}"
        f".title{{font-size:17px;font-weight:600;text-anchor:start}}"
        f".soft,.caption{{font-family:{_SANS};font-size:12px;fill:#6b7079;text-anchor:start}}"
        ".name{font-size:18px;font-weight:600;text-anchor:start}"
        ".axis{font-size:10px;fill:#6b7079}.end{text-anchor:end}.strong{font-weight:600}"
        ".formula{font-size:11.5px;text-anchor:start;white-space:pre}"
        ".lane{font-weight:600}.slot{font-size:8.5px;opacity:.72}"
        ".paper{fill:#fbfbfa}.cell rect{stroke:#1b1d22;stroke-opacity:.09}"
        f"{fills('light')}@media (prefers-color-scheme:dark){{"
        "text{fill:#eceef2}.soft,.caption,.axis{fill:#979da8}.paper{fill:#131417}"
        f".cell rect{{stroke:#fff}}{fills('dark')}}}"
    )


def _text_width(text: str, size: float) -> float:
    return len(text) * size * 0.61  # monospaced fonts are about 0.6 em wide


def _moved(box: _Box, x: float, y: float) -> str:
    return f'<g transform="translate({x:g} {y:g})">\n{box.text}</g>\n'


def _formulas(drawn: Picture) -> _Box:
    """Return the closed formulas of A, B and D, which fill the corner that the product leaves."""
    text, y, width = "", 16.0, 0.0
    for name in "ABD":
        panel = drawn.panel(name)
        assert panel is not None, "a crossed picture has A, B and D"
        title = " and ".join(drawn.names_of(panel))
        text += f'<text class="caption strong" x="0" y="{y:g}">{title}</text>\n'
        for line in formula_lines(panel.operand):
            y += 17
            text += f'<text class="formula" x="0" y="{y:g}">{escape(line.strip())}</text>\n'
            width = max(width, _text_width(line, 11.5))
        y += 28
    return _Box(text, width, y - 28)


def _crossed(boxes: dict[str, _Box], corner: _Box) -> _Box:
    """Return B above D, A to its left, and the corner's box; what else there is, below."""
    a, b, d = (boxes[name] for name in "ABD")
    left = max(a.width, corner.width + _ROW_NUMBERS) + _GAP
    top = max(b.height, corner.height) + _GAP
    text = _moved(b, left, top - _GAP - b.height) + _moved(a, left - _GAP - a.width, top)
    text += _moved(d, left, top) + _moved(corner, 0, 0)
    width, height = left + max(b.width, d.width), top + max(a.height, d.height)
    rest = [box for name, box in boxes.items() if name not in "ABD"]
    if rest:
        below = _stacked(rest)
        text += _moved(below, 0, height + _GAP)
        width, height = max(width, below.width), height + _GAP + below.height
    return _Box(text, width, height)


def _stacked(boxes: list[_Box]) -> _Box:
    text, y = "", 0.0
    for box in boxes:
        text += _moved(box, 0, y)
        y += box.height + _GAP
    return _Box(text, max(box.width for box in boxes), y - _GAP)


def _panel(drawn: Picture, panel: Panel) -> _Box:
    operand = panel.operand
    names = ", ".join(drawn.names_of(panel))
    size = " × ".join(str(size) for size in operand.axis_sizes)
    caption = f"{' × '.join(operand.axis_names)} = {size} of {operand.format.name}"
    left = _ROW_NUMBERS if not panel.grids[0].suppliers else _SUPPLIERS
    start = left + _text_width(names, 18) + 8
    text = f'<text class="name" x="{left}" y="16">{names}</text>\n'
    text += f'<text class="caption" x="{start:g}" y="16">{escape(caption)}</text>\n'
    x, y, height = 0.0, float(_CAPTION), 0.0
    width = start + len(caption) * 6.5
    for number, grid in enumerate(panel.grids):
        box = _grid(drawn, operand, grid, left)
        if number and number % 4 == 0:
            x, y = 0.0, y + height + _GAP / 2
        text += _moved(box, x, y)
        x, height = x + box.width + _GAP / 2, box.height
        width = max(width, x - _GAP / 2)
    return _Box(text, width, y + height)


def _grid(drawn: Picture, operand: Operand, grid: Grid, left: int) -> _Box:
    wide, high = drawn.cell
    top = _AXIS + (16 if grid.title else 0)
    text = f'<text class="caption" x="{left}" y="10">{grid.title}</text>\n' if grid.title else ""
    every = 1 if wide >= LANE_TEXT else 8
    for col in range(0, len(grid.rows[0]), every):
        x = left + (col + 0.5) * wide
        text += f'<text class="axis" x="{x:g}" y="{top - 6}">{col}</text>\n'
    for line, cells in enumerate(grid.rows):
        y = top + (line + 0.5) * high + 3.5
        supplier = f" ← lane {grid.suppliers[line]}" if grid.suppliers else ""
        if high >= 10 or line % 8 == 0:
            text += f'<text class="axis end" x="{left - 7}" y="{y:g}">{line}{supplier}</text>\n'
        text += "".join(_cell(drawn, operand, cell, left, top) for cell in cells)
    return _Box(text, left + len(grid.rows[0]) * wide, top + len(grid.rows) * high)


def _cell(drawn: Picture, operand: Operand, cell: Cell, left: int, top: int) -> str:
    wide, high = drawn.cell
    x, y = left + cell.col * wide, top + cell.row * high
    quad, member = palette.shade(cell.lane)
    text = (
        f'<g class="cell"><title>{where(operand, cell)}</title>'
        f'<rect class="s{quad}{member}" x="{x}" y="{y}" width="{wide}" height="{high}"/>'
    )
    middle = x + wide / 2
    if wide >= REGISTER_TEXT:
        slot = short_slot(operand, cell.holders[0][1])
        text += f'<text class="lane" font-size="12" x="{middle:g}" y="{y + high / 2 - 1:g}">'
        text += f'{cell.lane}</text><text class="slot" x="{middle:g}" y="{y + high - 5:g}">'
        text += f"{slot}</text>"
    elif wide >= LANE_TEXT:
        text += f'<text class="lane" font-size="9.5" x="{middle:g}" y="{y + high / 2 + 3.5:g}">'
        text += f"{cell.lane}</text>"
    return text + "</g>\n"
