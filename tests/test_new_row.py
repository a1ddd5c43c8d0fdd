"""A made-up row, added to the catalogue and nowhere else, goes through everything made from rows.

NVRTC hands the text of an asm statement to PTX unread, so an instruction that no GPU has can be
compiled and emulated.
"""

import json
import sys
from pathlib import Path

import pytest

from attnprobe import layouts
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.cli import main
from attnprobe.probing import definition, session
from attnprobe.probing.report import MATCH
from tests.probing.made_up import made_up

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools")]

ROW = made_up(24, "f16")


@pytest.fixture(autouse=True)
def added_row():
    with layouts.added(ROW):
        yield


def test_the_emulator_answers_every_question_about_it() -> None:
    report = session.run([ROW], definition.questions(), EmulatorBackend())
    verdicts = {result.probe: (result.verdict, result.reason) for result in report.results}
    assert set(verdicts) == {
        "operand_layout",
        "known_fills",
        "integer_products",
        "random_products",
        "d_is_next_a",
    }
    assert set(verdicts.values()) == {(MATCH, "")}


def test_probe_finds_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["probe", "m16n8k24", "--backend", "emulator", "--question", "operand_layout"])
    assert code == 0
    assert "A match, B match, C match, D match" in capsys.readouterr().out


def test_dump_multiplies_its_24_terms(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["dump", "m16n8k24", "--backend", "emulator", "--json"])
    (held,) = json.loads(capsys.readouterr().out)["operands"]
    assert code == 0
    assert held["lanes"][0] == [0, 0, 24 * 8, 24 * 8]


def test_layout_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "list", "--json"]) == 0
    assert ROW.ptx in {item["ptx"] for item in json.loads(capsys.readouterr().out)}
    assert main(["layout", "show", "m16n8k24", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    a = shown["operands"]["A"]
    assert a["cols"] == 24
    assert a["lanes"][5][-1] == [9, 19]


def test_a_dump_that_was_recorded_without_it_does_not_answer_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["probe", "m16n8k24", "--backend", "recorded"]) == 5
    assert "no record of" in capsys.readouterr().out


def test_the_page_of_fragments_has_it() -> None:
    import write_docs

    (page,) = write_docs.written(only="docs/fragments.md").values()
    assert ROW.ptx in page
