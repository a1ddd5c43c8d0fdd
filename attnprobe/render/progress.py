"""How far a run is: a bar on a terminal, and now and then a line where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from attnprobe.rig.report import Result

Show = Callable[["Result", int, int], None]

LINE_SECONDS = 15.0  # between lines where there is no terminal


@contextmanager
def shown(name: str, stream: TextIO) -> Iterator[Show]:
    """Give what shows each result as it comes, on ``stream``."""
    if not stream.isatty():
        yield _lines(name, stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        yield _on(bar, bar.add_task(name, total=None, failed=""))


def _on(bar: Any, task: Any) -> Show:
    failed = 0

    def show(result: Result, done: int, total: int) -> None:
        nonlocal failed
        failed += result.failed
        said = f"{failed} refused, last {result.case}" if failed else result.case
        bar.update(task, completed=done, total=total, failed=said)

    return show


def _lines(name: str, stream: TextIO) -> Show:
    failed, last = 0, time.monotonic()

    def show(result: Result, done: int, total: int) -> None:
        nonlocal failed, last
        failed += result.failed
        if time.monotonic() - last > LINE_SECONDS:
            last = time.monotonic()
            print(f"{name}: {done} of {total}, {failed} refused", file=stream, flush=True)

    return show
