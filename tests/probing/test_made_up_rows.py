"""Rows that no kernel was written for: other extents of k, tags of two digits, three tiles of D."""

import pytest

from attnprobe.layouts import Instruction
from attnprobe.probing import definition, session
from attnprobe.probing.report import MATCH
from tests.probing.made_up import made_up, narrow_row
from tests.probing.silicon import Silicon


@pytest.mark.parametrize("row", [made_up(24, "f16"), narrow_row()], ids=lambda row: row.ptx)
def test_every_question_that_applies_is_answered(row: Instruction) -> None:
    report = session.run([row], definition.questions(), Silicon())
    asked = {result.probe: result.verdict for result in report.results}
    assert set(asked.values()) == {MATCH}
    assert {"operand_layout", "known_fills", "d_is_next_a", "random_products"} <= set(asked)
