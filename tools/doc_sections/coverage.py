"""The tables of docs/coverage.md: what the recorded dumps say about every row of the catalogue."""

from __future__ import annotations

from attnprobe.probing import coverage
from attnprobe.render import coverage as tables
from attnprobe.render.document import Table
from doc_sections import markdown_table, section

PAGE = "docs/coverage.md"


@section(PAGE, "families")
def families() -> str:
    """Return how many rows of each family have which verdict."""
    return _markdown(tables.families(coverage.recorded()[1]))


@section(PAGE, "rows")
def rows() -> str:
    """Return a line for each row."""
    return _markdown(tables.rows(coverage.recorded()[1]))


@section(PAGE, "questions")
def questions() -> str:
    """Return how many rows each question was asked of, and what came."""
    report, _ = coverage.recorded()
    found: dict[str, dict[str, int]] = {}
    for result in report.results:
        if result.cause != "arch":
            answers = found.setdefault(result.probe, {})
            answers[result.verdict] = answers.get(result.verdict, 0) + 1
    header = ("question", "rows", "match", "mismatch", "not run")
    return markdown_table(
        header,
        [
            (name, sum(each.values()), *(each.get(verdict, 0) for verdict in header[2:]))
            for name, each in sorted(found.items())
        ],
    )


def _markdown(table: Table) -> str:
    rows = [(f"`{first}`" if "." in first else first, *rest) for first, *rest in table.rows]
    return markdown_table(table.header, rows)
