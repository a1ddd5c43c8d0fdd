"""Time of a GPU call: batches of calls between two events, the median over the batches."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WARM_UPS = 3
BATCHES = 7
BATCH_SECONDS = 0.05  # long enough that launch gaps and event ticks do not count


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one sample a batch."""

    samples_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The figure to quote."""
        return statistics.median(self.samples_s)


def time_call(call: Callable[[], Any]) -> Timing:
    """Return the time of ``call`` on the current device, warm."""
    for _ in range(WARM_UPS):
        call()
    calls = max(1, int(BATCH_SECONDS / max(1e-6, _batch(call, 1))))
    return Timing(tuple(_batch(call, calls) for _ in range(BATCHES)))


def _batch(call: Callable[[], Any], calls: int) -> float:
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.Device().synchronize()
    start.record()
    for _ in range(calls):
        call()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3 / calls
