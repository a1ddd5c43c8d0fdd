"""Whole operands for a reader: matrix by matrix, register by register, and sums written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.layouts.lookup import Held, all_held, register_name
from attnprobe.layouts.questions.dot import Dot
from attnprobe.layouts.report import Sheet
from attnprobe.render import csv
from attnprobe.render.document import Block, Document, Heading, Lines, table
from attnprobe.render.layout import (
    HELD_FIELDS,
    held_object,
    held_record,
    lane_table,
    operand_title,
)
from attnprobe.render.picture import Grid, picture, short_slot, slot_name

MATRIX_SCHEMA = "attnprobe.layout.matrix/1"
DOT_SCHEMA = "attnprobe.layout.dot/1"


@dataclass(frozen=True)
class Whole:
    """Operands to be shown whole, by position or, with ``registers``, by lane and register."""

    sheet: Sheet
    registers: bool


# --- the whole matrix -----------------------------------------------------------------------------


def whole_document(whole: Whole) -> Document:
    """Return every position with its lane and register, or every lane's registers."""
    row, operands = whole.sheet.row, whole.sheet.operands
    blocks: list[Block] = [Heading(row.ptx)]
    if whole.registers:
        for operand in operands:
            blocks += [Heading(operand_title(operand)), lane_table(operand)]
        return tuple(blocks)
    drawn = picture(row, operands)
    for panel in drawn.panels:
        names = " and ".join(drawn.names_of(panel))
        title = operand_title(panel.operand)
        blocks.append(Heading(names + title.removeprefix(panel.operand.name)))
        for grid in panel.grids:
            blocks.append(_grid_table(panel.operand, grid))
    example = drawn.panels[0]
    cell = example.grids[0].rows[-1][-1]
    shown = _cell_text(example.operand, cell.holders)
    said = f"{shown} is lane {cell.lane}, {slot_name(example.operand, cell.holders[0][1])}"
    copies = "; where several lanes hold a position, the first is shown"
    held = copies if any(each.operand.fragment.copies > 1 for each in drawn.panels) else ""
    return (*blocks, Lines((f"A cell is lane:register, such as: {said}{held}.",)))


def _grid_table(operand: Operand, grid: Grid) -> Block:
    row_axis, col_axis = operand.axes
    title = f"{grid.title}\n" if grid.title else ""
    header = [f"{title}{row_axis} \\ {col_axis}", *(str(col) for col in range(len(grid.rows[0])))]
    cells, shades = [], []
    for line, row in enumerate(grid.rows):
        cells.append([line, *(_cell_text(operand, cell.holders) for cell in row)])
        shades.append([-1, *(cell.lane // 4 for cell in row)])
    return table(header, cells, numeric=(0,), shades=shades)


def _cell_text(operand: Operand, holders: tuple[tuple[int, int], ...]) -> str:
    lane, element = holders[0]
    return f"{lane}:{short_slot(operand, element)}"


def whole_object(whole: Whole) -> Any:
    """Return the holders of every position of every operand, as what JSON can hold."""
    row, operands = whole.sheet.row, whole.sheet.operands
    return {
        "schema": MATRIX_SCHEMA,
        "ptx": row.ptx,
        "lanes": row.lanes,
        "operands": {operand.name: _matrix_object(row, operand) for operand in operands},
    }


def _matrix_object(row: Instruction, operand: Operand) -> dict[str, Any]:
    (panel,) = picture(row, (operand,)).panels
    matrices = [
        [[[[lane, *operand.slot(i)] for lane, i in cell.holders] for cell in cells]
         for cells in grid.rows]
        for grid in panel.grids
    ]  # fmt: skip
    return {
        "format": operand.format.name,
        "axes": list(operand.axis_names),
        "sizes": list(operand.axis_sizes),
        "bits": operand.format.bits,
        "holder": ["lane", "register", "part"],
        "matrices" if operand.matrix_rows else "matrix": matrices
        if operand.matrix_rows
        else matrices[0],
    }


def whole_csv(whole: Whole) -> str:
    """Return a record for each element, by lane and register or by position."""
    every = [each for operand in whole.sheet.operands for each in all_held(operand)]
    if not whole.registers:
        order = [operand.name for operand in whole.sheet.operands]
        every.sort(key=lambda each: (order.index(each.operand), each.position, each.lane))
    return csv.dumps(HELD_FIELDS, [held_record(whole.sheet.row, each) for each in every])


# --- one element of D -----------------------------------------------------------------------------


def dot_document(dot: Dot) -> Document:
    """Return the sum that makes one element of D, a line for each product."""
    row = dot.row
    *matrix, m, n = dot.at
    which = "".join(f"[{number}]" for number in matrix)
    target = f"D{which}[{m}][{n}]"
    start = f"C{which}[{m}][{n}]" if dot.c else target
    a_name, b_name = f"A{which}[{m}][k]", f"B{which}[k][{n}]"
    lines = [f"{target} = {start} + sum over k of {a_name} * {b_name}"]
    lines.append(f"{target} is {_places(row, dot.d)}")
    if dot.c:
        lines.append(f"{start} is {_places(row, dot.c)}")
    cells = []
    for term in dot.terms:
        k = " or ".join(map(str, term.k))
        b = " or ".join(_places(row, each) for each in term.b) or "in shared memory"
        cells.append((k, _places(row, term.a) or "in shared memory", b))
    blocks: Document = (
        Heading(f"{row.ptx}: {target}"),
        Lines(tuple(lines)),
        table(("k", a_name, b_name), cells, numeric=(0,)),
    )
    if row.sparsity is not None:
        blocks += (Lines(("Which k a stored element of A stands for, the metadata say.",)),)
    return blocks


def _places(row: Instruction, held: tuple[Held, ...]) -> str:
    return " and ".join(_place(row[each.operand], each) for each in held)


def _place(operand: Operand, held: Held) -> str:
    low = held.part * operand.format.bits
    name = register_name(operand.name, held.register)
    bits = f" bits {low}-{low + operand.format.bits - 1}" if operand.format.per_register > 1 else ""
    return f"lane {held.lane} {name}{bits}"


def dot_object(dot: Dot) -> Any:
    """Return the sum as what JSON can hold."""
    row = dot.row

    def objects(held: tuple[Held, ...]) -> list[Any]:
        return [held_object(row[each.operand], each) for each in held]

    return {
        "schema": DOT_SCHEMA,
        "ptx": row.ptx,
        "at": list(dot.at),
        "d": objects(dot.d),
        "c": objects(dot.c),
        "terms": [
            {"k": list(term.k), "a": objects(term.a), "b": [objects(each) for each in term.b]}
            for term in dot.terms
        ],
    }


def dot_csv(dot: Dot) -> str:
    """Return a record for each factor: k, operand, lane, register, part."""
    records: list[tuple[object, ...]] = []
    for term in dot.terms:
        for each in term.a:
            records.append((" ".join(map(str, term.k)), "A", each.lane, each.register, each.part))
        for k, held in zip(term.k, term.b, strict=False):
            records += [(k, "B", each.lane, each.register, each.part) for each in held]
    return csv.dumps(("k", "operand", "lane", "register", "part"), records)
