"""A row added to the catalogue shows up wherever rows are read, with no other edit."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnprobe import layouts
from attnprobe.cli import main
from attnprobe.formats import FORMATS
from attnprobe.layouts import Digit, Fragment, Instruction, Operand

TOOL = Path(__file__).resolve().parents[2] / "tools" / "write_docs.py"

# A warpgroup, a width that is no power of two, and lanes numbered in an order that no mma has.
LANES = (Digit(16, row=4), Digit(4, row=1), Digit(2, col=12))
MADE_UP = Instruction(
    ptx="mma.made.up.m64n24k8",
    family="mma",
    shape=(64, 24, 8),
    operands=(
        Operand("D", Fragment(64, 24, LANES, (Digit(12, col=1),)), FORMATS["f32"], ("m", "n")),
        Operand(
            "A",
            Fragment(64, 8, (*LANES[:2], Digit(2, col=1)), (Digit(4, col=2),)),
            FORMATS["bf16"],
            ("m", "k"),
        ),
    ),
    min_ptx="9.9",
    min_cc=199,
    source="made up",
)


@pytest.fixture(autouse=True)
def in_the_catalogue() -> Iterator[None]:
    with layouts.added(MADE_UP):
        yield


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "list", "made.up", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["ptx"], listed["min_ptx"], listed["targets"]) == (MADE_UP.ptx, "9.9", "sm_199+")


def test_it_is_shown_with_all_its_lanes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "show", "n24k8", "--json"]) == 0
    d = json.loads(capsys.readouterr().out)["operands"]["D"]
    assert (d["rows"], d["cols"], len(d["lanes"])) == (64, 24, 128)
    assert d["lanes"][17][:2] == [[5, 0], [5, 1]]  # lane 17 = 1 + 16 * 1: row 4 + 1
    assert d["formulas"] == {"m": "4 * (lane % 16) + lane // 16 % 4", "n": "12 * (lane // 64) + i"}
    assert d["inverse"] == {"lane": "64 * (n // 12) + 16 * (m % 4) + m // 4", "i": "n % 12"}


def test_its_lanes_and_positions_can_be_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "show", "made.up", "--at", "63,23", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"{MADE_UP.ptx},D,127,11,0,11,,63,23"]
    assert main(["layout", "show", "made.up", "--lane", "128"]) == 2
    assert "lanes are 0 to 127" in capsys.readouterr().err


def test_it_is_on_the_page_of_fragments() -> None:
    spec = importlib.util.spec_from_file_location("write_docs", TOOL)
    assert spec is not None
    assert spec.loader is not None
    write_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_docs)
    (page,) = write_docs.written(only="docs/fragments.md").values()
    assert f"| `{MADE_UP.ptx}` | 1 | D 12, A 2 | 9.9 | sm_199+ | made up |" in page
    assert "| D of m64n24 | m x n = 64 x 24 |" in page
    assert "`n = 12 * (lane // 64) + i`" in page
