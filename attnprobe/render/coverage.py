"""The coverage of the catalogue by probes: a table of rows, and how many of each family."""

from __future__ import annotations

from collections.abc import Sequence

from attnprobe.probing.coverage import VERDICTS, Covered, counts, folded
from attnprobe.render.document import Document, Heading, Table, table


def families(lines: Sequence[Covered]) -> Table:
    """Return how many rows of each family have which verdict."""
    found = counts(lines)
    rows = [(family, sum(each.values()), *each.values()) for family, each in found.items()]
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    header = ("family", "rows", *VERDICTS)
    total = [("all", *sums)] if len(rows) > 1 else []
    return table(header, [*rows, *total], numeric=range(1, len(header)))


def rows(lines: Sequence[Covered]) -> Table:
    """Return a line for each row; one for all that differ by n alone."""
    cells = [
        (
            line.ptx if line.rows == 1 else f"{line.ptx} ({line.rows} N)",
            line.verdict,
            line.questions or "",
            line.device,
            line.date,
            line.reason,
        )
        for line in folded(lines)
    ]
    return table(("instruction", "verdict", "questions", "device", "date", "why"), cells, (2,))


def document(lines: Sequence[Covered]) -> Document:
    """Return both tables."""
    return (Heading("Coverage"), rows(lines), families(lines))
