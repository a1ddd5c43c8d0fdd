"""Every opcode on values at the edges of its types, against exact arithmetic."""

from __future__ import annotations

import pytest

from tests.ptx import exact
from tests.ptx.harness import evaluate
from tests.ptx.op_table import ROWS, Row


def _same(kind: str, expected: int, actual: int) -> bool:
    """Equal bits; any NaN for a NaN."""
    form = exact.FORMS.get(kind)
    if form is not None and exact.is_nan(form, expected):
        return exact.is_nan(form, actual)
    return int(expected) == actual


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.text)
def test_result_is_exact(row: Row) -> None:
    columns = row.inputs()
    actual = evaluate(row.text, row.out, row.sources, columns)
    for values, got in zip(zip(*columns, strict=True), actual, strict=True):
        wanted = row.expected(*values)
        shown = ", ".join(f"{value:#x}" for value in values)
        assert _same(row.out, wanted, got), f"{row.text} on {shown}: {got:#x}, not {int(wanted):#x}"
