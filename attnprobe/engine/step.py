"""One launch of a plan."""

from __future__ import annotations

from attnprobe.frozen import dataclass


@dataclass(frozen=True)
class Step:
    """One launch: a kernel file below kernels/, its entry, and the shape of the launch.

    ``boxes`` are the arrays that it reads through tensor maps, in the order of its arguments, and
    the rows of a box; the ``AttentionParams`` follow them. ``dependent``: it waits itself for the
    launch before it, and may begin while that is under way (dependent.py).
    """

    source: str
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    boxes: tuple[tuple[str, int], ...] = ()
    dependent: bool = False
