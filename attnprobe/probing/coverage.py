"""Which rows were asked about on which device, and what came of it: one line for each row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from attnprobe import layouts
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.layouts import Instruction
from attnprobe.probing import definition, session
from attnprobe.probing.definition import Question
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN, ProbeReport, ProbeResult

SCHEMA = "attnprobe.coverage/1"
NOT_MEASURED, INCOMPLETE = "not measured", "incomplete"
VERDICTS = (MATCH, MISMATCH, INCOMPLETE, NOT_MEASURED)

# Where instructions differ by their width alone, a table has one line for all of them.
_WIDTH = re.compile(r"(?<=\.m64n)\d+(?=k)")


@dataclass(frozen=True)
class Covered:
    """What is known of one row, or of several that differ by n alone.

    Attributes
    ----------
    ptx, family : the instruction; with ``N`` for n where the line stands for several.
    verdict : "match" where every question that applies was answered so, "mismatch" where one was
        not, "incomplete" where some were not answered, "not measured" where none was.
    questions : how many questions were answered.
    device, date : where and when; "" where nothing was.
    reason : why it was not measured or not wholly, else "".
    rows : how many rows the line stands for.
    """

    ptx: str
    family: str
    verdict: str
    questions: int
    device: str = ""
    date: str = ""
    reason: str = ""
    rows: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain data."""
        return {"schema": SCHEMA, **asdict(self)}


def coverage(rows: Iterable[Instruction], report: ProbeReport, cc: int) -> tuple[Covered, ...]:
    """Return a line for each of ``rows``, from a report of a device of that ``cc``."""
    by_row: dict[str, list[ProbeResult]] = {}
    for result in report.results:
        by_row.setdefault(result.ptx, []).append(result)
    return tuple(_covered(row, by_row.get(row.ptx, []), cc) for row in rows)


def _covered(row: Instruction, results: Sequence[ProbeResult], cc: int) -> Covered:
    answered = [result for result in results if result.verdict != NOT_RUN]
    if not row.runs_on(cc):
        return Covered(row.ptx, row.family, NOT_MEASURED, 0, reason=f"needs {row.targets}")
    if not answered:
        reason = results[0].reason.partition("\n")[0] if results else "no question asks about it"
        return Covered(row.ptx, row.family, NOT_MEASURED, 0, reason=reason)
    missing = [result for result in results if result.verdict == NOT_RUN]
    wrong = [result for result in answered if result.verdict == MISMATCH]
    verdict = MISMATCH if wrong else INCOMPLETE if missing else MATCH
    reason = ", ".join(result.probe for result in wrong or missing)
    where = answered[-1].environment
    device, date = where.get("device", ""), where.get("date", "")
    return Covered(row.ptx, row.family, verdict, len(answered), device, date, reason)


def folded(lines: Iterable[Covered]) -> tuple[Covered, ...]:
    """Return one line for all instructions that differ by n alone and have one verdict."""
    found: dict[tuple[object, ...], list[Covered]] = {}
    for line in lines:
        name = _WIDTH.sub("N", line.ptx)
        key = (name, line.verdict, line.questions, line.device, line.date, line.reason)
        found.setdefault(key, []).append(line)
    return tuple(_fold(str(key[0]), group) for key, group in found.items())


def _fold(name: str, group: Sequence[Covered]) -> Covered:
    one = group[0]
    told = {**asdict(one), "rows": len(group)}
    return Covered(**told) if len(group) == 1 else Covered(**{**told, "ptx": name})


def counts(lines: Iterable[Covered]) -> dict[str, dict[str, int]]:
    """Return family -> verdict -> how many rows, with every verdict of ``VERDICTS``."""
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        of_family = found.setdefault(line.family, dict.fromkeys(VERDICTS, 0))
        of_family[line.verdict] += line.rows
    return found


def recorded() -> tuple[ProbeReport, tuple[Covered, ...]]:
    """Return what the shipped dumps say about every row of the catalogue: report and lines.

    Each row is asked about once in a process.
    """
    rows = layouts.rows()
    report = ProbeReport(tuple(result for row in rows for result in _recorded(row)))
    return report, coverage(rows, report, _backend().cc)


@cache
def _backend() -> RecordedBackend:
    return RecordedBackend()


@cache
def _questions() -> tuple[Question, ...]:
    return definition.questions()


@cache
def _recorded(row: Instruction) -> tuple[ProbeResult, ...]:
    return session.run([row], _questions(), _backend()).results
