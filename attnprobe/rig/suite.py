"""What a target is asked: cases x fills x formats, each of them one job, and the judging of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnprobe.errors import ToleranceError, UsageError
from attnprobe.numerics import error as bounds
from attnprobe.numerics.cases import CASES, LAYOUTS, Case
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.reference import Array, Attention
from attnprobe.rig.targets import Declined, Opened
from attnprobe.rig.report import DECLINED, ERROR, REFUSED, SOUND, Result

Calling = Callable[[bool], None]

DTYPES = ("f16", "bf16")
MOST_SHARE = 1e9  # of a bound: what stands for "infinitely many times"
QUICK_FILLS = ("normal", "outliers", "real")


@dataclass(frozen=True)
class Job:
    """One case with one fill in one format."""

    case: Case
    fill: str
    dtype: str

    @property
    def name(self) -> str:
        """How it is called in reports and between processes: case/fill/dtype."""
        return f"{self.case.name}/{self.fill}/{self.dtype}"


def jobs() -> Iterator[Job]:
    for case in CASES:
        for fill in case.fills:
            yield Job(case, fill, case.dtype)


def find(name: str) -> Job:
    """Return the job called ``name``."""
    case, fill, dtype = name.rsplit("/", 2)
    found = next((row for row in CASES if row.name == case), None)
    if found is None or fill not in FILLS:
        raise UsageError(f"no job {name!r}")
    return Job(replace(found, dtype=dtype), fill, dtype)


def judged(job: Job, opened: Opened, calling: Calling) -> Result:
    """Return the verdict on ``opened`` for one job; never raises for a fault of the target."""
    case = job.case
    inputs = case.inputs(job.fill)
    layout = LAYOUTS[case.layout]
    q, k, v = (layout.place(array) for array in inputs)
    begin = time.perf_counter()
    calling(True)
    try:
        O, LSE = opened.attend(q, k, v, case.features)
    except Declined as reason:
        return Result(job.name, DECLINED, str(reason))
    except Exception as error:
        return Result(job.name, ERROR, f"{type(error).__name__}: {error}"[:500])
    finally:
        calling(False)
    ms = 1000 * (time.perf_counter() - begin)
    try:
        report = bounds.compare(bounds.expect(*inputs, case.features), O, LSE)
    except ToleranceError as error:
        return Result(job.name, REFUSED, str(error), call_ms=ms)
    return Result(
        job.name,
        SOUND if report.ok else REFUSED,
        "" if report.ok else str(report.o),
        o_share=_most(report.o.share),
        lse_share=None if report.lse is None else _most(report.lse.share),
        max_abs=report.o.max_abs,
        signal_to_error=_most(report.o.signal_to_error),
        call_ms=round(ms, 3),
        report=tuple(str(report).splitlines()),
    )


def _most(share: float) -> float:
    return float(min(share, MOST_SHARE))
