"""A layout as one HTML page that needs nothing else: no network, no fonts, no other file.

The page is complete without its script; the script adds what hovering shows.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.render import palette
from attnprobe.render.layout import formula_lines, hardware_lines, operand_title, row_facts
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

_HERE = Path(__file__).parent
_COMMON = {"sync", "aligned", "row", "col", "shared"}
_FILE = 216  # pixels that the table of a lane's registers may take
_ROOMY = 800  # height of a B beside which the formulas fit under the lanes
_TITLED = 4096  # cells up to which each has a title of its own; beyond, the script alone says it


def page(row: Instruction, operands: tuple[Operand, ...]) -> str:
    """Return the page of some operands of an instruction."""
    drawn = picture(row, operands)
    width, height = drawn.cell
    body = "\n".join(
        [
            f'<div class="sheet" style="--w:{width}px;--h:{height}px;--f:{_font(width)}px">',
            _header(row),
            f'<main class="{"crossed" if drawn.crossed else "stacked"}">',
            _lanes(row, drawn),
            *(_figure(drawn, panel) for panel in drawn.panels),
            "</main>",
            "" if _room(drawn) else _formulas(drawn),
            f"<footer>{escape(row.source)}</footer>",
            "</div>",
            f'<script type="application/json" id="data">{_data(drawn)}</script>',
            f"<script>{_asset('page.js')}</script>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(row.ptx)}</title>\n"
        f"<style>\n{_asset('page.css')}{_colours()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _font(width: int) -> int:
    return 13 if width >= REGISTER_TEXT else 10


def _colours() -> str:
    """Return the lanes' colours as rules, and what else differs in the dark."""
    dark_ink = (
        "--paper:#131417;--card:#1b1d21;--ink:#eceef2;--soft:#979da8;--line:#2e3137;"
        "--hair:rgba(255,255,255,.07);--accent:#f4f5f7;--accent-ink:#131417;"
    )
    light_ink = (
        "--paper:#fbfbfa;--card:#fff;--ink:#1b1d22;--soft:#6b7079;--line:#e3e4e6;"
        "--hair:rgba(20,22,28,.07);--accent:#1b1d22;--accent-ink:#fff;"
    )
    names = [(quad, member) for quad in range(palette.QUADS) for member in range(palette.MEMBERS)]
    use = "".join(
        f".s{quad}{member}{{background:var(--s{quad}{member})}}" for quad, member in names
    )

    def variables(theme: str) -> str:
        return "".join(f"--s{q}{m}:{palette.colour(q, m, theme)};" for q, m in names)

    light, dark = light_ink + variables("light"), dark_ink + variables("dark")
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        f':root[data-theme="light"]{{color-scheme:light;{light}}}\n'
        f':root[data-theme="dark"]{{color-scheme:dark;{dark}}}\n{use}\n'
    )


def _header(row: Instruction) -> str:
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in row_facts(row)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*hardware_lines(row), *row.notes))
    name = "<wbr><span>.</span>".join(_word(word) for word in row.ptx.split("."))
    return (
        f'<header><div><p class="eyebrow">Fragment layout</p><h1>{name}</h1>'
        f'<dl class="facts">{facts}</dl>{f"<ul class=notes>{notes}</ul>" if notes else ""}</div>'
        '<button id="theme" type="button" aria-label="Light or dark" title="Light or dark">◐'
        "</button></header>"
    )


def _word(word: str) -> str:
    """Return a word of the mnemonic, those that every row has the softer."""
    return f"<span>{escape(word)}</span>" if word in _COMMON else escape(word)


def _lanes(row: Instruction, drawn: Picture) -> str:
    kind = "picker warpgroup" if row.lanes > 32 else "picker"
    buttons = "".join(
        f'<button type="button" class="{_shade(lane)}" aria-pressed="false" '
        f'aria-label="lane {lane}">{lane}</button>'
        for lane in range(row.lanes)
    )
    b = drawn.panel("B")
    tall = _FILE
    if drawn.crossed and b is not None:  # as high as B beside it, less the readout and the hint
        tall = max(tall, b.operand.fragment.rows * drawn.cell[1] - 88)
    words = sum(panel.operand.registers for panel in drawn.panels)
    button, word = min(max(24, tall // 8 - 3), 42), min(max(22, tall // words - 6), 34)
    return (
        '<section class="lanes" aria-label="Lanes" '
        f'style="--tall:{tall};--button:{button}px;--word:{word}px">'
        '<p class="readout" aria-live="polite"></p>'
        f'<div class="deck"><div class="{kind}" role="group" aria-label="Pick a lane">'
        f"{buttons}</div>"
        '<div class="file"><table></table></div></div>'
        '<p class="hint">A register is drawn with its high bits to the left. In a focused matrix '
        "the arrow keys walk from cell to cell; <kbd>Esc</kbd> lets go.</p>"
        f"{_formulas(drawn) if _room(drawn) else ''}</section>"
    )


def _room(drawn: Picture) -> bool:
    """Return whether the corner above A and beside B has room for the formulas."""
    b = drawn.panel("B")
    return drawn.crossed and b is not None and b.operand.fragment.rows * drawn.cell[1] >= _ROOMY


def _shade(lane: int) -> str:
    quad, member = palette.shade(lane)
    return f"s{quad}{member}"


def _figure(drawn: Picture, panel: Panel) -> str:
    operand = panel.operand
    kind = "" if operand.name in "ABD" and drawn.crossed else " rest"
    size = " × ".join(str(size) for size in operand.axis_sizes)
    axes = " × ".join(operand.axis_names)
    grids = "".join(_grid(drawn, operand, number, grid) for number, grid in enumerate(panel.grids))
    names = ", ".join(drawn.names_of(panel))
    return (
        f'<figure class="op-{operand.name}{kind}"><figcaption><b>{names}</b>'
        f"<span>{axes} = {size} of {operand.format.name}, "
        f"{_many(operand.registers, 'register')}</span></figcaption>"
        f'<div class="scroll"><div class="matrices">{grids}</div></div></figure>'
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _grid(drawn: Picture, operand: Operand, number: int, grid: Grid) -> str:
    width = drawn.cell[0]
    columns = len(grid.rows[0])
    every = 1 if width >= LANE_TEXT else 8
    head = "".join(
        f"<th scope=col>{col if col % every == 0 else ''}</th>" for col in range(columns)
    )
    lines = []
    for line, cells in enumerate(grid.rows):
        supplier = f" ← lane {grid.suppliers[line]}" if grid.suppliers else ""
        kind = ' class="supplier"' if grid.suppliers else ""
        body = "".join(_cell(drawn, operand, cell) for cell in cells)
        lines.append(f"<tr><th scope=row{kind}>{line}{supplier}</th>{body}</tr>")
    label = escape(operand_title(operand))
    title = f"<h3>{grid.title}</h3>" if grid.title else ""
    supplied = ' class="supplied"' if grid.suppliers else ""
    return (
        f'<div{supplied}>{title}<table class="grid" tabindex="0" data-operand="{operand.name}" '
        f'data-matrix="{number}" aria-label="{label}"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(drawn: Picture, operand: Operand, cell: Cell) -> str:
    width = drawn.cell[0]
    text = f"<b>{cell.lane}</b>" if width >= LANE_TEXT else ""
    if width >= REGISTER_TEXT:
        text += f"<i>{short_slot(operand, cell.holders[0][1])}</i>"
    few = operand.fragment.rows * operand.fragment.cols <= _TITLED
    title = f' title="{where(operand, cell)}"' if few else ""
    held = " ".join(f"{lane}.{element}" for lane, element in cell.holders)
    return f'<td class={_shade(cell.lane)} data-h="{held}"{title}>{text}</td>'


def _formulas(drawn: Picture) -> str:
    blocks = "".join(
        f"<div><h2>{' and '.join(drawn.names_of(panel))}</h2><pre>"
        + escape("\n".join(line.strip() for line in formula_lines(panel.operand)))
        + "</pre></div>"
        for panel in drawn.panels
    )
    return f'<section class="formulas" aria-label="Formulas">{blocks}</section>'


def _data(drawn: Picture) -> str:
    """Return what the script needs, as JSON that may stand in a script element."""
    objects = []
    for panel in drawn.panels:
        operand = panel.operand
        places = operand.coords().tolist()
        if not operand.matrix_rows:
            places = [[[0, *place] for place in held] for held in places]
        objects.append(
            {
                "name": operand.name,
                "letter": operand.name.lower(),
                "letters": [name.lower() for name in drawn.names_of(panel)],
                "axes": list(operand.axis_names),
                "matrices": operand.axis_sizes[0] if operand.matrix_rows else 1,
                "parts": operand.format.per_register,
                "bits": operand.format.bits,
                "held": places,
            }
        )
    data = {"lanes": drawn.row.lanes, "crossed": drawn.crossed, "operands": objects}
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
