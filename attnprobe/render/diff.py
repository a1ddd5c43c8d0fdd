"""Differences between operands for a reader, and layouts in CuTe's notation."""

from __future__ import annotations

from typing import Any

from attnprobe.layouts.questions.cute import notation
from attnprobe.layouts.questions.diff import Diff, Fact, OperandDiff, Step
from attnprobe.layouts.report import Sheet
from attnprobe.render import csv
from attnprobe.render.document import Document, Heading, Lines, table

DIFF_SCHEMA = "attnprobe.layout.diff/1"
_SHOWN = 12  # moved slots that are listed; --json has all


def diff_document(diff: Diff) -> Document:
    """Return what differs, digit by digit, and the first positions that move."""
    first, second = diff.rows
    document: Document = (
        Heading("1: " + first.ptx + "\n2: " + second.ptx),
        *_facts(diff.facts),
    )
    for pair in diff.operands:
        document += _operand_blocks(pair)
    if diff.only:
        lines = tuple(f"operand {name} is in {which + 1} alone" for which, name in diff.only)
        document += (Lines(lines),)
    return document


def _facts(facts: tuple[Fact, ...]) -> Document:
    differing = [(fact.name, fact.first, fact.second) for fact in facts if not fact.same]
    return (table(("differs", "1", "2"), differing),) if differing else ()


def _operand_blocks(pair: OperandDiff) -> Document:
    names = dict.fromkeys((pair.first.name, pair.second.name))
    title = Heading(" and ".join(names))
    facts = _facts(pair.facts)
    if pair.same:
        return (title, *facts, Lines(("the same layout: every digit moves alike",)))
    cells = [
        (f"{step.number} // {step.weight} % {step.extent}", *_both(pair, step),
         "" if step.same else "differs")
        for step in pair.steps
    ]  # fmt: skip
    counted = f"{len(pair.moved)} of the {pair.compared} slots that both have hold another position"
    lines = [counted]
    lines += [
        f"  lane {move.lane} element {move.element}: {move.first} and {move.second}"
        for move in pair.moved[:_SHOWN]
    ]
    if len(pair.moved) > _SHOWN:
        lines.append(f"  ... and {len(pair.moved) - _SHOWN} more")
    return (title, *facts, table(("digit", "1", "2", ""), cells), Lines(tuple(lines)))


def _both(pair: OperandDiff, step: Step) -> tuple[str, str]:
    return _step(step.first, pair.first.axes), _step(step.second, pair.second.axes)


def _step(step: tuple[int, int] | None, axes: tuple[str, str]) -> str:
    if step is None:
        return "-"
    moves = [f"{axis} + {by}" for axis, by in zip(axes, step, strict=True) if by]
    return ", ".join(moves) or "copies"


def diff_object(diff: Diff) -> Any:
    """Return the differences as what JSON can hold."""
    return {
        "schema": DIFF_SCHEMA,
        "rows": [row.ptx for row in diff.rows],
        "facts": [_fact_object(fact) for fact in diff.facts],
        "operands": [
            {
                "names": [pair.first.name, pair.second.name],
                "same": pair.same,
                "facts": [_fact_object(fact) for fact in pair.facts],
                "digits": [
                    {"number": step.number, "weight": step.weight, "extent": step.extent,
                     "first": step.first, "second": step.second}
                    for step in pair.steps
                ],
                "compared": pair.compared,
                "moved": [
                    [move.lane, move.element, move.first, move.second] for move in pair.moved
                ],
            }
            for pair in diff.operands
        ],
        "only": [[which, name] for which, name in diff.only],
    }  # fmt: skip


def _fact_object(fact: Fact) -> dict[str, Any]:
    return {"name": fact.name, "first": fact.first, "second": fact.second, "same": fact.same}


def diff_csv(diff: Diff) -> str:
    """Return a record for each slot whose position differs."""
    records = [
        (pair.first.name, pair.second.name, move.lane, move.element, *move.first, *move.second)
        for pair in diff.operands
        for move in pair.moved
        if len(move.first) == 2
    ]
    header = ("first", "second", "lane", "element", "row_1", "col_1", "row_2", "col_2")
    return csv.dumps(header, records)


def cute_text(sheet: Sheet) -> str:
    """Return each operand's (thread, value) layout as CuTe writes it, a line each."""
    lines = []
    for operand in sheet.operands:
        said = notation(operand)
        axes, sizes = ",".join(said.axes), ",".join(map(str, said.sizes))
        lines.append(f"{said.operand}  {said.text}  // (T,V) -> ({axes}) of ({sizes})\n")
    return "".join(lines)
