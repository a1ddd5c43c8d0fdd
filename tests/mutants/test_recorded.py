"""The recorded kill matrices are of the rows as they are, and say what the documents claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnprobe.mutants.catalogue import MUTANTS
from attnprobe.mutants.record import Record, load
from attnprobe.numerics.fills import FILLS

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
PATHS = sorted(RECORDED.glob("mutants-*.json"))


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def record(request: pytest.FixtureRequest) -> Record:
    return load(request.param)


@pytest.fixture(scope="module")
def emulated() -> Record:
    return load(RECORDED / "mutants-emulator.json")


def test_every_mutant_is_recorded(record: Record) -> None:
    names = [line.name for line in record.lines]
    assert names == [row.name for row in MUTANTS]
    assert set(record.fills) <= set(FILLS)
    assert all(len(line.cells) == len(record.fills) for line in record.lines)


def test_nothing_refuses_an_equivalent_mutant(record: Record) -> None:
    assert [line.name for line in record.lines if line.equivalent and line.killed] == []


def test_the_emulator_kills_every_faulty_mutant(emulated: Record) -> None:
    assert [line.name for line in emulated.faulty if not line.killed] == []


def test_every_row_is_killed_by_what_it_names(emulated: Record) -> None:
    named = {row.name: set(row.refused_by) & set(emulated.fills) for row in MUTANTS}
    missed = {
        line.name: named[line.name] - set(emulated.killed_by(line)) for line in emulated.faulty
    }
    assert {name: fills for name, fills in missed.items() if fills} == {}


def test_near_uniform_data_miss_a_good_part(emulated: Record) -> None:
    """And under the old limit on O most of all."""
    assert len(emulated.missed_by("near_uniform")) > 10
    slipped = {line.name for line in emulated.faulty if line.old_rule}
    assert slipped >= {row.name for row in MUTANTS if row.slipped}
    assert len(slipped) > len(emulated.faulty) / 3
