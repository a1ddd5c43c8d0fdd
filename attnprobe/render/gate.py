"""The gate's report as tables for a person."""

from __future__ import annotations

from attnprobe.models.checks import Check, GateReport, ModelResult
from attnprobe.models.packages import PACKAGES
from attnprobe.render.document import Block, Document, Heading, Lines, table


def document(report: GateReport) -> Document:
    """Return every model's figures, answers and verdict."""
    blocks = [block for result in report.results for block in _model(result)]
    verdict = "passes" if report.ok else "is REFUSED"
    return (*blocks, Lines((f"gate: {report.target} {verdict}",)))


def _model(result: ModelResult) -> list[Block]:
    sizes = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in result.sizes.items())
    header = ("part", "figure", "value", "limit", "verdict")
    rows = [
        (check.part, check.limit.name, _value(check), f"{check.limit.most:g}", check.verdict)
        for check in result.checks
    ]
    blocks: list[Block] = [
        Heading(f"{PACKAGES[result.model].title} against itself with float64 attention: {sizes}"),
        table(header, rows, numeric=(2, 3)),
    ]
    told = [f"{check.part} declined: {check.why}" for check in result.checks if check.why]
    for answer in result.answers:
        same = "the same text with float64"
        if not answer.same:
            same = f"NOT THE TEXT with float64: {answer.expected!r}"
        margin = f"its closest choice was won by {answer.least_margin:.3f}"
        told += [f"{answer.question!r} -> {answer.given!r}", f"    {same}; {margin}"]
    spent = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in result.seconds.items())
    return [*blocks, Lines((*dict.fromkeys(told), f"time, both attentions: {spent}"))]


def _value(check: Check) -> str:
    return "-" if check.figure is None else f"{check.figure:.3g}"
