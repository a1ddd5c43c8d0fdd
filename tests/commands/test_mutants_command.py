"""``attnprobe mutants``: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnprobe.cli import main
from attnprobe.mutants.catalogue import MUTANTS

ONE = ["mutants", "--mutant", "p_pack_halves", "--backend", "emulator", "-j", "1"]


def test_the_list_names_every_mutant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"{row.name}  ({row.family}, {row.subject})" in out for row in MUTANTS)


def test_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fills = ["--fill", "normal", "--fill", "near_uniform"]
    assert main([*ONE, *fills, "--json", "--record", str(tmp_path)]) == 0
    said = capsys.readouterr()
    (row,) = json.loads(said.out)
    assert row["name"] == "p_pack_halves"
    assert row["equivalent"] is False
    assert row["killed_by"] == ["normal"]
    assert row["survived"] == ["near_uniform"]
    assert "backend: emulator" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mutants-emulator.json"]


def test_a_survivor_is_a_failure_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ONE, "--fill", "near_uniform"]) == 1
    said = capsys.readouterr()
    assert "alive: p_pack_halves" in said.err
    assert "near_uniform misses 1" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mutant", "p_repack"], "no mutant 'p_repack'"),
        (["--family", "colours"], "no family 'colours'"),
        (["--fill", "tame"], "no fill is called 'tame'"),
    ],
)
def test_unknown_names_are_mistakes_of_the_call(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mutants", "--backend", "emulator", *arguments]) == 2
    assert message in capsys.readouterr().err
