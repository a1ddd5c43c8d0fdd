"""``attnprobe layout``: the JSON and CSV that other tools read, the look-ups, the refusals."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from attnprobe import layouts
from attnprobe.cli import main
from attnprobe.layouts import Instruction

F32_F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"

# One row of each kind; of wgmma the smallest N, and one that is no power of two.
WARP = ("mma", "mma.sp", "mma.block_scale", "ldmatrix", "stmatrix", "movmatrix")
WIDTHS = [row for row in layouts.distinct("wgmma", "wgmma.sp") if row.shape[1] in (8, 24)]
every_row = pytest.mark.parametrize(
    "row", [*layouts.distinct(*WARP), *WIDTHS[::3]], ids=lambda row: row.ptx
)


@pytest.fixture
def layout(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs ``attnprobe layout`` and returns (exit code, stdout, stderr)."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["layout", *argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def lanes_by_digits(row: Instruction, name: str) -> list[list[list[int]]]:
    """Return an operand's positions as the contract wants them, from the formulas in words."""
    operand = row[name]
    formulas = operand.formulas().values()
    return [
        [
            [eval(text, {}, {"lane": lane, "i": i}) for text in formulas]
            for i in range(operand.fragment.elements)
        ]
        for lane in range(operand.fragment.lanes)
    ]


# --- list -----------------------------------------------------------------------------------------


def test_list_as_json_is_a_list_of_objects(layout: Any) -> None:
    code, out, err = layout("list", "--json")
    listed = json.loads(out)
    assert (code, err) == (0, "")
    assert [(row["ptx"], row["family"], row["min_ptx"], row["targets"]) for row in listed] == [
        (row.ptx, row.family, row.min_ptx, row.targets) for row in layouts.rows()
    ]
    assert listed[0] == {
        "ptx": F32_F16,
        "family": "mma",
        "shape": {"m": 16, "n": 8, "k": 16},
        "min_ptx": "7.0",
        "targets": "sm_80+",
        "operands": {
            "D": {"format": "f32", "rows": 16, "cols": 8, "registers": 4},
            "A": {"format": "f16", "rows": 16, "cols": 16, "registers": 4},
            "B": {"format": "f16", "rows": 16, "cols": 8, "registers": 2},
            "C": {"format": "f32", "rows": 16, "cols": 8, "registers": 4},
        },
        "source": layouts.rows()[0].source,
    }


def test_list_takes_words(layout: Any) -> None:
    _, out, _ = layout("list", "ldmatrix", "m8n8", "trans", "--json")
    assert [row["ptx"].split(".")[4] for row in json.loads(out)] == ["x1", "x2", "x4"]


def test_list_as_text_has_a_line_for_each_row_and_cuts_nothing(layout: Any) -> None:
    code, out, _ = layout("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["instruction", "family", "registers", "PTX", "targets"]
    assert [line.split()[0] for line in lines[1:]] == [row.mnemonic for row in layouts.rows()]
    assert all(
        line.rstrip().endswith(row.targets)
        for line, row in zip(lines[1:], layouts.rows(), strict=True)
    )


def test_list_as_csv(layout: Any) -> None:
    _, out, _ = layout("list", "--csv")
    records = list(csv.DictReader(io.StringIO(out)))
    assert [record["ptx"] for record in records] == [row.ptx for row in layouts.rows()]
    assert records[0]["shape"] == "m16n8k16"
    assert records[0]["source"] == layouts.rows()[0].source  # it has commas in it


def test_list_of_what_nothing_fits_names_the_nearest(layout: Any) -> None:
    code, out, err = layout("list", "m16n8k61")
    assert (code, out) == (2, "")
    assert err.startswith("attnprobe: no instruction fits 'm16n8k61'; the nearest:\n  mma.sync")


# --- show -----------------------------------------------------------------------------------------


@every_row
def test_show_as_json_holds_every_lane_of_every_operand(row: Instruction, layout: Any) -> None:
    code, out, err = layout("show", row.ptx, "--json")
    shown = json.loads(out)
    assert (code, err) == (0, "")
    assert shown["schema"] == "attnprobe.layout.show/1"
    assert shown["ptx"] == row.ptx
    assert list(shown["operands"]) == [operand.name for operand in row.operands]
    for name, operand in shown["operands"].items():
        assert operand["name"] == name
        assert operand["lanes"] == lanes_by_digits(row, name)
        size = (operand.get("matrices", 1), operand["rows"], operand["cols"])
        assert size == (row[name].matrices, *row[name].axis_sizes[-2:])


def test_show_as_json_begins_as_the_manual_draws_it(layout: Any) -> None:
    operands = json.loads(layout("show", F32_F16, "--json")[1])["operands"]
    a = operands["A"]
    assert a["lanes"][0] == [[0, 0], [0, 1], [8, 0], [8, 1], [0, 8], [0, 9], [8, 8], [8, 9]]
    assert a["lanes"][31][:3] == [[7, 6], [7, 7], [15, 6]]
    assert operands["B"]["lanes"][1] == [[2, 0], [3, 0], [10, 0], [11, 0]]
    assert operands["D"]["lanes"][4] == [[1, 0], [1, 1], [9, 0], [9, 1]]
    assert operands["C"]["lanes"] == operands["D"]["lanes"]
    facts = {"format": "f16", "bits": 16, "registers": 4, "axes": ["m", "k"], "copies": 1}
    assert {name: a[name] for name in facts} == facts
    assert (a["elements_per_lane"], a["elements_per_register"]) == (8, 2)


def test_show_of_ldmatrix_says_which_lane_supplies_which_address(layout: Any) -> None:
    shown = json.loads(layout("show", "ldmatrix m8n8 x2", "--json")[1])
    assert shown["addresses"] == [[lane // 8, lane % 8] for lane in range(16)]
    assert shown["operands"]["D"]["lanes"][5] == [[0, 1, 2], [0, 1, 3], [1, 1, 2], [1, 1, 3]]
    _, out, _ = layout("show", "ldmatrix m8n8 x2")
    assert "Addresses: lanes 0 to 15 each supply that of one row; those of the other lanes" in out
    assert "     1  lane 8  lane 9  lane 10  lane 11" in out


def test_show_of_ldmatrix_trans_gives_places_in_memory(layout: Any) -> None:
    operand = json.loads(layout("show", "ldmatrix x4 trans", "--json")[1])["operands"]["D"]
    assert operand["lanes"][5] == [
        [matrix, row, 1] for matrix in range(4) for row in (2, 3)
    ]  # lane 5: column 1, rows 2 and 3 of each matrix


@every_row
def test_show_as_text_has_every_cell_and_both_formulas(row: Instruction, layout: Any) -> None:
    code, out, _ = layout("show", row.ptx)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == row.ptx
    assert "\x1b" not in out
    for operand in row.operands:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{operand.name}: "))
        section = lines[at:]
        formulas = operand.formulas() | operand.inverse()
        shown = dict(line.strip().split(" = ", 1) for line in section[2 : 2 + len(formulas)])
        assert {name.strip(): text for name, text in shown.items()} == formulas
        first = next(i for i, line in enumerate(section) if line.startswith("lane ")) + 2
        cells = [line.split() for line in section[first : first + row.lanes]]
        expected = [
            [str(lane), *(f"({','.join(map(str, position))})" for position in positions)]
            for lane, positions in enumerate(operand.coords().tolist())
        ]
        assert cells == expected


def test_show_of_one_operand_shows_no_other(layout: Any) -> None:
    assert list(json.loads(layout("show", F32_F16, "--operand", "b", "--json")[1])["operands"]) == [
        "B"
    ]
    assert "A: " not in layout("show", F32_F16, "--operand", "B")[1]


def test_show_as_csv_has_a_record_for_each_element(layout: Any) -> None:
    _, out, _ = layout("show", F32_F16, "--csv")
    records = list(csv.DictReader(io.StringIO(out)))
    row = layouts.find(F32_F16)
    assert len(records) == 32 * sum(operand.fragment.elements for operand in row.operands)
    of_a = [record for record in records if record["operand"] == "A" and record["lane"] == "5"]
    assert [(r["register"], r["part"], r["element"], r["row"], r["col"]) for r in of_a[:3]] == [
        ("0", "0", "0", "1", "2"),
        ("0", "1", "1", "1", "3"),
        ("1", "0", "2", "9", "2"),
    ]
    assert {record["matrix"] for record in records} == {""}


# --- the two look-ups -----------------------------------------------------------------------------


def found(out: str) -> list[tuple[str, int, int, int, list[int]]]:
    return [
        (each["operand"], each["lane"], each["register"], each["part"], each["position"])
        for each in json.loads(out)["held"]
    ]


def test_what_a_lane_holds_in_a_register(layout: Any) -> None:
    code, out, _ = layout("show", F32_F16, "--lane", "5", "--reg", "1", "--json")
    assert code == 0
    assert found(out) == [
        ("D", 5, 1, 0, [1, 3]),
        ("A", 5, 1, 0, [9, 2]),
        ("A", 5, 1, 1, [9, 3]),
        ("B", 5, 1, 0, [10, 1]),
        ("B", 5, 1, 1, [11, 1]),
        ("C", 5, 1, 0, [1, 3]),
    ]
    assert json.loads(out)["query"] == {"lane": 5, "register": 1}


def test_what_a_lane_holds_in_a_register_of_one_operand_as_text(layout: Any) -> None:
    _, out, _ = layout("show", F32_F16, "--lane", "5", "--reg", "1", "--operand", "A")
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["operand", "axes", "position", "lane", "register", "bits", "i"],
        ["A", "(m,k)", "(9,2)", "5", "a[1]", "0-15", "2"],
        ["A", "(m,k)", "(9,3)", "5", "a[1]", "16-31", "3"],
    ]


def test_a_register_that_only_some_operands_have_is_answered_for_those(layout: Any) -> None:
    code, out, _ = layout("show", F32_F16, "--lane", "0", "--reg", "3", "--json")
    assert code == 0
    assert {operand for operand, *_ in found(out)} == {"A", "C", "D"}
    assert json.loads(out)["without"] == [
        "register 3 is out of range; operand B has 2: b[0] to b[1]"
    ]


def test_a_whole_lane_and_a_whole_register_can_be_asked_for(layout: Any) -> None:
    lane = found(layout("show", F32_F16, "--lane", "7", "--operand", "A", "--json")[1])
    assert [position for *_, position in lane] == layouts.find(F32_F16)["A"].coords()[7].tolist()
    register = found(layout("show", F32_F16, "--reg", "2", "--operand", "A", "--json")[1])
    assert [(lane, part) for _, lane, _, part, _ in register] == [
        (lane, part) for lane in range(32) for part in range(2)
    ]


@every_row
def test_the_two_look_ups_are_inverse(row: Instruction, layout: Any) -> None:
    operand = row.operands[-1]
    for lane, i in (
        (0, 0),
        (13, operand.fragment.elements - 1),
        (31, operand.fragment.elements // 2),
    ):
        position = operand.coords()[lane, i].tolist()
        at = ",".join(map(str, position))
        _, out, _ = layout("show", row.ptx, "--at", at, "--operand", operand.name, "--json")
        holders = found(out)
        assert (operand.name, lane, *operand.slot(i), position) in holders
        assert len(holders) == operand.fragment.copies


def test_who_holds_a_position_in_each_operand_that_has_it(layout: Any) -> None:
    code, out, _ = layout("show", F32_F16, "--at", "9,3")
    lines = [line.split() for line in out.splitlines()[3:]]
    assert code == 0
    assert lines == [
        ["D", "(m,n)", "(9,3)", "5", "d[3]", "0-31", "3"],
        ["A", "(m,k)", "(9,3)", "5", "a[1]", "16-31", "3"],
        ["B", "(k,n)", "(9,3)", "12", "b[1]", "16-31", "3"],
        ["C", "(m,n)", "(9,3)", "5", "c[3]", "0-31", "3"],
    ]


def test_a_position_of_ldmatrix_may_count_rows_through_the_matrices(layout: Any) -> None:
    by_matrix = found(layout("show", "ldmatrix x4 trans", "--at", "2,1,7", "--json")[1])
    through = found(layout("show", "ldmatrix x4 trans", "--at", "17,7", "--json")[1])
    assert by_matrix == through == [("D", 28, 2, 1, [2, 1, 7])]


def test_look_ups_as_csv(layout: Any) -> None:
    _, out, _ = layout("show", "ldmatrix x4 trans", "--at", "2,1,7", "--csv")
    assert out == (
        "ptx,operand,lane,register,part,element,matrix,row,col\n"
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16,D,28,2,1,5,2,1,7\n"
    )


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["m16n8k16"], "'m16n8k16' fits 28 instructions; name one:\n  mma.sync.aligned.m16n8k16"),
        (["tcgen05"], "no instruction fits 'tcgen05'; the nearest:\n  "),
        ([F32_F16, "--operand", "E"], f"{F32_F16} has no operand 'E'; it has D, A, B, C"),
        ([F32_F16, "--lane", "32"], "lane 32 is out of range; lanes are 0 to 31"),
        ([F32_F16, "--lane", "-1"], "lane -1 is out of range; lanes are 0 to 31"),
        ([F32_F16, "--reg", "4", "--operand", "A"], "register 4 is out of range; operand A has 4"),
        ([F32_F16, "--reg", "9"], "register 9 is out of range; operand D has 4: d[0] to d[3]\n"),
        ([F32_F16, "--at", "16,0", "--operand", "A"], "operand A: m is 0 to 15, k is 0 to 15"),
        ([F32_F16, "--at", "3,12", "--operand", "B"], "3,12 is outside operand B: k is 0 to 15, n"),
        ([F32_F16, "--at", "1,2,3", "--operand", "A"], "is no position of operand A; give m,k"),
        (["ldmatrix x4 trans", "--at", "4,0,0"], "matrix is 0 to 3, row is 0 to 7, col is 0 to 7"),
        (["ldmatrix x4 trans", "--at", "32,0"], "row is 0 to 31, col is 0 to 7"),
        ([F32_F16, "--at", "1,2", "--lane", "3"], "give one or the other"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    argv: list[str], message: str, layout: Any
) -> None:
    code, out, err = layout("show", *argv)
    assert (code, out) == (2, "")
    assert err.startswith("attnprobe: ")
    assert message in err


@pytest.mark.parametrize("at", ["7", "a,b", "1,2,3,4", ""])
def test_a_position_that_is_no_position_is_refused(at: str, layout: Any) -> None:
    code, _, err = layout("show", F32_F16, "--at", at)
    assert code == 2
    assert "write for example 9,3" in err


def test_json_and_csv_at_once_are_refused(layout: Any) -> None:
    code, _, err = layout("show", F32_F16, "--json", "--csv")
    assert code == 2
    assert "not allowed with argument" in err
