"""Coverage of the catalogue: what counts as measured, and that the shipped dumps are complete."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from attnprobe import backends, layouts
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.cli import main
from attnprobe.layouts import Digit
from attnprobe.probing import coverage, definition, session
from attnprobe.probing.coverage import INCOMPLETE, NOT_MEASURED, Covered
from attnprobe.probing.report import MATCH, MISMATCH, ProbeReport
from attnprobe.render import coverage as tables
from tests.probing.silicon import Silicon

X4 = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
STORE = layouts.find("stmatrix.sync.aligned.m8n8.x4.shared.b16")
BLACKWELL = layouts.find("stmatrix.sync.aligned.m16n8.x4.trans.shared.b8")
SCALED = layouts.rows("mma.block_scale")[0]

# How many warp-level instructions ptxas takes for any target, and how many of them for sm_90a.
COUNTS = {
    "mma": (144, 94),
    "mma.sp": (171, 88),
    "mma.block_scale": (29, 0),
    "ldmatrix": (18, 6),
    "stmatrix": (9, 6),
    "movmatrix": (1, 1),
}


def covered(*rows: layouts.Instruction) -> tuple[Covered, ...]:
    report = session.run(rows, definition.questions(), Silicon())
    return coverage.coverage(rows, report, 90)


def test_a_row_that_was_answered_says_on_what_device_and_when() -> None:
    (line,) = covered(X4)
    assert (line.verdict, line.questions, line.rows) == (MATCH, 2, 1)
    assert (line.device, line.date, line.reason) == ("the ISA's formulas", "2026-01-01", "")


def test_rows_of_other_devices_are_not_measured_with_what_they_need() -> None:
    for line in covered(BLACKWELL, SCALED):
        assert (line.verdict, line.questions, line.device) == (NOT_MEASURED, 0, "")
        assert line.reason.startswith("needs sm_1")


def test_a_wrong_row_is_a_mismatch_with_the_question_that_says_so() -> None:
    d = X4["D"]
    digits = (Digit(2, col=1), Digit(2, row=16), Digit(2, row=8))
    wrong = replace(X4, operands=(replace(d, fragment=replace(d.fragment, elem=digits)),))
    (line,) = covered(wrong)
    assert (line.verdict, line.reason) == (MISMATCH, "ldmatrix_layout")


def test_a_row_with_some_answers_missing_is_incomplete_and_names_them() -> None:
    report = session.run([X4], definition.questions(), Silicon())
    first, second = report.results
    missing = replace(second, verdict="not run", cause="record", reason="no record\nof it")
    (line,) = coverage.coverage([X4], ProbeReport((first, missing)), 90)
    assert (line.verdict, line.reason) == (INCOMPLETE, "ldmatrix_same_pointer")
    (line,) = coverage.coverage([X4], ProbeReport((missing,)), 90)
    assert (line.verdict, line.reason) == (NOT_MEASURED, "no record")
    (line,) = coverage.coverage([X4], ProbeReport(()), 90)
    assert (line.verdict, line.reason) == (NOT_MEASURED, "no question asks about it")


def test_instructions_that_differ_by_n_alone_have_one_line() -> None:
    lines = [
        Covered(f"wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16", "wgmma", verdict, 2)
        for n, verdict in ((8, MATCH), (16, MATCH), (24, MISMATCH))
    ]
    both, alone = coverage.folded(lines)
    assert (both.ptx, both.rows) == ("wgmma.mma_async.sync.aligned.m64nNk16.f32.f16.f16", 2)
    assert (alone.ptx, alone.rows) == (lines[2].ptx, 1)
    assert coverage.counts(lines)["wgmma"][MATCH] == coverage.counts([both])["wgmma"][MATCH] == 2


def test_the_table_of_families_has_sums() -> None:
    table = tables.families(covered(X4, STORE, BLACKWELL))
    assert table.header == ("family", "rows", MATCH, MISMATCH, INCOMPLETE, NOT_MEASURED)
    assert table.rows == (
        ("ldmatrix", "1", "1", "0", "0", "0"),
        ("stmatrix", "2", "1", "0", "0", "1"),
        ("all", "3", "2", "0", "0", "1"),
    )


def test_probe_all_prints_the_table_and_no_line_for_each_answer(capsys, monkeypatch) -> None:
    monkeypatch.setattr(backends, "select", lambda name: (Silicon(), "backend: silicon"))
    assert main(["probe", "stmatrix", "--all"]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("stmatrix.sync")]
    assert len(lines) == 9
    assert sum(" match " in line for line in lines) == 6
    assert sum(" not measured " in line and "needs sm_100a" in line for line in lines) == 3
    assert "stmatrix_layout " not in out
    assert main(["probe", "stmatrix", "--all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Counter(item["verdict"] for item in told) == {MATCH: 6, NOT_MEASURED: 3}
    assert {item["schema"] for item in told} == {coverage.SCHEMA}


def test_what_came_before_an_error_is_recorded(capsys, monkeypatch, tmp_path: Path) -> None:
    class Breaks(Silicon):
        def movmatrix(self, ptx, a):
            raise RuntimeError("the driver is gone")

    monkeypatch.setattr(backends, "select", lambda name: (Breaks(), "backend: silicon"))
    folder = tmp_path / "sm_90"
    assert main(["probe", "x4.shared.b16", "movmatrix", "--record-to", str(folder)]) != 0
    assert "the driver is gone" in capsys.readouterr().err
    assert {label[0] for label in RecordedBackend(folder).labels()} == {X4.ptx, STORE.ptx}


# --- The shipped dumps ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", COUNTS)
def test_the_catalogue_has_every_instruction_of_the_family(family: str) -> None:
    rows = layouts.rows(family)
    assert (len(rows), sum(row.runs_on(90) for row in rows)) == COUNTS[family]


@pytest.mark.parametrize("family", [name for name, (_, here) in COUNTS.items() if here])
def test_every_row_that_the_recorded_gpu_runs_has_dumps_that_agree(family: str) -> None:
    """Where this fails for want of a record: on a GPU, ``attnprobe probe FAMILY --record``."""
    _, lines = coverage.recorded()
    of_family = [line for line in lines if line.family == family]
    runs = {row.ptx for row in layouts.rows(family) if row.runs_on(90)}
    short = [(line.ptx, line.verdict, line.reason) for line in of_family
             if line.ptx in runs and line.verdict != MATCH]  # fmt: skip
    assert short == []
    assert {line.ptx for line in of_family if line.verdict == MATCH} == runs
    assert all(line.device and line.date for line in of_family if line.ptx in runs)
