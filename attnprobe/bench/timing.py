"""Seconds per call: batches of calls, taken by all engines in turn.

A batch is timed between two events on the stream that it runs in. Where the library can, a batch is
a CUDA graph of many calls, so that neither Python nor the gaps between launches count; each replay
runs the copies of the inputs in turn. JAX, whose streams are its own, is timed by the host's clock
around a batch that is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol

WARM_UPS = 2
GRAPH_SECONDS = 2e-3  # that a graph takes at least, so that its own launch does not count
MOST_CALLS = 256  # in a graph
Call = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long is measured: batches of each engine, and seconds that a batch takes at least."""

    batches: int
    batch_s: float


FULL, QUICK = Effort(11, 0.016), Effort(5, 0.006)


class Sampler(Protocol):
    """One engine on one case, warm."""

    @property
    def method(self) -> str:
        """How it is timed: "graph", "events" or "host clock"."""

    def batch(self) -> float:
        """Run a batch and return its seconds per call."""


def in_turn(samplers: Mapping[str, Sampler], batches: int) -> dict[str, tuple[float, ...]]:
    """Return the samples of each, seconds per call.

    Each has each other one before it equally often: the device lowers its clocks after an engine
    that takes much power, and what comes next runs up to a tenth slower for it.
    """
    names = list(samplers)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(batches):
        for place in balanced_order(len(names), number):
            samples[names[place]].append(samplers[names[place]].batch())
    return {name: tuple(taken) for name, taken in samples.items()}


def balanced_order(count: int, number: int) -> list[int]:
    """Return the order of ``count`` engines in batch ``number``: a row of a Williams design.

    In ``count`` rows (twice as many where it is odd) each stands before each other equally often.
    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects
    of treatments, 1949.
    """
    steps = ((place + 1) // 2 * (1 if place % 2 else -1) for place in range(count))
    row = [(number + step) % count for step in steps]
    return row[::-1] if count % 2 and number // count % 2 else row


def launches(seconds: float, wanted: float, most: int = 1 << 16) -> int:
    """Return how many things that take ``seconds`` each take ``wanted`` together, at least 1."""
    return max(1, min(most, round(wanted / max(seconds, 1e-7))))


@dataclass(frozen=True)
class Repeated:
    """A launch of ``calls`` calls, repeated ``count`` times in a batch.

    Attributes
    ----------
    launch : queues the calls, in CuPy's current stream.
    keep : what must live as long.
    """

    launch: Callable[[], Any]
    calls: int
    count: int
    method: str
    stream: Any
    keep: Any = None

    def batch(self) -> float:
        """Run a batch and return its seconds per call."""
        with self.stream:
            return between_events(self.launch, self.count) / self.calls


def between_events(launch: Callable[[], Any], count: int) -> float:
    """Return the seconds of one of ``count`` launches in CuPy's current stream."""
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.Device().synchronize()
    start.record()
    for _ in range(count):
        launch()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3 / count


@dataclass(frozen=True)
class OnHostClock:
    """Calls of a library with streams of its own; ``wait`` waits for a result."""

    calls: Sequence[Call]
    count: int
    wait: Callable[[Any], Any]
    method: str = "host clock"

    def batch(self) -> float:
        """Run a batch and return its seconds per call."""
        start = time.perf_counter()
        for call in islice(cycle(self.calls), self.count):
            result = call()
        self.wait(result)
        return (time.perf_counter() - start) / self.count


def sampler(library: str, calls: Sequence[Call], batch_s: float) -> Sampler:
    """Return the warm sampler of ``calls``, which are run in turn, of an engine of ``library``."""
    if library == "jax":
        return _on_host_clock(calls, batch_s)
    capture = {"cupy": _captured_by_cupy, "torch": _captured_by_torch}[library]
    stream = _stream(library)
    with stream:
        for call in list(calls) * WARM_UPS:
            call()
        seconds = between_events(lambda: [call() for call in calls], 1) / len(calls)
        many = len(calls) * -(-launches(seconds, GRAPH_SECONDS, MOST_CALLS) // len(calls))
        try:
            launch, keep = capture(list(islice(cycle(calls), many)), stream)
            method = "graph"
        except Exception:  # whatever a library raises that cannot be captured
            launch, keep, method = lambda: [call() for call in calls], None, "events"
            many = len(calls)
        launch()
        seconds = between_events(launch, 1)
    return Repeated(launch, many, launches(seconds, batch_s), method, stream, keep)


def _stream(library: str) -> Any:
    """Return the stream that an engine runs in: one of our own, or torch's current one."""
    import cupy

    return cupy.cuda.Stream(non_blocking=True) if library == "cupy" else cupy.cuda.Stream.null


def _captured_by_cupy(calls: Sequence[Call], stream: Any) -> tuple[Callable[[], Any], Any]:
    stream.begin_capture()
    try:
        for call in calls:
            call()
    finally:
        graph = stream.end_capture()
    return lambda: graph.launch(stream), graph


def _captured_by_torch(calls: Sequence[Call], _: Any) -> tuple[Callable[[], Any], Any]:
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph.replay, graph


def _on_host_clock(calls: Sequence[Call], batch_s: float) -> Sampler:
    import jax

    for call in list(calls) * WARM_UPS:
        jax.block_until_ready(call())
    seconds = OnHostClock(calls, 2, jax.block_until_ready).batch()
    return OnHostClock(calls, launches(seconds, batch_s), jax.block_until_ready)
