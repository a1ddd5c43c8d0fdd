"""Many kernel texts to cubins at once, in a process for each core.

Processes and not threads: NVRTC is free to hold a lock while it compiles.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from attnprobe import compile as compiler
from attnprobe.compile import Source
from attnprobe.errors import CompileError

_CHUNK = 8  # texts that a process takes at a time


def cubins(wanted: Sequence[tuple[Source, str]], processes: int | None = None) -> list[bytes]:
    """Return the cubin of each (source, target), in order; empty where NVRTC refuses the text."""
    count = min(processes or os.cpu_count() or 1, -(-len(wanted) // _CHUNK))
    if count <= 1:
        return [_cubin(each) for each in wanted]
    # A forked child would inherit a CUDA context that it must not touch.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        return list(pool.map(_cubin, wanted, chunksize=_CHUNK))


def _cubin(wanted: tuple[Source, str]) -> bytes:
    source, target = wanted
    try:
        return compiler.cubin(source, target)[0]
    except CompileError:
        return b""
