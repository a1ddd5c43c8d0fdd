"""What a target is asked: cases x fills x formats, each of them one job, and the judging of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from attnprobe.errors import ToleranceError, UsageError
from attnprobe.numerics.cases import CASES, LAYOUTS, Case
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Attention
from attnprobe.rig.explain import diagnosis, share_of
from attnprobe.rig.report import DECLINED, ERROR, REFUSED, SOUND, Result
from attnprobe.rig.targets import Declined, Opened

Calling = Callable[[bool], None]

DTYPES = ("f16", "bf16")


@dataclass(frozen=True)
class Job:
    """One case with one fill in one format."""

    case: Case
    fill: str

    @property
    def name(self) -> str:
        """How it is called in reports and between processes: case/fill/dtype."""
        return f"{self.case.name}/{self.fill}/{self.case.dtype}"

    @property
    def kernel(self) -> str:
        """What jobs have in common that run the same kernel: one worker compiles for all."""
        case = self.case
        sizes, asked = case.sizes, sorted(case.features.arguments())
        return repr((case.dtype, sizes.head_dim, sizes.v_head_dim, asked))


def find(name: str) -> Job:
    """Return the job called ``name``.

    Raises
    ------
    UsageError
        If there is none.
    """
    case, fill, dtype = [*name.rsplit("/", 2), "", ""][:3]
    found = next((row for row in CASES if row.name == case), None)
    if found is None or fill not in FILLS or dtype not in DTYPES:
        raise UsageError(f"no job {name!r}; a job is case/fill/dtype")
    return Job(replace(found, dtype=dtype), fill)


def judged(job: Job, opened: Opened, calling: Calling) -> Result:
    """Return the verdict on ``opened`` for one job; a fault of the target is a verdict too."""
    case = job.case
    result = Result(case.name, job.fill, case.dtype, SOUND)
    inputs = case.inputs(job.fill)
    layout = LAYOUTS[case.layout]
    q, k, v = (layout.place(array) for array in inputs)
    begin = time.perf_counter()
    calling(True)
    try:
        answer = opened.attend(q, k, v, case.features)
    except Declined as declined:
        return replace(result, verdict=DECLINED, reason=str(declined))
    except Exception as error:  # whatever somebody's kernel raises
        lines = str(error).strip().splitlines() or ["(no message)"]
        reason = f"{type(error).__name__}: {lines[0]}"
        return replace(result, verdict=ERROR, reason=reason[:500], lines=tuple(lines[:12]))
    finally:
        calling(False)
    ms = round(1000 * (time.perf_counter() - begin), 3)
    fill = FILLS[job.fill]
    tile_rows = opened.tile_rows(q, k, v, case.features)
    question = Question(*inputs, case.features, fill.checks, tile_rows)
    return _judged(replace(result, call_ms=ms), question, answer)


def _judged(result: Result, question: Question, answer: Attention) -> Result:
    O, LSE = answer
    try:
        verdict = question.judge(O, LSE)
    except ToleranceError as error:  # another shape or dtype than was asked for
        return replace(result, verdict=REFUSED, reason=str(error), lines=(str(error),))
    result = replace(
        result,
        o_share=share_of(verdict.o.share),
        lse_share=None if verdict.lse is None else share_of(verdict.lse.share),
        max_abs=verdict.o.max_abs,
        signal_to_error=share_of(verdict.o.signal_to_error),
    )
    if verdict.ok:
        return result
    return replace(
        result,
        verdict=REFUSED,
        reason=f"{verdict.refused[0].check}: {verdict.refused[0].text}",
        lines=tuple(str(verdict).splitlines()),
        diagnosis=diagnosis(question, verdict, O),
    )


# --- selections -----------------------------------------------------------------------------------


def select(
    *, full: bool = False, cases: tuple[str, ...] = (), fills: tuple[str, ...] = (), dtype: str = ""
) -> Iterator[Job]:
    """Yield the jobs of a run.

    Parameters
    ----------
    full : every case with every fill that it names, else the quick ones.
    cases : names of cases, or parts of them; all cases where there are none.
    fills : names of fills, for every chosen case; each case's own where there are none.
    dtype : format of every case; each case's own where it is "".
    """
    for case in CASES:
        if cases and not any(_named(case.name, text) for text in cases):
            continue
        chosen = replace(case, dtype=dtype or case.dtype)
        for fill in fills or case.fills:
            yield Job(chosen, fill)


def _named(name: str, text: str) -> bool:
    """Return whether ``text`` is the name, or a part of it where it is no other case's name."""
    return text == name or (text in name and all(text != case.name for case in CASES))
