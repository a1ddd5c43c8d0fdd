"""The kill matrix: every mutant by every fill, and first the sound kernel, which all must pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnprobe.mutants import workers
from attnprobe.mutants.mutant import Mutant
from attnprobe.mutants.outcome import LETTERS, NOT_RUN, SURVIVED, Outcome
from attnprobe.mutants.scenes import SCENES
from attnprobe.mutants.workers import Limits, Task
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.fills import fill as find_fill

TAME = "near_uniform"  # the fill that the old test used
# A mutant that loops is ended, a slow machine is waited for.
LIMITS: Mapping[str, Limits] = {"emulator": Limits(300.0, 300.0), "gpu": Limits(90.0, 8.0)}


@dataclass(frozen=True)
class Row:
    """One mutant, or the sound kernel on one scene, on every fill.

    Attributes
    ----------
    mutant : None for the sound kernel.
    outcomes : fill -> scene -> what it came to; a fill that is not made for a scene's number
        format is not run there.
    """

    mutant: Mutant | None
    outcomes: Mapping[str, Mapping[str, Outcome]]

    @property
    def killed_by(self) -> tuple[str, ...]:
        """The fills that refuse it on some scene."""
        return tuple(f for f, found in self.outcomes.items() if _letter(found) not in _PASSED)

    @property
    def survived(self) -> tuple[str, ...]:
        """The fills that it passes on every scene."""
        return tuple(f for f, found in self.outcomes.items() if _letter(found) == SURVIVED)

    def letter(self, fill: str) -> str:
        """Return the letter of outcome.LETTERS for one fill, the gravest of its scenes."""
        return _letter(self.outcomes.get(fill, {}))

    @property
    def old_rule(self) -> bool:
        """Whether the old test, near-uniform data and a fixed limit on O, lets it pass."""
        found = self.outcomes.get(TAME, {})
        return bool(found) and all(outcome.old_rule for outcome in found.values())


_PASSED = (SURVIVED, NOT_RUN)


def _letter(found: Mapping[str, Outcome]) -> str:
    letters = {outcome.letter for outcome in found.values()}
    order = (*LETTERS, SURVIVED)
    return min(letters, key=order.index, default=NOT_RUN)


@dataclass(frozen=True)
class Matrix:
    """What every mutant came to.

    Attributes
    ----------
    fills : names of the columns.
    rows : one for each mutant.
    sound : the sound kernel, by scene.
    stopped : whether the run was interrupted; then only mutants that were finished have a row.
    place : "emulator" or "gpu".
    """

    fills: tuple[str, ...]
    rows: tuple[Row, ...]
    sound: Mapping[str, Row]
    stopped: bool = False
    place: str = "emulator"

    @property
    def false_alarms(self) -> tuple[tuple[str, str], ...]:
        """(scene, fill) where the sound kernel is refused."""
        return tuple((scene, fill) for scene, row in self.sound.items() for fill in row.killed_by)

    @property
    def alive(self) -> tuple[Row, ...]:
        """Mutants that no fill kills, and that some fill should.

        Those that are argued to be equivalent are none of them, nor on a GPU those of timing.
        """
        return tuple(
            row
            for row in self.rows
            if not row.killed_by and not _argued(row) and not (self.place == "gpu" and _timing(row))
        )

    @property
    def refuted(self) -> tuple[Row, ...]:
        """Mutants that are argued to be equivalent and that some fill kills."""
        return tuple(row for row in self.rows if row.killed_by and _argued(row))

    @property
    def ok(self) -> bool:
        """Whether every faulty mutant is killed, and nothing sound is."""
        return not (self.stopped or self.false_alarms or self.alive or self.refuted)


def _argued(row: Row) -> bool:
    return row.mutant is not None and bool(row.mutant.equivalent)


def _timing(row: Row) -> bool:
    return row.mutant is not None and row.mutant.timing


def run(
    mutants: Sequence[Mutant],
    fills: Collection[str] = (),
    *,
    place: str = "emulator",
    jobs: int = 1,
    done: Callable[[Task, int, int], Any] = lambda task, number, total: None,
) -> Matrix:
    """Run every mutant on every fill, each on its own scenes, and the sound kernel on these.

    Parameters
    ----------
    fills : names; all where it is empty.
    place : "emulator" or "gpu".
    jobs : processes at a time. Ctrl-C ends the run, and what is finished is returned.
    done : called with each task whose last fill has been judged, its number and how many there are.

    Raises
    ------
    UsageError
        For a fill that does not exist.
    CompileError
        If a mutant no longer applies to the kernel text.
    """
    names = tuple(find_fill(name).name for name in fills) or tuple(FILLS)
    scenes = [name for name in SCENES if any(name in mutant.seen_on for mutant in mutants)]
    tasks = [
        Task(mutant, scene, _made_for(scene, names))
        for scene in scenes
        for mutant in (None, *(row.name for row in mutants if scene in row.seen_on))
    ]
    answers, stopped = _answers(tasks, place, jobs, done)
    whole = {
        (task.mutant, task.scene)
        for task in tasks
        if len(answers[task.mutant, task.scene]) == len(task.fills)
    }
    sound = {
        scene: Row(None, _by_fill([(None, scene)], answers, names))
        for scene in scenes
        if (None, scene) in whole
    }
    keys = {mutant.name: [(mutant.name, scene) for scene in mutant.seen_on] for mutant in mutants}
    rows = tuple(
        Row(mutant, _by_fill(keys[mutant.name], answers, names))
        for mutant in mutants
        if whole.issuperset(keys[mutant.name])
    )
    return Matrix(names, rows, sound, stopped, place)


_Answers = dict[tuple[str | None, str], dict[str, Outcome]]


def _made_for(scene: str, fills: tuple[str, ...]) -> tuple[str, ...]:
    dtype = SCENES[scene].case.dtype
    return tuple(name for name in fills if dtype in find_fill(name).formats)


def _answers(
    tasks: list[Task], place: str, jobs: int, done: Callable[[Task, int, int], Any]
) -> tuple[_Answers, bool]:
    """Return what came, and whether Ctrl-C ended it."""
    sizes = {(task.mutant, task.scene): len(task.fills) for task in tasks}
    found: _Answers = {key: {} for key in sizes}
    finished = 0
    try:
        for answer in workers.run(tasks, place, jobs, LIMITS[place]):
            key = (answer.task.mutant, answer.task.scene)
            found[key][answer.fill] = answer.outcome
            if len(found[key]) == sizes[key]:
                finished += 1
                done(answer.task, finished, len(tasks))
    except KeyboardInterrupt:
        return found, True
    return found, False


def _by_fill(
    keys: Sequence[tuple[str | None, str]], answers: _Answers, fills: tuple[str, ...]
) -> dict[str, dict[str, Outcome]]:
    return {
        fill: {key[1]: answers[key][fill] for key in keys if fill in answers[key]} for fill in fills
    }
