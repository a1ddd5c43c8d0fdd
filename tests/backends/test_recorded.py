"""Records answer only what was recorded, a stale one says so, and the shipped ones stand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends import Launch, NotRunError
from attnprobe.backends.recorded import RecordedBackend, Recorder, default_folder
from attnprobe.compile import Source
from attnprobe.layouts import Instruction
from attnprobe.probing import coverage, definition, generate, session
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN
from tests.probing.silicon import Silicon

MMA = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
BF16 = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
LAYOUT = definition.find("operand_layout")
KNOWN = definition.find("known_fills")


def launch(row: Instruction = MMA, fill: str = "pass_through") -> Launch:
    return generate.launch(row, LAYOUT, LAYOUT.fill(fill))


def record(folder: Path, rows: list[Instruction], questions: list, command: str = "a test") -> None:
    recorder = Recorder(Silicon(), command)
    session.run(rows, questions, recorder)
    recorder.save(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path / "sm_90", [MMA], [LAYOUT, KNOWN])
    return tmp_path / "sm_90"


def test_a_record_gives_back_the_very_arrays_and_where_they_came_from(folder: Path) -> None:
    dump = RecordedBackend(folder).run(launch())
    assert (dump.arrays[0] == Silicon().run(launch()).arrays[0]).all()
    assert dump.backend == "recorded"
    assert dump.environment == {**Silicon().environment(), "command": "a test"}


def test_all_questions_recorded_are_answered_from_the_record(folder: Path) -> None:
    report = session.run([MMA], [LAYOUT, KNOWN], RecordedBackend(folder))
    assert [result.verdict for result in report.results] == [MATCH, MATCH]


def test_what_is_not_recorded_is_not_run_with_the_reason(folder: Path) -> None:
    with pytest.raises(NotRunError, match="no record of fill 'pass_through'"):
        RecordedBackend(folder).run(launch(BF16))
    result = session.ask(BF16, LAYOUT, RecordedBackend(folder))
    assert (result.verdict, result.cause) == (NOT_RUN, "record")


def test_another_kernel_text_makes_the_record_stale(folder: Path) -> None:
    made = launch()
    text = made.source.text.replace("threadIdx.x", "31 - threadIdx.x", 1)
    with pytest.raises(NotRunError, match="stale"):
        RecordedBackend(folder).run(replace(made, source=Source(text, made.source.name)))


def test_another_input_makes_the_record_stale(folder: Path) -> None:
    made = launch()
    a, b, c = made.inputs
    other = c.copy()
    other[0, 0, 0] ^= 1
    with pytest.raises(NotRunError, match="stale"):
        RecordedBackend(folder).run(replace(made, inputs=(a, b, other)))


def test_a_reworded_comment_does_not_make_the_record_stale(folder: Path) -> None:
    made = launch()
    text = made.source.text.replace("D = A B + C", "the sum of a product and C")
    assert text != made.source.text
    RecordedBackend(folder).run(replace(made, source=Source(text, made.source.name)))


def test_a_wrong_row_is_a_mismatch_with_the_record_and_not_a_stale_one(folder: Path) -> None:
    a, b = MMA["A"], MMA["B"]
    one, two, three = a.fragment.elem
    wrong = replace(a, fragment=replace(a.fragment, elem=(one, three, two)))
    row = replace(MMA, operands=(MMA["D"], wrong, b, MMA["C"]))
    result = session.ask(row, LAYOUT, RecordedBackend(folder))
    assert result.verdict == MISMATCH
    assert {item.operand for item in result.differences} == {"A"}


def test_recording_again_replaces_a_record_and_keeps_the_others(folder: Path) -> None:
    record(folder, [MMA], [KNOWN], "again")
    record(folder, [BF16], [LAYOUT], "more")
    index = json.loads((folder / "index.json").read_text())
    commands = [environment["command"] for environment in index["environments"]]
    assert commands == ["a test", "again", "more"]
    assert index["records"]["known_fills"][MMA.ptx]["rows"]["environment"] == 1
    report = session.run([MMA, BF16], [LAYOUT, KNOWN], RecordedBackend(folder))
    assert [result.verdict for result in report.results] == [MATCH, MATCH, MATCH, NOT_RUN]


def test_environments_that_no_record_refers_to_are_dropped(folder: Path) -> None:
    record(folder, [MMA], [LAYOUT, KNOWN], "all again")
    index = json.loads((folder / "index.json").read_text())
    assert [environment["command"] for environment in index["environments"]] == ["all again"]


def test_a_damaged_record_is_no_answer(folder: Path) -> None:
    path = folder / "operand_layout.npz"
    with np.load(path) as stored:
        arrays = {key: stored[key][..., :-1] for key in stored.files}
    np.savez_compressed(path, **arrays)
    with pytest.raises(NotRunError, match="has shape"):
        RecordedBackend(folder).run(launch())


def test_the_shipped_records_of_real_hardware_agree_with_the_rows() -> None:
    report, _ = coverage.recorded()
    wrong = [
        (result.ptx, result.probe, result.findings)
        for result in report.results
        if result.verdict == MISMATCH
    ]
    assert wrong == []
    assert report.count(MATCH) > 0
    for result in report.results:
        if result.verdict == MATCH:
            known = set(result.environment)
            assert {"device", "driver", "nvrtc", "cupy", "date", "command"} <= known


def test_no_shipped_record_is_stale() -> None:
    report, _ = coverage.recorded()
    stale = [(item.ptx, item.probe) for item in report.results if "stale" in item.reason]
    assert stale == []


def test_the_shipped_records_are_small() -> None:
    size = sum(path.stat().st_size for path in default_folder().iterdir())
    assert 0 < size < 8_000_000


def test_no_record_is_kept_of_what_is_no_longer_asked() -> None:
    known = {question.name for question in definition.questions()}
    asked = {
        (row.ptx, question.name, fill.name)
        for row, question in session.pairs(layouts.rows(), definition.questions())
        for fill in question.fills
    }
    kept = {label for label in RecordedBackend().labels() if label[1] in known}
    assert kept <= asked
