"""Layout reports as documents, as JSON objects and as CSV records.

The JSON is a contract for other tools: a change that could break a reader raises the number in its
``schema``; new keys may come without one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TextIO

from attnprobe.layouts import hardware
from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.layouts.lookup import Held, all_held, part_name, register_name, register_span
from attnprobe.layouts.report import Answer, Listing, Sheet
from attnprobe.render import console, csv, json
from attnprobe.render.document import Document, Heading, Lines, Table, table

SHOW_SCHEMA = "attnprobe.layout.show/1"
LOOKUP_SCHEMA = "attnprobe.layout.lookup/1"

QUAD = 4  # lanes that hold a row of an 8x8 matrix together: the unit that the pictures colour

Report = Listing | Sheet | Answer

HELD_FIELDS = ("ptx", "operand", "lane", "register", "part", "element", "matrix", "row", "col")


def write(report: Report, form: str, stream: TextIO) -> None:
    """Write ``report`` on ``stream`` as "text", "json" or "csv"."""
    if form == "json":
        stream.write(json.dumps(as_object(report)))
    elif form == "csv":
        stream.write(as_csv(report))
    else:
        console.write(as_document(report), stream)


def as_document(report: Report) -> Document:
    """Return the report laid out for a reader."""
    match report:
        case Listing(rows):
            return (_listing_table(rows),)
        case Sheet(row, operands):
            document: Document = (*_instruction_head(row), *_addresses(row))
            for operand in operands:
                document += _operand_blocks(operand)
            return document
        case Answer():
            return _answer_blocks(report)


def as_object(report: Report) -> Any:
    """Return the report as what JSON can hold."""
    match report:
        case Listing(rows):
            return [_listed_object(row) for row in rows]
        case Sheet(row, operands):
            return _sheet_object(row, operands)
        case Answer(row, query, held, without):
            return {
                "schema": LOOKUP_SCHEMA,
                "ptx": row.ptx,
                "query": {name: _plain(value) for name, value in query.items()},
                "held": [held_object(row[each.operand], each) for each in held],
                "without": list(without),
            }


def as_csv(report: Report) -> str:
    """Return the report as CSV: an instruction a line, or an element a line."""
    match report:
        case Listing(rows):
            header = ("ptx", "family", "shape", "min_ptx", "targets", "source")
            return csv.dumps(
                header,
                [
                    (row.ptx, row.family, _shape(row), row.min_ptx, row.targets, row.source)
                    for row in rows
                ],
            )
        case Sheet(row, operands):
            every = [each for operand in operands for each in all_held(operand)]
            return csv.dumps(HELD_FIELDS, [held_record(row, each) for each in every])
        case Answer(row, held=held):
            return csv.dumps(HELD_FIELDS, [held_record(row, each) for each in held])


# --- documents ------------------------------------------------------------------------------------


def _listing_table(rows: tuple[Instruction, ...]) -> Table:
    header = ("instruction", "family", "registers", "PTX", "targets")
    cells = [(row.ptx, row.family, _register_counts(row), row.min_ptx, row.targets) for row in rows]
    return table(header, cells)


def _register_counts(row: Instruction) -> str:
    return " ".join(f"{operand.name}:{operand.registers}" for operand in row.operands)


def _shape(row: Instruction) -> str:
    return "".join(f"{axis}{size}" for axis, size in zip("mnk", row.shape, strict=False))


def _instruction_head(row: Instruction) -> Document:
    said = [f"{name} {value}" for name, value in row_facts(row)]
    lines = ["; ".join(said), *hardware_lines(row), f"source: {row.source}", *row.notes]
    return Heading(row.ptx), Lines(tuple(lines))


def hardware_lines(row: Instruction) -> list[str]:
    """Return what GPUs execute for it, targets of the same code in one line; [] where unknown."""
    targets: dict[hardware.Code, list[str]] = {}
    for code in hardware.codes(row):
        targets.setdefault(replace(code, target=""), []).append(code.target)
    return [f"{', '.join(names)}: {code.sass} ({code.how})" for code, names in targets.items()]


def row_facts(row: Instruction) -> list[tuple[str, str]]:
    """Return what is said of an instruction beside its operands: (what, value)."""
    facts = [
        ("family", row.family),
        ("PTX ISA", f"{row.min_ptx} or later"),
        ("targets", row.targets),
    ]
    facts.append(("lanes", str(row.lanes)))
    if row.kind:
        facts.append(("kind", row.kind))
    if row.sparsity is not None:
        facts.append(("sparse A", f"{row.sparsity.kept} of every {row.sparsity.group} along k"))
    if row.in_shared:
        facts.append(("in shared memory", ", ".join(row.in_shared)))
    if row.memory:
        facts.append(("elements in memory", row.memory))
    if row.measured:
        facts.append(("measured", row.measured))
    return facts


def _addresses(row: Instruction) -> Document:
    """Return which lane supplies the address of which row, for an instruction that takes any."""
    if not row.addresses:
        return ()
    height = row.operands[0].matrix_rows
    title = f"Addresses: lanes 0 to {row.addresses - 1} each supply that of one row"
    if row.addresses < row.lanes:
        title += "; those of the other lanes are ignored"
    cells = [
        (first // height, *(f"lane {lane}" for lane in range(first, first + height)))
        for first in range(0, row.addresses, height)
    ]
    header = ("matrix", *(f"row {line}" for line in range(height)))
    place = Lines(("Below, matrix, row and col are places in shared memory.",))
    return Heading(title), table(header, cells, numeric=(0,)), place


def address_rows(row: Instruction) -> list[tuple[int, int]]:
    """Return the (matrix, row) whose address each lane supplies, for the lanes that supply any."""
    height = row.operands[0].matrix_rows
    return [divmod(lane, height) for lane in range(row.addresses)]


def _operand_blocks(operand: Operand) -> Document:
    return Heading(operand_title(operand)), Lines(formula_lines(operand)), lane_table(operand)


def operand_title(operand: Operand) -> str:
    """Return one line on an operand: its size, format and registers."""
    size = " x ".join(str(size) for size in operand.axis_sizes)
    axes = " x ".join(operand.axis_names)
    fragment = operand.fragment
    copies = f", each held by {fragment.copies} lanes" if fragment.copies > 1 else ""
    return (
        f"{operand.name}: {axes} = {size} of {operand.format.name}{copies}; "
        f"{fragment.elements} elements a lane in {register_span(operand)}"
    )


def formula_lines(operand: Operand) -> tuple[str, ...]:
    """Return the closed formulas, both ways, a line each, the equals signs under each other."""
    formulas = operand.formulas() | operand.inverse()
    width = max(len(name) for name in formulas)
    lines = [f"  {name.ljust(width)} = {value}" for name, value in formulas.items()]
    parts, bits = operand.format.per_register, operand.format.bits
    name = operand.name.lower()
    if parts > 1:
        lines.append(f"  element i is in {name}[i // {parts}], from bit {bits} * (i % {parts}) up")
    else:
        lines.append(f"  element i is {name}[i]")
    return tuple(lines)


def lane_table(operand: Operand) -> Table:
    """Return the lane x element table: a line for each lane, a column for each element it holds."""
    elements = range(operand.fragment.elements)
    names = [_slot_name(operand, *operand.slot(element)) for element in elements]
    cells = [
        (lane, *(_cell(position) for position in positions))
        for lane, positions in enumerate(operand.coords().tolist())
    ]
    header = (
        "lane\ni",
        *(f"{name}\n{element}" for name, element in zip(names, elements, strict=True)),
    )
    return table(header, cells, numeric=(0,), groups=[lane // QUAD for lane in range(len(cells))])


def _slot_name(operand: Operand, register: int, part: int) -> str:
    name, half = register_name(operand.name, register), part_name(part, operand.format.per_register)
    return f"{name}.{half}" if half else name


def _cell(position: list[int] | tuple[int, ...]) -> str:
    return f"({','.join(str(value) for value in position)})"


def _answer_blocks(answer: Answer) -> Document:
    asked = ", ".join(f"{name} {_asked(value)}" for name, value in answer.query.items())
    blocks: Document = (Heading(f"{answer.row.ptx}: {asked}"), _held_table(answer))
    if answer.without:
        blocks += (Lines(answer.without),)
    return blocks


def _asked(value: int | tuple[int, ...]) -> str:
    return str(value) if isinstance(value, int) else _cell(value)


def _held_table(answer: Answer) -> Table:
    """Return the found elements as a table."""
    cells = []
    for each in answer.held:
        operand = answer.row[each.operand]
        low = each.part * operand.format.bits
        axes = ",".join(operand.axis_names)
        cells.append(
            (
                each.operand,
                f"({axes})",
                _cell(each.position),
                each.lane,
                register_name(each.operand, each.register),
                f"{low}-{low + operand.format.bits - 1}",
                each.element,
            )
        )
    header = ("operand", "axes", "position", "lane", "register", "bits", "i")
    return table(header, cells, numeric=(3, 5, 6))


# --- objects and records --------------------------------------------------------------------------


def _listed_object(row: Instruction) -> dict[str, Any]:
    return {
        "ptx": row.ptx,
        "family": row.family,
        "shape": dict(zip("mnk", row.shape, strict=False)),
        "min_ptx": row.min_ptx,
        "targets": row.targets,
        "operands": {operand.name: _operand_facts(operand) for operand in row.operands},
        "source": row.source,
    }


def _operand_facts(operand: Operand) -> dict[str, Any]:
    *matrices, rows, cols = operand.axis_sizes
    facts: dict[str, Any] = {"format": operand.format.name}
    if matrices:
        facts["matrices"] = matrices[0]
    return facts | {"rows": rows, "cols": cols, "registers": operand.registers}


def _sheet_object(row: Instruction, operands: tuple[Operand, ...]) -> dict[str, Any]:
    sheet: dict[str, Any] = {"schema": SHOW_SCHEMA} | _listed_object(row)
    sheet["lanes"] = row.lanes
    sheet["notes"] = list(row.notes)
    sheet["hardware"] = [
        {"target": code.target, "sass": code.sass, "how": code.how} for code in hardware.codes(row)
    ]
    if row.addresses:
        sheet["addresses"] = [list(supplied) for supplied in address_rows(row)]
    sheet["operands"] = {operand.name: _operand_object(operand) for operand in operands}
    return sheet


def _operand_object(operand: Operand) -> dict[str, Any]:
    return {
        "name": operand.name,
        **_operand_facts(operand),
        "bits": operand.format.bits,
        "elements_per_lane": operand.fragment.elements,
        "elements_per_register": operand.format.per_register,
        "copies": operand.fragment.copies,
        "axes": list(operand.axis_names),
        "formulas": operand.formulas(),
        "inverse": operand.inverse(),
        "lanes": operand.coords().tolist(),
    }


def held_object(operand: Operand, held: Held) -> dict[str, Any]:
    low = held.part * operand.format.bits
    return {
        "operand": held.operand,
        "lane": held.lane,
        "register": held.register,
        "part": held.part,
        "bits": [low, low + operand.format.bits - 1],
        "element": held.element,
        "axes": list(operand.axis_names),
        "position": list(held.position),
    }


def held_record(row: Instruction, held: Held) -> tuple[object, ...]:
    *matrix, line, col = held.position
    return (
        row.ptx,
        held.operand,
        held.lane,
        held.register,
        held.part,
        held.element,
        matrix[0] if matrix else None,
        line,
        col,
    )


def _plain(value: int | tuple[int, ...]) -> int | list[int]:
    return value if isinstance(value, int) else list(value)
