"""Dumps of fragments as a table, as JSON and as CSV."""

from __future__ import annotations

from typing import Any, TextIO

from attnprobe.layouts import Operand
from attnprobe.probing.dump import DumpReport, Held, Named
from attnprobe.probing.registers import register_name
from attnprobe.render import console, csv, json
from attnprobe.render.document import Document, Heading, Lines, table

SCHEMA = "attnprobe.dump/1"
FIELDS = ("operand", "lane", "register", "part", "row", "col", "bits", "value", "names")
QUAD = 4  # lanes that share a row of an 8x8 matrix


def write(report: DumpReport, form: str, stream: TextIO) -> None:
    """Write ``report`` on ``stream`` as "text", "json" or "csv"."""
    if form == "json":
        stream.write(json.dumps(as_object(report)))
    elif form == "csv":
        stream.write(csv.dumps(FIELDS, _records(report)))
    else:
        console.write(as_document(report), stream)


def as_document(report: DumpReport) -> Document:
    """Return the fragments as tables: a line for each lane, a column for each register slot."""
    block = f", block {report.block} of {report.blocks}" if report.blocks > 1 else ""
    said = f"fill {report.fill}{block}: {report.says}"
    document: Document = (Heading(report.row.ptx), Lines((said,)))
    for held in report.held:
        document += (Heading(_title(held)), _held_table(held))
    return document


def _title(held: Held) -> str:
    operand = held.operand
    row, col = operand.axes
    size = f"{operand.fragment.rows} {row} x {operand.fragment.cols} {col}"
    title = f"operand {operand.name}: {size}, {operand.format.name}"
    if not held.names:
        return title
    element = f"matrix,{row},{col}" if operand.matrix_rows else f"{row},{col}"
    return f"{title}; each cell names the element that it holds: {element}"


def _held_table(held: Held) -> Any:
    operand = held.operand
    slots = [divmod(i, operand.format.per_register) for i in range(operand.fragment.elements)]
    header = ("lane", *(register_name(operand, register, part) for register, part in slots))
    rows = [(lane, *cells) for lane, cells in enumerate(_cells(held))]
    groups = [lane // QUAD for lane in range(operand.fragment.lanes)]
    return table(header, rows, numeric=range(len(header)), groups=groups)


def _cells(held: Held) -> list[list[str]]:
    if held.names:
        return [[_name_text(name) for name in lane] for lane in held.names]
    return [[f"{value:.9g}" for value in lane] for lane in held.values().tolist()]


def _name_text(name: Named) -> str:
    return "-" if name is None else ",".join(str(part) for part in name)


def as_object(report: DumpReport) -> dict[str, Any]:
    """Return the report for JSON; ``lanes`` has each lane's elements from low to high."""
    return {
        "schema": SCHEMA,
        "ptx": report.row.ptx,
        "fill": report.fill,
        "says": report.says,
        "block": report.block,
        "blocks": report.blocks,
        "backend": report.backend,
        "environment": report.environment,
        "operands": [_held_object(held) for held in report.held],
    }


def _held_object(held: Held) -> dict[str, Any]:
    operand: Operand = held.operand
    return {
        "operand": operand.name,
        "rows": operand.fragment.rows,
        "cols": operand.fragment.cols,
        "format": operand.format.name,
        "registers": operand.registers,
        "lanes": [[_number(value) for value in lane] for lane in held.values().tolist()],
        "bits": held.bits.tolist(),
        "names": [[None if name is None else list(name) for name in lane] for lane in held.names],
    }


def _number(value: float) -> float | int | str:
    """Return a value for JSON: whole numbers without a point, NaN and infinity as text."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    return int(value) if value == int(value) else value


def _records(report: DumpReport) -> list[tuple[object, ...]]:
    records: list[tuple[object, ...]] = []
    for held in report.held:
        operand = held.operand
        at = operand.fragment.coords().tolist()
        values, bits = held.values().tolist(), held.bits.tolist()
        for lane in range(operand.fragment.lanes):
            for element in range(operand.fragment.elements):
                register, part = divmod(element, operand.format.per_register)
                name = _name_text(held.names[lane][element]) if held.names else None
                value = _number(values[lane][element])
                where = (operand.name, lane, register, part, *at[lane][element])
                records.append((*where, bits[lane][element], value, name))
    return records
