"""``attnprobe discover`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnprobe import backends, layouts
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.cli import main
from attnprobe.layouts import wmma
from tests.probing.changed import Changed, swapped_lanes
from tests.probing.silicon import Silicon
from tests.probing.silicon_wmma import WmmaSilicon

K16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
LOAD = "wmma.load.a.sync.aligned.row.m16n16k16.shared.f16"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def answered_by(monkeypatch: pytest.MonkeyPatch, backend: object) -> None:
    monkeypatch.setattr(backends, "select", lambda name: (backend, f"backend: {name}"))


def test_it_prints_digits_formulas_and_what_stays_open(capsys) -> None:
    code, out, err = run(capsys, "discover", K16, "--backend", "recorded")
    assert code == 0
    assert out.startswith(K16)
    assert "lane % 4       4       0          2" in out
    assert "m = lane // 4 + 8 * (i // 2 % 2)" in out
    assert "lane = 4 * (m % 8) + k // 2 % 4" in out
    assert "not in which order these are counted" in out
    assert out.rstrip().endswith("this is the row in the catalogue")
    assert "NVIDIA H200" in err


def test_without_a_gpu_the_records_answer(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from attnprobe.backends import gpu

    monkeypatch.setattr(gpu, "usable", lambda: "none here")
    code, _, err = run(capsys, "discover", "ldmatrix.sync.aligned.m8n8.x4.shared.b16")
    assert code == 0
    assert err.startswith("backend: recorded")


def test_json_has_digits_by_axis(capsys) -> None:
    text = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
    code, out, _ = run(capsys, "discover", text, "--backend", "recorded", "--json")
    found = json.loads(out)
    assert (code, found["schema"], found["verdict"]) == (0, "attnprobe.discovery/1", "the row")
    (d,) = found["operands"]
    assert d["i"][1] == {"extent": 4, "matrix": 1, "row": 0, "col": 0}
    assert d["formulas"] == {
        "matrix": "i // 2",
        "row": "2 * (lane % 4) + i % 2",
        "col": "lane // 4",
    }
    assert (found["free"], found["launches"]) == ([], 2)


def test_the_emulator_works_and_says_that_it_proves_nothing(capsys) -> None:
    code, _, err = run(
        capsys,
        "discover",
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16",
        "--backend",
        "emulator",
    )
    assert code == 0
    assert "the emulator computes from the rows" in err


def test_other_hardware_exits_1_and_what_has_no_digits_5(capsys, monkeypatch) -> None:
    name = "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
    answered_by(monkeypatch, Changed("ldmatrix", lambda array: array[:, [0, 2, 1, 3]]))
    code, out, _ = run(capsys, "discover", name)
    assert code == 1
    assert "the row in the catalogue says otherwise: D" in out
    answered_by(monkeypatch, Changed("ldmatrix", swapped_lanes))
    code, out, err = run(capsys, "discover", name)
    assert (code, out) == (5, "")
    assert f"attnprobe: {name}: nothing was found" in err


def test_no_instruction_and_an_unknown_one_exit_2(capsys, monkeypatch) -> None:
    answered_by(monkeypatch, Silicon())
    code, _, err = run(capsys, "discover")
    assert code == 2
    assert "name an instruction" in err
    assert run(capsys, "discover", "mma.sync.aligned.m99")[0] == 2


def test_a_fragment_that_no_row_has_is_found_all_the_same(capsys, monkeypatch) -> None:
    answered_by(monkeypatch, WmmaSilicon())
    monkeypatch.setattr(layouts, "exact", lambda name: None)
    code, out, _ = run(capsys, "discover", LOAD)
    assert code == 0
    assert "the catalogue has no row to compare it with" in out
    assert "2 copies of every element" in out


def test_recording_keeps_dumps_and_the_table_they_give(capsys, monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / "sm_90"
    folder.mkdir()
    answered_by(monkeypatch, WmmaSilicon())
    code, out, err = run(capsys, "discover", "--record-to", str(folder))
    assert code == 0
    assert out.splitlines()[-2].startswith("114 loads and stores have digits, ")
    assert out.splitlines()[-1] == "96 of 96 products take these fragments"
    assert "recorded 210 dumps" in err
    table = wmma.load_table(folder / wmma.TABLE.name)
    assert table is not None
    assert len(table.fragments) == 114
    answered_by(monkeypatch, RecordedBackend(folder))
    again = folder.parent / "again"
    again.mkdir()
    assert run(capsys, "discover", "--record-to", str(again))[0] == 0
    found = wmma.load_table(again / wmma.TABLE.name)
    assert found is not None
    assert found.fragments == table.fragments


def test_the_emulator_cannot_be_recorded(capsys) -> None:
    code, _, err = run(capsys, "discover", "--record", "--backend", "emulator")
    assert code == 2
    assert "a GPU is needed" in err
