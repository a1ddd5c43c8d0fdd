"""One verdict out of those on the sequences of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attnprobe.numerics.error import Comparison
from attnprobe.numerics.verdict import Finding, RowErrors, Verdict


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on all sequences: that of the worst, with the findings of all.

    ``batch`` in indices, places and rows becomes the number of the sequence.
    """
    worst = max(range(len(verdicts)), key=lambda i: (not verdicts[i].ok, verdicts[i].o.share))
    base = verdicts[worst]
    place = None if base.place is None else replace(base.place, batch=worst)
    return replace(
        base,
        findings=_findings(verdicts),
        o=_comparison([verdict.o for verdict in verdicts], worst),
        lse=None
        if base.lse is None
        else _comparison([verdict.lse for verdict in verdicts if verdict.lse], worst),
        yardstick_error=max(verdict.yardstick_error for verdict in verdicts),
        rows=_rows(verdicts),
        place=place,
        pattern=tuple(f"sequence {worst}: {text}" for text in base.pattern),
    )


def _findings(verdicts: Sequence[Verdict]) -> tuple[Finding, ...]:
    """Every demand once: met where all sequences meet it, else as the first that does not."""
    found: dict[str, Finding] = {}
    for number, verdict in enumerate(verdicts):
        for finding in verdict.findings:
            if finding.check not in found or (found[finding.check].ok and not finding.ok):
                text = f"sequence {number}: {finding.text}"
                found[finding.check] = replace(finding, text=text)
    return tuple(found.values())


def _comparison(parts: Sequence[Comparison], worst: int) -> Comparison:
    base = parts[worst]
    return replace(
        base,
        worst=(worst, *base.worst[1:]),
        max_abs=max(part.max_abs for part in parts),
        refused=sum(part.refused for part in parts),
        total=sum(part.total for part in parts),
        signal_to_error=min(part.signal_to_error for part in parts),
    )


def _rows(verdicts: Sequence[Verdict]) -> RowErrors:
    numbered = [
        replace(verdict.rows, batch=np.full_like(verdict.rows.batch, i))
        for i, verdict in enumerate(verdicts)
    ]
    names = ("batch", "head", "query", "error", "share", "lse", "top")
    return RowErrors(
        *(np.concatenate([getattr(rows, name) for rows in numbered]) for name in names)
    )
