"""Kernels compiled ahead into the store on disk, several at a time, with or without a GPU."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from attnprobe import compile as compile_
from attnprobe.engine import append
from attnprobe.engine.plan import Plan
from attnprobe.errors import CompileError


@dataclass(frozen=True)
class Wanted:
    """One kernel text and the target that it is compiled for (``sm_90``)."""

    source: compile_.Source
    target: str


@dataclass(frozen=True)
class Outcome:
    """What became of one text.

    Attributes
    ----------
    kept : it was in the store before.
    seconds : that it took.
    error : NVRTC's message, or "".
    """

    wanted: Wanted
    kept: bool
    seconds: float
    error: str = ""


def texts_of(plans: Iterable[Plan]) -> list[Wanted]:
    """Return the texts that calls with ``plans`` launch, each once, in order.

    With pages that is also what appends to them.

    Raises
    ------
    CompileError
        If this NVRTC knows no target for an arch.
    """
    found: dict[Wanted, None] = {}
    for plan in plans:
        target = compile_.device_target(plan.arch.cc, plan.variant.suffix)
        for step in plan.steps:
            found[Wanted(plan.source(step.source), target)] = None
        if plan.problem.layout.page_size:
            formats = plan.problem.format.name, plan.problem.kv_format.name
            source = compile_.load_source(append.FILE, append.append_defines(*formats))
            found[Wanted(source, compile_.device_target(plan.arch.cc))] = None
    return list(found)


def compile_all(wanted: list[Wanted], jobs: int = 0) -> Iterator[Outcome]:
    """Compile what the store lacks, and yield the outcomes in order.

    Parameters
    ----------
    jobs : processes at a time; 0 = one for each core.
    """
    count = min(jobs or os.cpu_count() or 1, len(wanted))
    if count <= 1:
        yield from map(_compile, wanted)
        return
    # Processes, because NVRTC may hold a lock while it compiles; spawned, because a forked one
    # would inherit a CUDA context that it must not touch.
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_compile, wanted)


def _compile(wanted: Wanted) -> Outcome:
    start = time.perf_counter()
    kept = compile_.is_built(wanted.source, wanted.target)
    try:
        compile_.cubin(wanted.source, wanted.target)
    except CompileError as error:
        return Outcome(wanted, kept, time.perf_counter() - start, str(error))
    return Outcome(wanted, kept, time.perf_counter() - start)
