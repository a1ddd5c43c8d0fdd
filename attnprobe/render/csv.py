"""Records as CSV (RFC 4180 quoting, lines ended by a newline, a header line first)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def dumps(header: Sequence[str], records: Iterable[Sequence[object]]) -> str:
    """Return ``records`` as CSV under ``header``. None becomes an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(records)
    return out.getvalue()
