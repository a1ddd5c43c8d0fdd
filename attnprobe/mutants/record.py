"""The kill matrix as plain data: what ``attnprobe mutants`` prints and records, and docs tell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnprobe.errors import UsageError
from attnprobe.mutants.catalogue import MUTANTS, find
from attnprobe.mutants.cover import smallest_cover
from attnprobe.mutants.matrix import TAME, Matrix
from attnprobe.mutants.outcome import NOT_RUN, SURVIVED

SCHEMA = "attnprobe.mutants/1"


@dataclass(frozen=True)
class Line:
    """One mutant.

    Attributes
    ----------
    name : of its row in the catalogue.
    cells : a letter of outcome.LETTERS for each fill.
    old_rule : whether the old test, near-uniform data and a fixed limit on O, lets it pass.
    """

    name: str
    cells: str
    old_rule: bool

    @property
    def equivalent(self) -> bool:
        """Whether the catalogue argues that nothing can refuse it."""
        return bool(find(self.name).equivalent)

    @property
    def killed(self) -> bool:
        """Whether any fill kills it."""
        return any(cell not in (SURVIVED, NOT_RUN) for cell in self.cells)


@dataclass(frozen=True)
class Record:
    """A kill matrix with where and when it was made.

    Attributes
    ----------
    environment : device, driver, NVRTC, command, date; "device" is always there.
    fills : names of the columns.
    lines : one for each mutant.
    """

    environment: dict[str, str]
    fills: tuple[str, ...]
    lines: tuple[Line, ...]

    def killed_by(self, line: Line) -> tuple[str, ...]:
        """Return the fills that kill a mutant."""
        cells = zip(self.fills, line.cells, strict=True)
        return tuple(fill for fill, cell in cells if cell not in (SURVIVED, NOT_RUN))

    def survived(self, line: Line) -> tuple[str, ...]:
        """Return the fills that a mutant passes."""
        cells = zip(self.fills, line.cells, strict=True)
        return tuple(fill for fill, cell in cells if cell == SURVIVED)

    def missed_by(self, fill: str) -> tuple[str, ...]:
        """Return the faulty mutants that a fill lets pass."""
        return tuple(
            line.name for line in self.lines if not line.equivalent and fill in self.survived(line)
        )

    @property
    def faulty(self) -> tuple[Line, ...]:
        """The mutants that are not argued to be equivalent."""
        return tuple(line for line in self.lines if not line.equivalent)

    @property
    def cover(self) -> tuple[str, ...]:
        """A smallest set of fills that kills every mutant that some fill kills."""
        return smallest_cover({line.name: self.killed_by(line) for line in self.lines})

    def objects(self) -> list[dict[str, Any]]:
        """Return one JSON object for each mutant.

        ``killed_by`` and ``survived`` are names of fills; a fill that is not made for the number
        format of the mutant's scenes is in neither.
        """
        return [self._object(line) for line in self.lines]

    def _object(self, line: Line) -> dict[str, Any]:
        mutant = find(line.name)
        return {
            "name": line.name,
            "equivalent": line.equivalent,
            "killed_by": list(self.killed_by(line)),
            "survived": list(self.survived(line)),
            "family": mutant.family,
            "subject": mutant.subject,
            "breaks": mutant.breaks,
            "why_equivalent": mutant.equivalent,
            "met_in": mutant.field,
            "scenes": list(mutant.seen_on),
            "must_be_refused_by": list(mutant.refused_by),
            "passes_old_test": line.old_rule,
            "cells": line.cells,
        }


def of(matrix: Matrix, environment: dict[str, str]) -> Record:
    """Return the record of a matrix."""
    lines = tuple(
        Line(row.mutant.name, "".join(map(row.letter, matrix.fills)), row.old_rule)
        for row in matrix.rows
        if row.mutant is not None
    )
    return Record(environment, matrix.fills, lines)


def joined(old: Record, new: Record) -> Record:
    """Return ``old`` with what ``new`` has: its rows, its fills, cell by cell.

    A cell that neither has was not run. The environment is that of ``new``; "before" in it is the
    command that made what is kept.
    """
    fills = (*old.fills, *(fill for fill in new.fills if fill not in old.fills))
    cells: dict[str, dict[str, str]] = {}
    old_rule: dict[str, bool] = {}
    for record in (old, new):
        for line in record.lines:
            known = cells.setdefault(line.name, {})
            known.update(zip(record.fills, line.cells, strict=True))
            if TAME in record.fills or line.name not in old_rule:
                old_rule[line.name] = line.old_rule
    lines = tuple(
        Line(row.name, "".join(cells[row.name].get(f, NOT_RUN) for f in fills), old_rule[row.name])
        for row in MUTANTS
        if row.name in cells
    )
    before = old.environment.get("before") or old.environment.get("command", "")
    return Record({**new.environment, "before": before}, fills, lines)


def save(record: Record, path: Path) -> None:
    """Write a record, a line for each mutant."""
    head = {
        "schema": SCHEMA,
        "environment": record.environment,
        "fills": list(record.fills),
    }
    lines = [
        json.dumps({"name": line.name, "passes_old_test": line.old_rule, "cells": line.cells})
        for line in record.lines
    ]
    text = json.dumps(head, indent=1).removesuffix("\n}")
    text += ',\n "mutants": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load(path: Path) -> Record:
    """Return a record that ``save`` wrote.

    Raises
    ------
    UsageError
        If the file is no such record, or of mutants that are no longer in the catalogue.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise UsageError(f"{path.name} is no kill matrix of schema {SCHEMA}")
    lines = tuple(
        Line(find(line["name"]).name, line["cells"], line["passes_old_test"])
        for line in data["mutants"]
    )
    return Record(data["environment"], tuple(data["fills"]), lines)
