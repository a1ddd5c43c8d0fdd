"""One run from the jobs to the report: goes on from the journal, and keeps it as jobs finish."""

from __future__ import annotations

import datetime
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from attnprobe.backends.gpu import free_bytes
from attnprobe.rig import journal, record, targets
from attnprobe.rig.crew import Crew, Order, processors
from attnprobe.rig.libraries import first_usable, library
from attnprobe.rig.report import Report, Result
from attnprobe.rig.suite import Job
from attnprobe.rig.target import Target, fingerprint_of

MOST_WORKERS = 16
# Of a GPU's memory: a context, a library's workspaces, and the largest case twice.
WORKER_BYTES = 4 << 30
FEWEST_ON_A_GPU = 2  # also where its free memory is not known


@dataclass(frozen=True)
class Plan:
    """What is run, and how.

    Attributes
    ----------
    order : the target and how it is called.
    jobs : of the suite.
    command : the command line, for the report.
    workers : processes; 0 takes as many as there are processors, up to a limit.
    timeout : seconds that one call may take.
    resume : take from the journal what it has.
    """

    order: Order
    jobs: tuple[Job, ...]
    command: str
    workers: int = 0
    timeout: float = 60.0
    resume: bool = False


def run(plan: Plan, show: Callable[[Result, int, int], None]) -> Report:
    """Run all jobs that the journal does not have, and return the report.

    Parameters
    ----------
    plan : what to run.
    show : called for each result as it comes, with how many there are and how many there will be.

    Raises
    ------
    UsageError, DeviceError
        If the target does not exist, or cannot be used here.
    StartFailed
        If its process cannot load it.
    KeyboardInterrupt
        On Ctrl-C and on SIGTERM, once the workers are ended; what was finished is in the journal.
    """
    target = targets.find(plan.order.target, plan.order.signature)
    arrays = arrays_of(plan.order)
    order = replace(plan.order, arrays=arrays)
    kept = journal.Journal(journal.folder() / f"{_key(target, order, plan.jobs)}.jsonl")
    names = [job.name for job in plan.jobs]
    found = kept.read() if plan.resume else {}
    done = {name: found[name] for name in names if name in found}
    if not found:
        kept.begin()
    environment = kept.environment() if found else {}
    known = dict(environment)

    def ready(facts: dict[str, str]) -> None:
        environment.update(facts)
        if environment != known:
            kept.add_environment(environment)

    crew = Crew(order, _workers(plan, arrays), plan.timeout, ready)
    begin, resumed = time.monotonic(), len(done)
    with _terminated_as_interrupted():
        left = [job for job in plan.jobs if job.name not in done]
        # The longest first: begun last, one of them would keep the others waiting.
        for result in crew.run(sorted(left, key=lambda job: -job.case.work)):
            kept.add(result)
            done[result.job] = result
            show(result, len(done), len(names))
    return Report(
        target=target.name,
        says=target.says,
        environment=environment or {"arrays": arrays},
        command=plan.command,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - begin,
        results=tuple(done[name] for name in names if name in done),
        resumed=resumed,
        left=crew.left,
    )


def arrays_of(order: Order) -> str:
    """Return the name of the array library that ``order`` comes to on this machine.

    Raises
    ------
    UsageError, DeviceError
        If the target does not exist, or none of its libraries can be used here.
    """
    target = targets.find(order.target, order.signature)
    chosen = library(order.arrays) if order.arrays else first_usable(target.libraries)
    return chosen.name


def _key(target: Target, order: Order, jobs: tuple[Job, ...]) -> str:
    demands = sorted({relation for job in jobs for relation in job.relations})
    options = repr((sorted(asdict(order).items()), demands))
    own = fingerprint_of(targets.package_files())
    return journal.key((target.fingerprint(), own, options))


def _workers(plan: Plan, arrays: str) -> int:
    if plan.workers:
        return plan.workers
    most = min(processors(), MOST_WORKERS)
    if arrays not in record.ON_A_GPU:
        return most
    return min(most, max(FEWEST_ON_A_GPU, free_bytes() // WORKER_BYTES))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: workers ended, what was finished kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
