"""Runs mutants in processes of their own, so that a crash or a hang ends one of them only.

A task is one mutant on one scene with several fills. A process answers fill by fill; where it dies
or takes too long, that fill has its outcome ("crash", "hang"), and the fills after it become tasks
for other processes, until a mutant has ended several.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from attnprobe.errors import AttnprobeError
from attnprobe.mutants.outcome import CRASH, GIVEN_UP, HANG, NO_RESULT, Outcome

# Matrices are tiny: threads of the BLAS library only get in each other's way.
_ENVIRONMENT = {"ATTNPROBE_CHECKED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Fills that are left after a crash go on in pieces: each may crash again and need a new process.
_PIECE = 3
# A mutant that has ended so many processes on a scene is not run on further fills there. One that
# hangs costs more than one that crashes: its time, and on a GPU that of the kernels beside it.
MOST_FALLEN = 3
_COUNTS = {CRASH: 1, HANG: 2}


@dataclass(frozen=True)
class Limits:
    """Seconds that one fill may take.

    Attributes
    ----------
    compiling : to start a process, and until the kernel is compiled.
    running : from there on to the verdict; on the emulator nothing says when that begins, and all
        is in the first.
    """

    compiling: float
    running: float


_LAUNCHING = "launching"  # what a process says when a kernel is compiled and about to run


@dataclass(frozen=True)
class Task:
    """One mutant (None: the sound kernel) on one scene with several fills, all by name."""

    mutant: str | None
    scene: str
    fills: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a fill of a task came to."""

    task: Task
    fill: str
    outcome: Outcome


def run(tasks: list[Task], place: str, jobs: int, limits: Limits) -> Iterator[Answer]:
    """Yield the outcome of every fill of every task, in the order in which they come.

    Parameters
    ----------
    place : "emulator" or "gpu".
    jobs : processes at a time.
    limits : seconds that one fill may take.

    Raises
    ------
    AttnprobeError
        What a process met that is no fault of the mutant: a mutant that no longer applies, a
        missing compiler. Nothing further is run.
    """
    waiting: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    fallen: Counter[tuple[str | None, str]] = Counter()
    count = min(jobs, len(tasks))
    hands = [_Hand(waiting, answers, fallen, place, limits) for _ in range(count)]
    threads = [threading.Thread(target=hand.work, daemon=True) for hand in hands]
    try:
        with _environment():
            for thread in threads:
                thread.start()
            for _ in range(sum(len(task.fills) for task in tasks)):
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
    finally:
        for hand in hands:
            hand.stop()
        for thread in threads:
            thread.join()


@contextmanager
def _environment() -> Iterator[None]:
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Hand:
    """One thread with one process at a time."""

    def __init__(
        self,
        waiting: Any,
        answers: Any,
        fallen: Counter[tuple[str | None, str]],
        place: str,
        limits: Limits,
    ) -> None:
        self._waiting, self._answers, self._fallen = waiting, answers, fallen
        self._place, self._limits = place, limits
        self._process: Any = None
        self._link: Connection | None = None
        self._stopped = False

    def work(self) -> None:
        """Take tasks until told to stop."""
        while (task := self._waiting.get()) is not None and not self._stopped:
            try:
                self._do(task)
            except Exception as error:
                self._answers.put(error)
                break
        self._end()

    def stop(self) -> None:
        """Ask the thread to end, and end its process if it is at work."""
        self._stopped = True
        self._waiting.put(None)
        if self._process is not None:
            self._process.kill()

    def _do(self, task: Task) -> None:
        if self._fallen[task.mutant, task.scene] >= MOST_FALLEN:
            for fill in task.fills:
                self._fault(task, fill, GIVEN_UP)
            return
        link = self._started()
        link.send(task)
        for number, fill in enumerate(task.fills):
            if self._stopped:
                return
            fault = self._answer(link, task, fill)
            if fault is None:
                continue
            self._end()
            if self._stopped:
                return
            self._fallen[task.mutant, task.scene] += _COUNTS[fault]
            self._fault(task, fill, fault)
            rest = task.fills[number + 1 :]
            for first in range(0, len(rest), _PIECE):
                self._waiting.put(replace(task, fills=rest[first : first + _PIECE]))
            return

    def _fault(self, task: Task, fill: str, name: str) -> None:
        self._answers.put(Answer(task, fill, Outcome((name,), NO_RESULT, NO_RESULT)))

    def _answer(self, link: Connection, task: Task, fill: str) -> str | None:
        """Wait for one answer and hand it on; or return what befell the process."""
        try:
            if not link.poll(self._limits.compiling):
                return HANG
            answer = link.recv()
            while answer == _LAUNCHING:
                if not link.poll(self._limits.running):
                    return HANG
                answer = link.recv()
        except (EOFError, OSError):
            return CRASH
        if isinstance(answer, BaseException):
            raise answer
        self._answers.put(Answer(task, fill, answer))
        return None

    def _started(self) -> Connection:
        if self._link is not None:
            return self._link
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._place), daemon=True)
        self._process.start()
        theirs.close()
        return self._link

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._link is not None:
            self._link.close()
        self._process = self._link = None


def _serve(link: Connection, place_name: str) -> None:
    """Answer tasks until the other side is gone."""
    from attnprobe.mutants.catalogue import find
    from attnprobe.mutants.places import Place
    from attnprobe.mutants.scenes import SCENES
    from attnprobe.mutants.stage import run_one
    from attnprobe.numerics.fills import fill as find_fill

    place = Place(place_name)
    while True:
        try:
            task = link.recv()
        except EOFError:
            return
        for name in task.fills:
            try:
                mutant = None if task.mutant is None else find(task.mutant)
                begin = partial(link.send, _LAUNCHING) if place.name == "gpu" else None
                outcome = run_one(SCENES[task.scene], find_fill(name), mutant, place, begin)
            except AttnprobeError as error:
                link.send(error)
                return
            except Exception as error:
                if not type(error).__module__.startswith("cupy"):
                    link.send(RuntimeError(f"{task.mutant} on {task.scene}, {name}: {error!r}"))
                return  # an error of CUDA stays with the process: end it
            link.send(outcome)
