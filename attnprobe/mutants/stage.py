"""One mutant on one scene with one fill: run it, and say what refuses it, if anything does."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe.engine.plan import Plan
from attnprobe.errors import DeadlockError, EmulatorError, MemoryFault, RaceError
from attnprobe.formats import FORMATS
from attnprobe.mutants.apply import applied
from attnprobe.mutants.mutant import Mutant
from attnprobe.mutants.outcome import (
    DEADLOCK,
    KEPT,
    MEMORY,
    NO_RESULT,
    OUTSIDE,
    RACE,
    TRAP,
    Outcome,
)
from attnprobe.mutants.places import GUARDED, Output, Place
from attnprobe.mutants.scene import FAR_APART, Scene
from attnprobe.mutants.scenes import SCENES
from attnprobe.mutants.staging import Staged
from attnprobe.numerics import calls
from attnprobe.numerics.calls import Call
from attnprobe.numerics.fills import Fill
from attnprobe.numerics.fills import fill as find_fill
from attnprobe.numerics.memory import LAYOUTS
from attnprobe.numerics.reference import Array

# What an emulator error is called in the matrix; the first that fits.
FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (RaceError, RACE),
    (DeadlockError, DEADLOCK),
    (MemoryFault, MEMORY),
    (EmulatorError, TRAP),
)
# The same call is made for many mutants, and its answer is worked out once.
_CALLS_KEPT = 512


def run_one(
    scene: Scene,
    fill: Fill,
    mutant: Mutant | None,
    place: Place,
    launching: Callable[[], Any] | None = None,
) -> Outcome:
    """Run a mutant (None: the sound kernel) and judge it.

    ``launching`` is called when its kernel is compiled, right before it runs.

    On the emulator races, missing waits and uninitialised reads are faults where
    ``ATTNPROBE_CHECKED`` is set. On a GPU an error of CUDA is raised: the process is then lost.

    Raises
    ------
    CompileError
        If the mutant no longer applies, or NVRTC refuses its text.
    """
    staged = _staged(scene.name, fill.name)
    try:
        O, LSE, wrong = _run(scene, staged, mutant, place, launching)
    except EmulatorError as error:
        name = next(name for kind, name in FAULTS if isinstance(error, kind))
        return Outcome((name,), NO_RESULT, NO_RESULT)
    verdict = staged.call.judge(O, LSE, diagnose=False)
    refused = [*(finding.check for finding in verdict.refused), *wrong]
    share = max(verdict.o.share, verdict.lse.share if verdict.lse else 0.0)
    max_abs = verdict.o.max_abs if verdict.o.share < np.inf else NO_RESULT
    return Outcome(tuple(refused), share, max_abs)


def result(
    scene: Scene, fill: Fill, mutant: Mutant | None, place: Place
) -> tuple[Call, Array, Array]:
    """Return the call of a scene with what a mutant gives for it, O and LSE, unjudged."""
    staged = _staged(scene.name, fill.name)
    O, LSE, _ = _run(scene, staged, mutant, place)
    return staged.call, O, LSE


@lru_cache(maxsize=_CALLS_KEPT)
def _staged(scene_name: str, fill_name: str) -> Staged:
    return SCENES[scene_name].staged(_call(scene_name, fill_name))


def _call(scene_name: str, fill_name: str) -> Call:
    """Return the call of a scene. Garbage stands behind the rows of arrays without slack, too."""
    case, fill = SCENES[scene_name].case, find_fill(fill_name)
    if case.lengths:
        return case.call(fill)
    layout = LAYOUTS.get(case.layout)
    if case.layout == "contiguous" and fill.garbage is not None:
        layout = GUARDED
    assert layout is not None
    garbage = np.nan if fill.garbage is None else fill.garbage
    qkv = fill(case.sizes, FORMATS[case.dtype].dtype)
    return calls.dense(qkv, case.features, fill.checks, layout, garbage)


def _run(
    scene: Scene,
    staged: Staged,
    mutant: Mutant | None,
    place: Place,
    launching: Callable[[], Any] | None = None,
) -> tuple[Array, Array, list[str]]:
    """Return O, LSE, and what is wrong with other memory."""
    arguments: dict[str, Any] = {
        name: place.brought(value.copy() if name in staged.kept else value)
        if isinstance(value, np.ndarray)
        else value
        for name, value in staged.arguments.items()
    }
    if scene.num_splits is not None:
        arguments["num_splits"] = scene.num_splits

    def planned(plan: Plan) -> None:
        if launching is not None:
            place.compile(plan)
            launching()

    with applied(mutant, scene.tile, scene.kernel, planned):
        if not staged.takes_out:
            O, LSE = staged.entry(**arguments)
            return place.fetched(O), place.fetched(LSE), []
        q, v = staged.call.arrays["q"], staged.call.parts[0].question.v
        if scene.name == FAR_APART:
            arguments["q"] = place.far_apart(q)
        output = Output(place, (*q.shape[:-1], v.shape[-1]), q.dtype, scene.out_layout)
        place.soil(q.size // q.shape[-1])
        _, LSE = staged.entry(**arguments, out=output.view, return_lse=True)
    O, untouched = output.fetched()
    wrong = [] if untouched else [OUTSIDE]
    read_as = FORMATS["e4m3"].dtype if arguments.get("kv_format") == "e4m3" else None
    if any(
        not _same(place.fetched(arguments[name]), wanted, read_as)
        for name, wanted in staged.kept.items()
    ):
        wrong.append(KEPT)
    return O, place.fetched(LSE), wrong


def _same(found: Array, wanted: Array, read_as: Any = None) -> bool:
    """Whether two arrays hold the same numbers; NaN is NaN, whatever its sign and payload.

    Parameters
    ----------
    read_as : dtype of what their bytes stand for, where that is not their own.
    """
    if read_as is not None:
        found, wanted = found.view(read_as), wanted.view(read_as)
    if found.dtype.kind in "iu":
        return bool(np.array_equal(found, wanted))
    return bool(np.array_equal(found.astype(np.float32), wanted.astype(np.float32), equal_nan=True))
