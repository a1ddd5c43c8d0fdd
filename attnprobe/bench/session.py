"""A run: which cases, in which order, kept after each, and what the time did not suffice for."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnprobe.bench import features
from attnprobe.bench.cases import DECODE, PREFILL, SUITES, Case
from attnprobe.bench.engines.engine import Engine
from attnprobe.bench.machine import Machine, short
from attnprobe.bench.record import Record, load, save
from attnprobe.errors import UsageError

HOST = "host cost of calls"  # the host suite is one case: its calls take turns with each other
CASES: dict[str, tuple[Case, ...]] = {
    "prefill": PREFILL,
    "decode": DECODE,
    "features": features.CASES,
}
# What must not have changed for a record to be gone on with.
SAME = ("device", "driver", "nvrtc", "cupy", "torch", "kernels", "engines", "effort", "tuned")

Show = Callable[[Record, str, float], None]  # the record so far, the case just done, its seconds


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes
    ----------
    suites : of ``SUITES``.
    cases : those that are timed, most important first.
    engines : those that are asked for.
    path : where the record is kept.
    command : that runs it again.
    resume : whether what the file has is gone on with.
    budget_s : seconds after which no case is begun; 0 is no limit.
    """

    suites: tuple[str, ...]
    cases: tuple[Case, ...]
    engines: tuple[Engine, ...]
    path: Path
    command: str
    resume: bool = False
    budget_s: float = 0.0


def suites_of(text: str) -> tuple[str, ...]:
    """Return the suites of "all" or of a comma-separated list.

    Raises
    ------
    UsageError
        For a name that is none.
    """
    if text == "all":
        return SUITES
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in SUITES:
            raise UsageError(f"--suite has {name!r}; of {', '.join(SUITES)} or all is wanted")
    return names


def choose(suites: Sequence[str], text: str, *, quick: bool) -> tuple[Case, ...]:
    """Return the cases of some suites whose names hold ``text``, most important first."""
    every = [case for suite in suites for case in CASES.get(suite, ())]
    chosen = [c for c in every if text in c.name and (c.quick or not quick)]
    return tuple(sorted(chosen, key=lambda case: case.rank))


def run(plan: Plan, machine: Machine, show: Show) -> Record:
    """Run the plan, writing the record after every case, and return it.

    Raises
    ------
    UsageError
        If the record to go on with was made elsewhere, or cannot be written.
    """
    started = time.monotonic()
    absent = {e.name: short(why) for e in plan.engines if (why := e.missing())}
    engines = tuple(engine for engine in plan.engines if engine.name not in absent)
    environment = {**machine.environment(), **_versions(engines), "command": plan.command}
    environment["engines"] = ", ".join(engine.name for engine in engines)
    names = tuple(engine.name for engine in engines)
    record = Record(environment, names, absent)
    if plan.resume and plan.path.exists():
        record = _gone_on(load(plan.path), record, plan.path)
    waiting = [case for case in plan.cases if case.name not in record.done]
    machine.compile_ahead(waiting)
    if not record.ceilings and waiting:
        record = replace(record, ceilings=machine.ceilings())
        _keep(record, plan, show, "ceilings", time.monotonic() - started)
    clock = _Clock(started, plan.budget_s)
    left = []
    for name, kind, case in _jobs(plan, waiting, record):
        if not clock.allows(kind):
            left.append(name)
            continue
        begun = time.monotonic()
        results, refused = (
            machine.time(case, engines, record.ceilings) if case else (machine.host(), {})
        )
        record = record.with_case(name, results, refused)
        _keep(record, plan, show, name, clock.took(kind, begun))
    record = replace(record, left_out=tuple(left))
    save(record, plan.path)
    return record


def _jobs(
    plan: Plan, waiting: Sequence[Case], record: Record
) -> Iterable[tuple[str, str, Case | None]]:
    """Yield (name, kind, case) in order; the host suite, which is no case, after the first rank."""
    jobs: list[tuple[int, str, str, Case | None]] = [
        (case.rank, case.name, case.kind, case) for case in waiting
    ]
    if "host" in plan.suites and HOST not in record.done:
        place = sum(rank == 0 for rank, *_ in jobs)
        jobs.insert(place, (0, HOST, "host", None))
    for _, name, kind, case in jobs:
        yield name, kind, case


class _Clock:
    """Whether another case of a kind fits into the budget, by the mean of those before."""

    def __init__(self, started: float, budget_s: float) -> None:
        self._started, self._budget = started, budget_s
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def took(self, kind: str, begun: float) -> float:
        """Note and return what a case took."""
        seconds = time.monotonic() - begun
        self._seconds[kind].append(seconds)
        return seconds

    def allows(self, kind: str) -> bool:
        """Return whether a case of ``kind`` is likely to end within the budget."""
        if not self._budget:
            return True
        before = self._seconds[kind]
        expected = sum(before) / len(before) if before else 0.0
        return time.monotonic() - self._started + expected <= self._budget


def _keep(record: Record, plan: Plan, show: Show, name: str, seconds: float) -> None:
    """Write the record, with what is still to come as left out, and show the case."""
    names = [case.name for case in plan.cases] + [HOST] * ("host" in plan.suites)
    to_come = tuple(name for name in names if name not in record.done)
    save(replace(record, left_out=to_come), plan.path)
    show(record, name, seconds)


def _versions(engines: Iterable[Engine]) -> dict[str, str]:
    return {name: version for e in engines for name, version in e.versions().items()}


def _gone_on(old: Record, new: Record, path: Path) -> Record:
    """Return the old record, to be gone on with.

    Raises
    ------
    UsageError
        If something has changed that changes results.
    """
    changed = [
        f"{name} {old.environment.get(name, '-')} -> {new.environment.get(name, '-')}"
        for name in SAME
        if old.environment.get(name) != new.environment.get(name)
    ]
    if changed:
        raise UsageError(
            f"{path} was measured elsewhere ({'; '.join(changed)}): run without --resume, or with "
            "another --json"
        )
    return replace(old, environment=new.environment, left_out=())
