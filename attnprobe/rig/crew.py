"""Worker processes and who watches them: a target that hangs or dies takes one worker with it.

Each worker is a process with the target loaded (worker.py). It says when it calls the target and
when the target has come back; one that stays away too long is killed and another takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from attnprobe.errors import AttnprobeError
from attnprobe.rig.report import CRASHED, TIMEOUT, Result
from attnprobe.rig.suite import Job

START_SECONDS = 300.0  # to import a target and its library
OWN_SECONDS = 900.0  # for the oracle: only a fault of the rig itself takes so long
MOST_HUNG = 3  # calls that may hang before the run is given up
_TAIL = 2000  # characters of a dead worker's stderr that are shown

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Message = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a worker is to load.

    Attributes
    ----------
    target, signature, arrays : as on the command line.
    checked : look for races and uninitialised reads where the target runs on the emulator.
    """

    target: str
    signature: str = ""
    arrays: str = ""
    checked: bool = False


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class StartFailed(AttnprobeError):
    """A worker could not load the target; ``exit_code`` is that of the worker's error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class _Worker:
    """One process: what it does now, and until when it may."""

    def __init__(self, order: Order, threads: int) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as we do
        environment = dict(os.environ)
        if order.checked:
            environment["ATTNPROBE_CHECKED"] = "1"
        for name in _THREADS:  # workers share the processors; more threads than these only wait
            environment.setdefault(name, str(threads))
        package = Path(__file__).resolve().parents[2]
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(package), environment.get("PYTHONPATH", "")) if part
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attnprobe.rig.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to deal with; its children die with it
        )
        assert self.process.stdout is not None
        self._pending = b""
        self.job: Job | None = None
        self.calling = False
        self.allow(START_SECONDS)
        self.send(vars(order))

    def send(self, message: Message) -> None:
        """Write one line to the process; one that is gone shows when it is read."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write((json.dumps(message) + "\n").encode())
            self.process.stdin.flush()

    def allow(self, seconds: float) -> None:
        """Let it be silent for so long."""
        self.deadline = time.monotonic() + seconds

    def messages(self) -> Iterator[Message | None]:
        """Yield what has been said, and None where the process has closed its side."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        *lines, self._pending = (self._pending + data).split(b"\n")
        yield from (json.loads(line) for line in lines)
        if not data:
            yield None

    def tail(self) -> str:
        """Return the end of what it wrote to stderr."""
        size = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, size - _TAIL))
        return self.errors.read().decode(errors="replace").strip()

    def end(self) -> int:
        """Kill it and all that it started, and return its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return status


class Crew:
    """Some workers over one list of jobs. Jobs of one kernel go to one worker, where that may be.

    Parameters
    ----------
    order : what they load.
    size : how many there are.
    timeout : seconds that one call of the target may take.
    on_ready : called once with the environment that the first worker to be ready reports.
    """

    def __init__(
        self, order: Order, size: int, timeout: float, on_ready: Callable[[Message], None]
    ) -> None:
        self.order, self.size, self.timeout = order, size, timeout
        self._on_ready: Callable[[Message], None] | None = on_ready
        self._workers: list[_Worker] = []
        self.hung = 0
        self.left = 0

    def run(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield the result of each job as it is finished.

        Raises
        ------
        StartFailed
            If the target cannot be loaded.
        """
        waiting = list(jobs)
        with selectors.DefaultSelector() as selector:
            try:
                for _ in range(min(self.size, len(waiting))):
                    self._hire(selector)
                while self._workers:
                    yield from self._step(selector, waiting)
            finally:
                for worker in self._workers:
                    worker.end()
                self._workers.clear()

    def _hire(self, selector: selectors.BaseSelector) -> None:
        worker = _Worker(self.order, max(1, processors() // self.size))
        self._workers.append(worker)
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]

    def _dismiss(self, worker: _Worker, selector: selectors.BaseSelector) -> int:
        selector.unregister(worker.process.stdout)  # type: ignore[arg-type]
        self._workers.remove(worker)
        return worker.end()

    def _step(self, selector: selectors.BaseSelector, waiting: list[Job]) -> Iterator[Result]:
        """Wait for the next message or deadline, and yield what it finishes."""
        soonest = min(worker.deadline for worker in self._workers)
        for chosen, _ in selector.select(max(0.0, soonest - time.monotonic())):
            worker: _Worker = chosen.data
            for message in worker.messages():
                if worker not in self._workers:
                    break
                if message is None:
                    yield from self._died(worker, selector, waiting)
                else:
                    yield from self._heard(worker, message, selector, waiting)
        for worker in list(self._workers):
            if time.monotonic() > worker.deadline:
                yield from self._stayed_away(worker, selector, waiting)

    def _heard(
        self,
        worker: _Worker,
        message: Message,
        selector: selectors.BaseSelector,
        waiting: list[Job],
    ) -> Iterator[Result]:
        if "failed" in message:
            raise StartFailed(message["failed"], message["exit_code"])
        if "calling" in message:
            worker.calling = message["calling"]
            worker.allow(self.timeout if worker.calling else OWN_SECONDS)
            return
        if "ready" in message and self._on_ready is not None:
            self._on_ready(message["ready"])
            self._on_ready = None
        if "result" in message:
            yield Result.of_json(message["result"])
        if message.get("lost"):
            self._dismiss(worker, selector)
            self._replace(selector, waiting)
            return
        worker.job = self._next(worker, waiting)
        if worker.job is None:
            self._dismiss(worker, selector)
        else:
            worker.allow(OWN_SECONDS)
            worker.send({"job": worker.job.name, "relations": worker.job.relations})

    def _next(self, worker: _Worker, waiting: list[Job]) -> Job | None:
        """Take the next job of the kernel that the worker has, else of one that no other has."""
        if not waiting:
            return None
        own = worker.job.kernel if worker.job else ""
        others = {each.job.kernel for each in self._workers if each.job and each is not worker}

        def rank(number: int) -> tuple[bool, bool, int]:
            kernel = waiting[number].kernel
            return kernel != own, kernel in others, number

        return waiting.pop(min(range(len(waiting)), key=rank))

    def _stayed_away(
        self, worker: _Worker, selector: selectors.BaseSelector, waiting: list[Job]
    ) -> Iterator[Result]:
        job, calling = worker.job, worker.calling
        self._dismiss(worker, selector)
        if job is None:
            raise StartFailed(f"the target was not loaded within {START_SECONDS:g} s", 6)
        if not calling:
            raise AttnprobeError(f"{job.name}: the oracle took more than {OWN_SECONDS:g} s")
        self.hung += 1
        reason = f"the call did not come back within {self.timeout:g} s"
        yield Result(job.case.name, job.fill, job.case.dtype, TIMEOUT, reason)
        self._replace(selector, waiting)

    def _died(
        self, worker: _Worker, selector: selectors.BaseSelector, waiting: list[Job]
    ) -> Iterator[Result]:
        job, tail = worker.job, worker.tail()
        status = self._dismiss(worker, selector)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if job is None:
            raise StartFailed(f"the process that loads the target ended: {how}\n{tail}", 1)
        reason, lines = f"the target's process ended: {how}", tuple(tail.splitlines()[-12:])
        case = job.case
        yield Result(case.name, job.fill, case.dtype, CRASHED, reason, lines=lines)
        self._replace(selector, waiting)

    def _replace(self, selector: selectors.BaseSelector, waiting: list[Job]) -> None:
        if self.hung >= MOST_HUNG:
            self.left += len(waiting)
            waiting.clear()
        if waiting:
            self._hire(selector)
