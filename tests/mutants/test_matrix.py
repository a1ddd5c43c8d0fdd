"""The kill matrix: processes, false alarms, the smallest set of fills, and what a record keeps."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from attnprobe.errors import UsageError
from attnprobe.mutants import matrix, record, workers
from attnprobe.mutants.catalogue import find
from attnprobe.mutants.cover import smallest_cover
from attnprobe.mutants.matrix import Matrix, Row
from attnprobe.mutants.outcome import CRASH, HANG, NO_RESULT, Outcome
from attnprobe.mutants.workers import Answer, Limits, Task

LONG = Limits(60.0, 60.0)
PASSED = Outcome((), 0.5, 1e-4)


def outcome(*refused_by: str) -> Outcome:
    return Outcome(refused_by, 2.0, 1.0)


def made(rows: dict[str, dict[str, Outcome]], fills: tuple[str, ...]) -> Matrix:
    """Return a matrix of some mutants' outcomes by fill, on one scene."""
    return Matrix(
        fills,
        tuple(
            Row(find(name), {fill: {"plain": found} for fill, found in by_fill.items()})
            for name, by_fill in rows.items()
        ),
        {},
    )


@pytest.fixture(scope="module")
def small() -> Matrix:
    """Three mutants and the sound kernel on two fills, in two processes."""
    mutants = [find(name) for name in ("p_pack_halves", "barrier_missing", "swizzle_of_four_rows")]
    return matrix.run(mutants, ("near_uniform", "normal"), jobs=2)


def test_a_matrix_says_what_kills_and_how(small: Matrix) -> None:
    letters = {row.mutant.name: [*map(row.letter, small.fills)] for row in small.rows if row.mutant}
    assert letters == {
        "p_pack_halves": [".", "O"],
        "barrier_missing": ["R", "R"],
        "swizzle_of_four_rows": [".", "."],
    }
    assert small.ok
    assert small.rows[0].killed_by == ("normal",)
    assert small.rows[0].survived == ("near_uniform",)
    assert small.rows[0].old_rule


def test_a_record_comes_back_as_it_was(small: Matrix, tmp_path: Path) -> None:
    kept = record.of(small, {"device": "a test"})
    record.save(kept, tmp_path / "kept.json")
    assert record.load(tmp_path / "kept.json") == kept
    assert kept.cover == ("normal",)
    assert kept.missed_by("near_uniform") == ("p_pack_halves",)
    first = kept.objects()[0]
    assert (first["name"], first["equivalent"]) == ("p_pack_halves", False)
    assert (first["killed_by"], first["survived"]) == (["normal"], ["near_uniform"])


def test_a_part_that_is_run_again_replaces_that_part_of_a_record() -> None:
    old = record.Record(
        {"device": "a", "command": "all"},
        ("near_uniform", "normal"),
        (record.Line("p_pack_halves", ".O", True), record.Line("barrier_missing", "RR", False)),
    )
    new = record.Record(
        {"device": "a", "command": "some"},
        ("normal", "rising"),
        (record.Line("barrier_missing", "MR", False), record.Line("wait_missing", "R.", False)),
    )
    both = record.joined(old, new)
    assert both.fills == ("near_uniform", "normal", "rising")
    assert {line.name: line.cells for line in both.lines} == {
        "p_pack_halves": ".O-",
        "barrier_missing": "RMR",
        "wait_missing": "-R.",
    }
    assert both.environment == {"device": "a", "command": "some", "before": "all"}
    assert [line.old_rule for line in both.lines] == [True, False, False]


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="no kill matrix"):
        record.load(path)


def test_a_survivor_a_false_alarm_and_a_refuted_equivalence_are_told() -> None:
    alive = made({"p_pack_halves": {"normal": PASSED}}, ("normal",))
    assert [row.mutant.name for row in alive.alive if row.mutant] == ["p_pack_halves"]
    refuted = made({"swizzle_of_four_rows": {"normal": outcome("bound")}}, ("normal",))
    assert [row.mutant.name for row in refuted.refuted if row.mutant] == ["swizzle_of_four_rows"]
    alarm = Matrix(("normal",), (), {"plain": Row(None, {"normal": {"plain": outcome("lse")}})})
    assert alarm.false_alarms == (("plain", "normal"),)
    assert [found.ok for found in (alive, refuted, alarm)] == [False] * 3


def test_a_gpu_need_not_see_what_is_wrong_by_its_timing_alone() -> None:
    row = Row(find("wgmma_fence_of_s"), {"normal": {"hopper": PASSED}})
    assert Matrix(("normal",), (row,), {}, place="gpu").alive == ()
    assert Matrix(("normal",), (row,), {}).alive == (row,)


def test_the_gravest_of_several_scenes_is_shown() -> None:
    row = Row(find("tail_zero"), {"normal": {"plain": outcome("lse"), "causal": outcome("race")}})
    assert row.letter("normal") == "R"
    assert row.letter("another") == "-"


@pytest.mark.parametrize("seed", range(20))
def test_the_cover_is_a_smallest_one(seed: int) -> None:
    rng = random.Random(seed)
    fills = "abcdefg"
    killers = {str(i): rng.sample(fills, rng.randint(1, 3)) for i in range(12)}
    cover = smallest_cover(killers)
    assert all(set(cover) & set(need) for need in killers.values())
    for fewer in itertools.combinations(fills, len(cover) - 1):
        assert not all(set(fewer) & set(need) for need in killers.values())


def test_mutants_that_nothing_kills_do_not_hinder_a_cover() -> None:
    assert smallest_cover({"a": [], "b": ["x"]}) == ("x",)
    assert smallest_cover({}) == ()


def _die(link: object, place: str) -> None:
    os._exit(9)


def test_a_process_that_dies_costs_one_fill_until_there_are_three(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [Task(None, "plain", ("normal", "outliers", "sink", "peaked", "rising"))]
    monkeypatch.setattr(workers, "_serve", _die)
    answers = list(workers.run(tasks, "emulator", 1, LONG))
    assert {each.fill for each in answers} == set(tasks[0].fills)
    assert answers[0] == Answer(tasks[0], "normal", Outcome((CRASH,), NO_RESULT, NO_RESULT))
    assert sorted(each.outcome.letter for each in answers) == ["-", "-", "C", "C", "C"]


def test_a_process_that_takes_too_long_is_ended() -> None:
    tasks = [Task(None, "plain", ("normal", "outliers"))]
    stuck = [
        each.outcome.refused_by for each in workers.run(tasks, "emulator", 2, Limits(0.01, 0.01))
    ]
    assert stuck == [(HANG,), (HANG,)]


def _hang(link: Any, place: str) -> None:
    """Compile at once; the kernel of the first fill ends, that of the second never does."""
    for fill in link.recv().fills:
        link.send(workers._LAUNCHING)
        if fill != "normal":
            time.sleep(60)
        link.send(PASSED)


def test_a_kernel_that_never_ends_is_not_waited_for_as_a_compile_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_serve", _hang)
    tasks = [Task(None, "plain", ("normal", "outliers", "sink", "peaked"))]
    begin = time.monotonic()
    answers = list(workers.run(tasks, "gpu", 1, Limits(120.0, 0.3)))
    assert [each.outcome.letter for each in answers] == [".", "D", "D", "-"]
    assert time.monotonic() - begin < 60


def test_ctrl_c_keeps_what_is_finished() -> None:
    def stop(task: Task, number: int, total: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    mutants = [find("p_pack_halves"), find("k_fragment_halves")]
    found = matrix.run(mutants, ("normal",), jobs=1, done=stop)
    assert found.stopped
    assert [row.mutant for row in found.rows] == mutants[:1]
    assert list(found.sound) == ["plain"]
    assert not found.ok


def test_an_error_of_the_rig_itself_stops_the_run() -> None:
    with pytest.raises(UsageError, match="no mutant"):
        list(workers.run([Task("no_such", "plain", ("normal",))], "emulator", 1, LONG))


def test_an_unknown_fill_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="no fill"):
        matrix.run([find("p_pack_halves")], ("nothing",))
