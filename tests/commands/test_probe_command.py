"""``attnprobe probe`` and ``attnprobe dump`` as a user runs them."""

import csv
import io
import json
from dataclasses import replace

import pytest

from attnprobe import backends, layouts
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.cli import main
from attnprobe.layouts import Digit
from attnprobe.probing import definition
from tests.probing.silicon import Silicon

MMA = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
ROWS, COLS = Digit(2, row=8), Digit(2, col=8)


@pytest.fixture
def silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every backend be the stand-in for a GPU."""
    monkeypatch.setattr(backends, "select", lambda name: (Silicon(), "backend: silicon"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def wrong_row() -> layouts.Instruction:
    """The m16n8k16 row under another name, with a[1] and a[2] exchanged."""
    a = MMA["A"]
    swapped = replace(a, fragment=replace(a.fragment, elem=(Digit(2, col=1), COLS, ROWS)))
    operands = (MMA["D"], swapped, MMA["B"], MMA["C"])
    return replace(MMA, ptx=MMA.ptx + ".wrong", operands=operands)


@pytest.mark.usefixtures("silicon")
def test_probe_prints_a_line_for_each_instruction_and_question(capsys) -> None:
    code, out, err = run(capsys, "probe", "m16n8k8.row.col.f32.f16", "ldmatrix m8n8 x1")
    lines = out.splitlines()
    assert code == 0
    assert lines[-1] == "10 answers: 10 match, 0 mismatch, 0 not run"
    assert len(lines) == 11
    assert all(line.startswith("match ") for line in lines[:-1])
    layout = next(line for line in lines if "operand_layout" in line)
    assert layout.endswith(
        "A match, B match, C match, D match (up to a common order of m, n and k)"
    )
    assert err == "backend: silicon\n"


@pytest.mark.usefixtures("silicon")
def test_probe_json_is_a_list_of_one_object_for_each_answer(capsys) -> None:
    code, out, _ = run(capsys, "probe", "ldmatrix.sync.aligned.m8n8.x4.shared.b16", "--json")
    answers = json.loads(out)
    assert code == 0
    assert [item["probe"] for item in answers] == ["ldmatrix_layout", "ldmatrix_same_pointer"]
    for item in answers:
        assert item["ptx"] == "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
        assert (item["backend"], item["verdict"], item["differences"]) == ("gpu", "match", [])
        assert item["environment"]["device"] == "the ISA's formulas"


@pytest.mark.usefixtures("silicon")
def test_a_wrong_row_exits_1_and_shows_lanes_registers_and_both_sides(capsys) -> None:
    with layouts.added(wrong_row()):
        code, out, _ = run(capsys, "probe", "wrong", "--question", "operand_layout")
    assert code == 1
    assert "A mismatch, B match, C match, D match" in out
    assert "lane 0 a[1].lo holds A[8, 0]; the row says A[0, 8]" in out
    assert "a wrong row of A alone explains every bit" in out


@pytest.mark.usefixtures("silicon")
def test_a_wrong_row_has_every_difference_in_the_json(capsys) -> None:
    with layouts.added(wrong_row()):
        code, out, _ = run(capsys, "probe", "wrong", "--question", "operand_layout", "--json")
    (item,) = json.loads(out)
    assert (code, item["verdict"]) == (1, "mismatch")
    assert len(item["differences"]) == 128
    assert item["differences"][0] == {
        "operand": "A",
        "slot": "a[1].lo",
        "lane": 0,
        "register": 1,
        "part": 0,
        "row": 0,
        "col": 8,
        "holds": "A[8, 0]",
        "expected": "A[0, 8]",
        "bits": None,
        "expected_bits": None,
        "block": 0,
    }


def test_nothing_that_could_run_exits_5(capsys, monkeypatch, tmp_path) -> None:
    empty = RecordedBackend(tmp_path)
    monkeypatch.setattr(backends, "select", lambda name: (empty, "backend: recorded"))
    code, out, _ = run(capsys, "probe", "x1.shared")
    assert code == 5
    assert "not run" in out
    assert "no record of fill 'tags'" in out


def test_mistakes_exit_2_with_the_nearest_name(capsys) -> None:
    code, _, err = run(capsys, "probe", "m16n8k17")
    assert code == 2
    assert "m16n8k16" in err
    code, _, err = run(capsys, "probe", "--question", "operand_layuot")
    assert code == 2
    assert "operand_layout" in err
    code, _, err = run(capsys, "probe", "x1", "--question", "operand_layout")
    assert code == 2
    assert "applies" in err


def test_a_missing_gpu_exits_3(capsys, monkeypatch) -> None:
    from attnprobe.backends import gpu

    monkeypatch.setattr(gpu, "usable", lambda: "none was built in")
    for words in (
        ["probe", "--backend", "gpu"],
        ["probe", "--record"],
        ["dump", "ldmatrix m8n8 x1.sh", "--backend", "gpu"],
    ):
        code, _, err = run(capsys, *words)
        assert code == 3
        assert "none was built in" in err


def test_only_a_gpu_is_recorded(capsys, tmp_path) -> None:
    words = ["probe", "x1.shared", "--backend", "emulator", "--record-to", str(tmp_path / "sm_90")]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "only a GPU is recorded" in err
    assert not (tmp_path / "sm_90").exists()


@pytest.mark.usefixtures("silicon")
def test_record_keeps_dumps_that_the_recorded_backend_answers_from(
    capsys, monkeypatch, tmp_path
) -> None:
    folder = tmp_path / "sm_90"
    code, _, err = run(capsys, "probe", "ldmatrix m8n8 x4", "--record-to", str(folder))
    assert code == 0
    assert f"recorded 6 dumps in {folder}" in err
    monkeypatch.setattr(backends, "select", lambda name: (RecordedBackend(folder), "recorded"))
    code, out, _ = run(capsys, "probe", "ldmatrix m8n8 x4", "--json")
    assert code == 0
    assert {item["backend"] for item in json.loads(out)} == {"recorded"}
    command = json.loads(out)[0]["environment"]["command"]
    assert command == "attnprobe probe ldmatrix m8n8 x4 --record"


def test_the_list_of_questions_says_what_each_asks_and_proves(capsys) -> None:
    code, out, _ = run(capsys, "probe", "--list")
    assert code == 0
    assert "ldmatrix_same_pointer" in out
    assert out.count("  proves  ") == out.count("  asks    ") == len(definition.questions())


# --- dump -----------------------------------------------------------------------------------------


def lanes_of(out: str) -> dict[int, list[str]]:
    rows = [line.split() for line in out.splitlines()]
    return {int(row[0]): row[1:] for row in rows if row and row[0].isdigit()}


@pytest.mark.usefixtures("silicon")
def test_dump_rows_gives_lane_0_0_0_128_128(capsys) -> None:
    code, out, _ = run(capsys, "dump", MMA.ptx, "--fill", "rows")
    lanes = lanes_of(out)
    assert code == 0
    assert lanes[0] == ["0", "0", "128", "128"]
    assert lanes[31] == ["112", "112", "240", "240"]
    assert len(lanes) == 32


@pytest.mark.usefixtures("silicon")
def test_dump_tags_names_each_element_of_each_operand(capsys) -> None:
    _, out, _ = run(capsys, "dump", MMA.ptx, "--fill", "tags", "--operand", "A")
    assert lanes_of(out)[5] == ["1,2", "1,3", "9,2", "9,3", "1,10", "1,11", "9,10", "9,11"]
    _, out, _ = run(capsys, "dump", MMA.ptx, "--fill", "tags", "--operand", "B")
    assert lanes_of(out)[5] == ["2,1", "3,1", "10,1", "11,1"]
    _, out, _ = run(capsys, "dump", MMA.ptx, "--fill", "tags")
    assert lanes_of(out)[5] == ["1,2", "1,3", "9,2", "9,3"]


@pytest.mark.usefixtures("silicon")
def test_dump_of_a_load_names_matrix_row_and_column(capsys) -> None:
    _, out, _ = run(capsys, "dump", "ldmatrix m8n8 x4.trans")
    assert lanes_of(out)[5][:4] == ["0,2,1", "0,3,1", "1,2,1", "1,3,1"]
    x4 = "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
    _, out, _ = run(capsys, "dump", x4, "--fill", "same")
    assert lanes_of(out)[31][:4] == ["0,0,6", "0,0,7", "0,0,6", "0,0,7"]
    _, out, _ = run(capsys, "dump", x4, "--fill", "scattered")
    assert lanes_of(out)[5][:4] == ["0,1,2", "0,1,3", "1,1,2", "1,1,3"]


@pytest.mark.usefixtures("silicon")
def test_dump_all_as_json_and_csv(capsys) -> None:
    _, out, _ = run(capsys, "dump", MMA.ptx, "--operand", "all", "--json")
    data = json.loads(out)
    held = {item["operand"]: item["lanes"] for item in data["operands"]}
    assert sorted(held) == ["A", "B", "C", "D"]
    assert held["D"][0] == [0, 0, 128, 128]
    assert held["A"][4] == [1, 1, 9, 9, 1, 1, 9, 9]
    _, out, _ = run(capsys, "dump", MMA.ptx, "--csv")
    records = list(csv.DictReader(io.StringIO(out)))
    assert len(records) == 128
    assert {key: records[2][key] for key in ("lane", "register", "row", "col", "value")} == {
        "lane": "0", "register": "2", "row": "8", "col": "0", "value": "128",
    }  # fmt: skip


@pytest.mark.usefixtures("silicon")
def test_dump_refuses_what_does_not_exist(capsys) -> None:
    for words, said in (
        ([MMA.ptx, "--fill", "none"], "rows"),
        ([MMA.ptx, "--operand", "E"], "A, B, C, D"),
        ([MMA.ptx, "--block", "1"], "has 1"),
    ):
        code, _, err = run(capsys, "dump", *words)
        assert code == 2
        assert said in err


def test_dump_of_an_instruction_that_the_device_lacks_exits_5(capsys, monkeypatch) -> None:
    monkeypatch.setattr(backends, "select", lambda name: (Silicon(cc=75), "old"))
    code, _, err = run(capsys, "dump", MMA.ptx)
    assert code == 5
    assert "needs sm_80" in err


@pytest.mark.usefixtures("silicon")
def test_dump_without_a_fill_takes_one_that_the_instruction_has(capsys) -> None:
    for ptx, fill, operand in (
        ("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", "rows", "D"),
        ("mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32", "integers", "A"),
        ("mma.sp.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "integers", "E"),
    ):
        code, out, _ = run(capsys, "dump", ptx, "--operand", operand)
        assert code == 0
        assert f"fill {fill}" in out
        assert len(lanes_of(out)) == 32


@pytest.mark.usefixtures("silicon")
def test_dump_of_a_store_is_refused_with_what_asks_about_it(capsys) -> None:
    code, _, err = run(capsys, "dump", "stmatrix.sync.aligned.m8n8.x1.shared.b16")
    assert code == 5
    assert "attnprobe probe" in err
