"""``attnprobe layout where | repack | load | diff``: every form of output, and the refusals."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from attnprobe.cli import main
from attnprobe.commands import layout as layout_command
from attnprobe.commands import layout_questions

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"


@pytest.fixture
def layout(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs ``attnprobe layout`` and returns (exit code, stdout, stderr)."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["layout", *argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def examples() -> list[str]:
    texts = (layout_command._SHOW_EXAMPLES, *layout_questions.QUESTION_EXAMPLES)
    lines = [line.strip() for text in texts for line in text.splitlines()]
    shown = [line.partition("   ")[0] for line in lines if line.startswith("attnprobe layout")]
    return [line for line in shown if not line.endswith("--record")]  # that one needs a GPU


@pytest.mark.parametrize("command", examples())
def test_every_example_of_the_help_works(
    command: str, layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = layout(*shlex.split(command)[2:])
    assert code == 0
    assert err == "" or err.startswith("backend: ")
    assert out.strip()


# --- where ----------------------------------------------------------------------------------------


def test_where_shows_the_whole_matrix(layout: Any) -> None:
    _, out, _ = layout("where", F16, "--operand", "A")
    lines = out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("m \\ k"))
    assert lines[head].split()[3:] == [str(k) for k in range(16)]
    row_9 = lines[head + 10].split()
    assert row_9[0] == "9"
    assert row_9[1:5] == ["4:1.lo", "4:1.hi", "5:1.lo", "5:1.hi"]
    assert "0:0.lo" not in row_9
    assert "A cell is lane:register, such as: 31:3.hi is lane 31, a[3].hi." in out


def test_where_as_json_holds_every_position(layout: Any) -> None:
    shown = json.loads(layout("where", F16, "--json")[1])
    assert shown["schema"] == "attnprobe.layout.matrix/1"
    a = shown["operands"]["A"]
    assert (a["sizes"], a["holder"]) == ([16, 16], ["lane", "register", "part"])
    assert a["matrix"][9][3] == [[5, 1, 1]]
    assert shown["operands"]["B"]["matrix"][15][7] == [[31, 1, 1]]


def test_where_of_a_load_counts_its_matrices(layout: Any) -> None:
    shown = json.loads(
        layout("where", "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "--json")[1]
    )
    d = shown["operands"]["D"]
    assert len(d["matrices"]) == 4
    assert d["matrices"][2][1][7] == [[28, 2, 1]]


def test_where_as_csv_is_in_the_order_of_positions(layout: Any) -> None:
    records = list(csv.DictReader(io.StringIO(layout("where", F16, "--operand", "B", "--csv")[1])))
    places = [(int(each["row"]), int(each["col"])) for each in records]
    assert places == [(k, n) for k in range(16) for n in range(8)]


def test_where_shows_the_whole_register_file(layout: Any) -> None:
    _, out, _ = layout("where", F16, "--registers", "--operand", "B")
    assert out.splitlines()[-1].split() == ["31", "(6,7)", "(7,7)", "(14,7)", "(15,7)"]


def test_where_answers_look_ups_as_show_does(layout: Any) -> None:
    for asked in (["--at", "9,3"], ["--lane", "5", "--reg", "1"]):
        assert layout("where", F16, *asked)[1] == layout("show", F16, *asked)[1]


def test_a_sum_written_out(layout: Any) -> None:
    _, out, _ = layout("where", F16, "--dot", "9,3")
    lines = out.splitlines()
    assert "D[9][3] is lane 5 d[3]" in lines
    assert lines[-1].split("  ") == ["15", "lane 7 a[3] bits 16-31", "lane 15 b[1] bits 16-31"]
    shown = json.loads(layout("where", F16, "--dot", "9,3", "--json")[1])
    assert [term["k"] for term in shown["terms"]] == [[k] for k in range(16)]
    assert shown["terms"][5]["a"][0]["lane"] == 6


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "start"), [("svg", "<svg "), ("html", "<!doctype html>")])
@pytest.mark.parametrize("action", ["show", "where"])
def test_a_picture_is_written_to_a_file_or_to_standard_output(
    action: str, form: str, start: str, layout: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{form}"
    assert layout(action, F16, f"--{form}", str(path)) == (0, f"{path}\n", "")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(start)
    assert layout(action, F16, f"--{form}", "-")[1] == text


def test_a_picture_of_one_operand_shows_no_other(layout: Any) -> None:
    text = layout("show", F16, "--operand", "B", "--svg", "-")[1]
    assert "B[0][0]: lane 0" in text
    assert "A[0][0]" not in text


def test_a_file_that_cannot_be_written_is_an_error(layout: Any, tmp_path: Path) -> None:
    code, _, err = layout("show", F16, "--svg", str(tmp_path / "no" / "such.svg"))
    assert code == 2
    assert "cannot write" in err


def test_show_in_cute_notation(layout: Any) -> None:
    assert layout("show", F16, "--cute", "--operand", "A")[1] == (
        "A  ((4,8),(2,2,2)):((32,1),(16,8,128))  // (T,V) -> (m,k) of (16,16)\n"
    )


def test_markdown_has_a_row_for_each_lane(layout: Any) -> None:
    _, out, _ = layout("show", F16, "--operand", "D", "--md")
    assert out.startswith(f"# {F16.replace('_', chr(92) + '_')}\n")
    assert "| 31 | (7,6) | (7,7) | (15,6) | (15,7) |" in out.splitlines()


def test_show_says_what_a_gpu_executes(layout: Any) -> None:
    """On sm_89 fp8 has tensor cores of its own; on sm_90 mma.sync converts it to f16."""
    lines = layout("show", FP8)[1].splitlines()
    assert "sm_89, sm_120a: QMMA.16832.F32.E4M3.E4M3 (native)" in lines
    assert "sm_90a, sm_100a: 2x HMMA.16816.F32 (split)" in lines
    shown = json.loads(layout("show", FP8, "--json")[1])["hardware"]
    assert {"target": "sm_90a", "sass": "2x HMMA.16816.F32", "how": "split"} in shown


# --- repack, load, diff ---------------------------------------------------------------------------


def test_repack_says_that_nothing_leaves_its_lane(layout: Any) -> None:
    _, out, _ = layout("repack", F16, F16)
    assert "no value leaves its lane: the registers of D, packed in their order, are" in out
    assert "convert  cvt.rn.f16x2.f32 a[0][3], d[1][3], d[1][2]" in out.splitlines()
    assert "another order of k" not in out


def test_repack_of_fp8_offers_another_order_of_k(layout: Any) -> None:
    _, out, _ = layout("repack", FP8, FP8)
    assert "Without exchange, in another order of k" in out
    shown = json.loads(layout("repack", FP8, FP8, "--json")[1])
    assert shown["recipe"]["exchanges"] == 8
    assert shown["without_exchange"]["exchanges"] == 0
    assert shown["without_exchange"]["k_order"][:8] == [0, 1, 8, 9, 2, 3, 10, 11]


def test_repack_as_cuda_and_as_csv(layout: Any) -> None:
    code = layout("repack", FP8, FP8, "--cuda")[1]
    assert code.count("__shfl_sync") == 8
    records = list(csv.DictReader(io.StringIO(layout("repack", FP8, FP8, "--csv")[1])))
    assert {each["k"] for each in records} == {"in order", "permuted"}


def test_load_says_the_addresses_and_the_conflicts(layout: Any) -> None:
    _, out, _ = layout("load", f"{F16}:A", "--pitch", "128")
    assert "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {a[0], a[1], a[2], a[3]}, [address]" in out
    assert "8-way, 8-way, 8-way, 8-way; 32 passes over the banks instead of 4" in out
    shown = json.loads(
        layout("load", f"{F16}:A", "--pitch", "128", "--swizzle", "128", "--json")[1]
    )
    assert shown["conflict_free"] is True
    assert shown["accesses"][0]["addresses"][17] == {
        "lane": 17, "row": 1, "col": 8, "offset_bytes": 128
    }  # fmt: skip


def test_diff_names_the_digits_that_differ(layout: Any) -> None:
    _, out, _ = layout("diff", f"{F16}:A", f"{FP8}:A")
    assert "lane // 1 % 4  k + 2  k + 4   differs" in out.splitlines()
    records = list(csv.DictReader(io.StringIO(layout("diff", f"{F16}:A", f"{FP8}:A", "--csv")[1])))
    assert len(records) == 224


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["where", "m16n8k61"], "no instruction fits 'm16n8k61'; the nearest"),
        (["where", F16, "--dot", "16,0"], "16,0 is outside operand D"),
        (["where", F16, "--dot", "1,1", "--at", "1,1"], "not allowed with argument"),
        (["where", F16, "--dot", "1,1", "--lane", "1"], "ask one at a time"),
        (["where", F16, "--at", "1,1", "--svg", "-"], "draws whole matrices"),
        (["show", F16, "--lane", "1", "--cute"], "--cute shows whole operands"),
        (["repack", F16, "m16n8k61"], "no instruction fits 'm16n8k61'"),
        (["repack", F16, F16, "--operand", "Q"], "has no operand 'Q'; it has D, A, B, C"),
        (["load", F16], f"name an operand too, such as {F16}:A"),
        (["load", f"{F16}:A", "--swizzle", "3"], "no swizzle '3'; there are none, 32, 64, 128"),
        (["load", f"{F16}:A", "--order", "z"], "no order 'z'"),
        (["diff", F16, f"{F16}:A"], "give both or neither"),
    ],
)
def test_what_does_not_exist_is_refused(argv: list[str], message: str, layout: Any) -> None:
    code, out, err = layout(*argv)
    assert (code, out) == (2, "")
    assert message in err


def test_what_no_instruction_does_has_an_exit_code_of_its_own(layout: Any) -> None:
    code, _, err = layout("repack", M + "m16n8k32.row.col.s32.s8.s8.s32", F16)
    assert code == 5
    assert "no instruction turns s32 into f16" in err
