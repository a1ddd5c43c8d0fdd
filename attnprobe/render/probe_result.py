"""Probe reports as lines for a person, and as a summary of one screen."""

from __future__ import annotations

from attnprobe.probing.report import (
    MATCH,
    MISMATCH,
    NOT_RUN,
    Difference,
    OperandVerdict,
    ProbeReport,
    ProbeResult,
)
from attnprobe.render.document import Document, Heading, Lines, table

SHOWN = 8  # differences of one operand that the text shows; the JSON lists them


def line(result: ProbeResult) -> str:
    """Return the one line of a result: verdict, question, instruction, verdict of each operand."""
    head = f"{result.verdict:<8}  {result.probe:<21}  {result.ptx:<51}"
    if result.verdict == NOT_RUN:
        return f"{head}  {first_line(result.reason)}"
    verdicts = ", ".join(f"{item.operand} {item.verdict}" for item in result.operands)
    within = f" ({result.within})" if result.within and result.verdict == MATCH else ""
    return f"{head}  {verdicts}{within}"


def first_line(text: str) -> str:
    """Return the first line of a message."""
    return text.partition("\n")[0]


def details(result: ProbeResult) -> list[str]:
    """Return what was found, indented: of a mismatch what differs, of what was not run why."""
    if result.verdict == NOT_RUN:
        return [f"    {text}" for text in result.reason.splitlines()[1:]]
    lines = [f"    {finding}" for finding in result.findings]
    for operand in result.operands:
        lines += _operand_lines(operand)
    return [*lines, f"    cannot be seen: {result.blind}"]


def _operand_lines(operand: OperandVerdict) -> list[str]:
    if operand.verdict == MATCH:
        return []
    lines = [f"    {operand.operand}: {operand.differing} of {operand.checked} differ"]
    lines += [f"      {difference_line(item)}" for item in operand.differences[:SHOWN]]
    if operand.differing > SHOWN:
        lines.append(f"      ... and {operand.differing - SHOWN} more (--json lists them)")
    return lines


def difference_line(item: Difference) -> str:
    """Return one difference: where, what it holds, what the row says."""
    where = f"lane {item.lane} {item.slot}"
    if item.block:
        where += f" in block {item.block}"
    if item.bits is None or item.expected_bits is None:
        return f"{where} holds {item.holds}; the row says {item.expected}"
    holds = f"{item.holds} ({item.bits:#x})"
    return (
        f"{where} [{item.row}, {item.col}] holds {holds}; "
        f"the row says {item.expected} ({item.expected_bits:#x})"
    )


def total(report: ProbeReport) -> str:
    """Return the last line: how many of which verdict."""
    counts = [f"{report.count(verdict)} {verdict}" for verdict in (MATCH, MISMATCH, NOT_RUN)]
    return f"{len(report.results)} answers: {', '.join(counts)}"


def caution(backend: str) -> str:
    """Return what must be said of answers from ``backend``, or ""."""
    if backend != "emulator":
        return ""
    return (
        "the emulator reads the same rows: this shows that kernels, generator and comparison "
        "agree, and cannot refute a row; --backend recorded compares with dumps of real hardware"
    )


def environment_line(environment: dict[str, str]) -> str:
    """Return an environment in one line."""
    return ", ".join(f"{key} {value}" for key, value in environment.items() if key != "command")


def summary(report: ProbeReport) -> Document:
    """Return the report on one screen: a line for each question, and what was found."""
    rows = []
    for name in dict.fromkeys(result.probe for result in report.results):
        results = [result for result in report.results if result.probe == name]
        of_question = ProbeReport(tuple(results))
        counts = [of_question.count(verdict) for verdict in (MATCH, MISMATCH, NOT_RUN)]
        rows.append((name, *counts, results[0].asks))
    header = ("question", MATCH, MISMATCH, NOT_RUN, "asks")
    document: Document = (table(header, rows, numeric=(1, 2, 3)),)
    wrong = [result for result in report.results if result.verdict == MISMATCH]
    for result in wrong[:3]:
        document += (Heading(line(result)), Lines(tuple(details(result))))
    return (*document, Lines((total(report),)))
