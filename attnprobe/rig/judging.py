"""The judging of one job: the call, the oracle, the demands on several results, the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from attnprobe.errors import ToleranceError
from attnprobe.numerics.calls import Call
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.relations import RELATIONS
from attnprobe.numerics.relations import Result as Given
from attnprobe.rig.explain import diagnosis, share_of
from attnprobe.rig.report import DECLINED, ERROR, REFUSED, SOUND, Result
from attnprobe.rig.suite import Job
from attnprobe.rig.target import Declined, Opened

Calling = Callable[[bool], None]


def judged(job: Job, opened: Opened, calling: Calling) -> Result:
    """Return the verdict on ``opened`` for one job; a fault of the target is a verdict too.

    Parameters
    ----------
    calling : told True before each call of the target, and False after it.
    """
    result = Result(job.case.name, job.fill, job.case.dtype, SOUND)
    unsayable = opened.unsayable(job.case.entry, job.wanted)
    if unsayable:  # known before any array is made
        return replace(result, verdict=DECLINED, reason=unsayable)
    call = _tiled(job.case.call(FILLS[job.fill]), opened)
    asked = _Asked(opened, calling)
    try:
        first = asked.run(call)
        result = replace(result, call_ms=asked.ms)
        result = _of_verdict(result, call, first)
        return result if result.failed else _of_relations(result, job, call, first, asked)
    except Declined as declined:
        return replace(result, verdict=DECLINED, reason=str(declined))
    except ToleranceError as error:  # another shape or dtype than was asked for
        return replace(result, verdict=REFUSED, reason=str(error), lines=(str(error),))
    except _Raised as raised:
        return _of_error(result, raised.error)


class _Raised(Exception):
    """The target has raised; an error of the rig itself is never taken for one of the target."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Asked:
    """A target under a watchdog; ``ms`` is what its last call took."""

    def __init__(self, opened: Opened, calling: Calling) -> None:
        self._opened, self._calling, self.ms = opened, calling, 0.0

    def run(self, call: Call) -> Given:
        self._calling(True)
        begin = time.perf_counter()
        try:
            return self._opened.run(call)
        except Declined:
            raise
        except Exception as error:
            raise _Raised(error) from error
        finally:
            self.ms = round(1000 * (time.perf_counter() - begin), 3)
            self._calling(False)


def _tiled(call: Call, opened: Opened) -> Call:
    """Return the call with what is known of the kernel's tiles in its questions."""
    rows = opened.tile_rows(call)
    parts = (replace(part, question=part.question.with_tiles(rows)) for part in call.parts)
    return replace(call, parts=tuple(parts))


def _of_verdict(result: Result, call: Call, first: Given) -> Result:
    verdict = call.judge(*first)
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
        diagnosis=diagnosis(call, verdict, first),
    )


def _of_relations(result: Result, job: Job, call: Call, first: Given, asked: _Asked) -> Result:
    """Ask what holds between this result and those of other calls."""
    for relation in RELATIONS:
        if relation.name not in job.relations:
            continue
        calls = relation.further(call)
        try:
            further = [asked.run(each) for each in calls]
        except Declined:  # the half of a problem may be what a target does not serve
            continue
        finding = relation.judge(call, first, calls, further) if calls else None
        if finding is not None and not finding.ok:
            text = f"{finding.check}: {finding.text}"
            found = {"findings": [{"check": finding.check, "text": finding.text}]}
            return replace(result, verdict=REFUSED, reason=text, lines=(text,), diagnosis=found)
    return result


def _of_error(result: Result, error: Exception) -> Result:
    lines = str(error).strip().splitlines() or ["(no message)"]
    reason = f"{type(error).__name__}: {lines[0]}"
    return replace(result, verdict=ERROR, reason=reason[:500], lines=tuple(lines[:12]))
