"""A report goes to JSON and back whole, and its exit code is what it says."""

from dataclasses import replace
from pathlib import Path

import pytest

from attnprobe import layouts
from attnprobe.errors import UsageError
from attnprobe.probing import definition, report, session
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN, ProbeReport
from attnprobe.render import probe_result
from tests.probing.silicon import Silicon

X4 = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
TRANS = layouts.find("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16")
WRONG = replace(X4, operands=TRANS.operands)


def asked(*rows: layouts.Instruction, cc: int = 90) -> ProbeReport:
    return session.run(rows, definition.questions(), Silicon(cc))


def test_a_report_is_the_same_after_it_was_saved_and_loaded(tmp_path: Path) -> None:
    made = asked(X4, WRONG)
    assert {result.verdict for result in made.results} == {MATCH, MISMATCH}
    made.save(tmp_path / "report.json")
    assert report.load(tmp_path / "report.json") == made


def test_a_file_of_another_schema_is_refused() -> None:
    with pytest.raises(UsageError, match="schema"):
        report.from_json([{"schema": "something else"}])


def test_each_object_has_what_other_tools_read() -> None:
    item = next(item for item in asked(WRONG).as_json() if item["probe"] == "ldmatrix_layout")
    assert item["schema"] == "attnprobe.probe/1"
    assert (item["ptx"], item["backend"], item["verdict"]) == (X4.ptx, "gpu", "mismatch")
    first = item["differences"][0]
    assert {"operand", "lane", "register", "part", "row", "col", "holds", "expected"} <= set(first)
    assert item["operands"] == [
        {"operand": "D", "verdict": "mismatch", "checked": 512, "differing": 448}
    ]


def test_exit_codes() -> None:
    assert asked(X4).exit_code == 0
    assert asked(X4, WRONG).exit_code == 1
    assert asked(X4, cc=60).exit_code == 5
    failed = replace(asked(X4, cc=60).results[0], cause="compile")
    assert ProbeReport((*asked(X4).results, failed)).exit_code == 4


def test_the_text_of_a_mismatch_says_where_what_it_holds_and_what_the_row_says() -> None:
    result = next(item for item in asked(WRONG).results if item.probe == "ldmatrix_layout")
    assert probe_result.line(result).split() == [
        "mismatch", "ldmatrix_layout", X4.ptx, "D", "mismatch",
    ]  # fmt: skip
    text = "\n".join(probe_result.details(result))
    assert "lane 0 d[0].hi [1, 0] holds matrix 0 [0, 1]" in text
    assert "the row says matrix 0 [1, 0]" in text
    assert "... and 440 more" in text


def test_the_text_of_what_was_not_run_says_why() -> None:
    result = asked(X4, cc=60).results[0]
    assert result.verdict == NOT_RUN
    assert "needs sm_75+; gpu is sm_60" in probe_result.line(result)


def test_the_summary_has_a_line_for_each_question_and_shows_mismatches() -> None:
    from attnprobe.render import text

    shown = text.render(probe_result.summary(asked(X4, WRONG)))
    assert "ldmatrix_same_pointer" in shown
    assert "the row says matrix 0 [1, 0]" in shown
    assert shown.splitlines()[-1] == "4 answers: 2 match, 2 mismatch, 0 not run"
