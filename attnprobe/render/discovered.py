"""What discovery found, for a reader and as JSON: digits, formulas both ways, what stays open."""

from __future__ import annotations

from typing import Any

from attnprobe.layouts.fragment import Digit
from attnprobe.layouts.operand import Operand
from attnprobe.probing.discovery import Discovery
from attnprobe.render.document import Document, Heading, Lines, Table, table

SCHEMA = "attnprobe.discovery/1"


def as_document(found: Discovery) -> Document:
    """Return the finding laid out for a reader."""
    taken = f"{found.launches} launches of {found.blocks} blocks in all"
    blocks: list[Any] = [
        Heading(found.ptx),
        Lines((f"found with {taken}, on {_where(found)}; no layout row was looked at",)),
    ]
    for operand in found.finding.operands:
        blocks += _operand(operand)
    blocks.append(Lines((*found.finding.said, _verdict(found))))
    return tuple(blocks)


def _where(found: Discovery) -> str:
    environment = found.environment
    parts = [environment.get(key, "") for key in ("device", "date")]
    return f"{found.backend} ({', '.join(part for part in parts if part)})"


def _verdict(found: Discovery) -> str:
    if found.verdict == "no row":
        return "the catalogue has no row to compare it with"
    if found.differing:
        return f"the row in the catalogue says otherwise: {', '.join(found.differing)}"
    if found.verdict == "the row":
        return "this is the row in the catalogue"
    return (
        f"this is the row in the catalogue, with {', '.join(found.finding.free)} in another order"
    )


def _operand(operand: Operand) -> list[Any]:
    fragment = operand.fragment
    title = f"{operand.name}  {fragment.rows} x {fragment.cols} {operand.format.ptx}"
    formulas = [f"{name} = {value}" for name, value in operand.formulas().items()]
    back = [f"{name} = {value}" for name, value in operand.inverse().items()]
    copies = [f"{fragment.copies} copies of every element"] if fragment.copies > 1 else []
    choices = [f"{each.immediate} picks the copy that is read" for each in operand.choices]
    return [
        Heading(title),
        _digits(operand),
        Lines(tuple(formulas)),
        Lines((*back, *copies, *choices)),
    ]


def _digits(operand: Operand) -> Table:
    rows = []
    for number, digits in (("lane", operand.fragment.lane), ("i", operand.fragment.elem)):
        weight = 1
        for digit in digits:
            rows.append(_digit(operand, number, weight, digit))
            weight *= digit.extent
    header = ("digit", "extent", *(f"step in {axis}" for axis in operand.axis_names))
    return table(header, rows)


def _digit(operand: Operand, number: str, weight: int, digit: Digit) -> tuple[str, ...]:
    name = number if weight == 1 else f"{number} // {weight}"
    return f"{name} % {digit.extent}", str(digit.extent), *map(str, _steps(operand, digit))


def _steps(operand: Operand, digit: Digit) -> tuple[int, ...]:
    if operand.matrix_rows:
        return (*divmod(digit.row, operand.matrix_rows), digit.col)
    return digit.row, digit.col


def as_object(found: Discovery) -> dict[str, Any]:
    """Return the finding as what JSON can hold."""
    return {
        "schema": SCHEMA,
        "ptx": found.ptx,
        "operands": [_operand_object(operand) for operand in found.finding.operands],
        "free": list(found.finding.free),
        "said": list(found.finding.said),
        "verdict": found.verdict,
        "differing": list(found.differing),
        "launches": found.launches,
        "blocks": found.blocks,
        "backend": found.backend,
        "environment": dict(found.environment),
    }


def _operand_object(operand: Operand) -> dict[str, Any]:
    fragment = operand.fragment
    names = operand.axis_names
    return {
        "operand": operand.name,
        "format": operand.format.ptx,
        "rows": fragment.rows,
        "cols": fragment.cols,
        "copies": fragment.copies,
        "axes": list(names),
        "lane": [_digit_object(operand, digit) for digit in fragment.lane],
        "i": [_digit_object(operand, digit) for digit in fragment.elem],
        "formulas": operand.formulas(),
        "inverse": operand.inverse(),
        "choices": [
            {"immediate": each.immediate, "number": each.number, "weight": each.weight}
            for each in operand.choices
        ],
    }


def _digit_object(operand: Operand, digit: Digit) -> dict[str, int]:
    steps = dict(zip(operand.axis_names, _steps(operand, digit), strict=True))
    return {"extent": digit.extent, **steps}
