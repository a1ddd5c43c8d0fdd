"""The table of ``wmma`` fragments, found on a backend with no row; ``layouts/wmma.py`` reads it."""

from __future__ import annotations

from collections.abc import Callable

from attnprobe.backends.base import Backend
from attnprobe.errors import LayoutError
from attnprobe.layouts import Fragment, Instruction
from attnprobe.layouts import wmma as names
from attnprobe.probing import digits, generate, session, wmma
from attnprobe.probing.definition import Question
from attnprobe.probing.discovery import shipped
from attnprobe.probing.report import ProbeReport
from attnprobe.probing.signature import blank, wmma_move

Progress = Callable[[str, Fragment | LayoutError], None]


def find(name: str, backend: Backend) -> Fragment:
    """Return the fragment of a ``wmma.load`` or ``wmma.store`` as ``backend`` shows it.

    Raises
    ------
    LayoutError
        If some slot has no element, or no digits give the positions.
    """
    row, question = _asked(name)
    launch = generate.launch(row, question, question.fills[0])
    numbers = wmma.READERS[question.kernel](name, backend.run(launch).arrays[0])
    if (numbers < 0).any():
        lane, element = (int(each[0]) for each in (numbers < 0).nonzero())
        raise LayoutError(f"{name}: element {element} of lane {lane} is no element of the matrix")
    place = wmma.tile(wmma_move(name))
    return digits.fragment(wmma.positions(name, numbers), place.rows, place.cols)


def _asked(name: str) -> tuple[Instruction, Question]:
    return blank(wmma_move(name)), shipped(f"wmma_{name.split('.')[1]}")


def measure(backend: Backend, progress: Progress | None = None) -> names.Table:
    """Return the table of all loads and stores that have digits; others only go to ``progress``.

    Every one is asked, so that a recording backend has the dumps of all.
    """
    fragments = {}
    asked = (*names.load_names(), *names.store_names())
    session.compile_ahead([_asked(name) for name in asked], backend)
    for name in asked:
        try:
            found: Fragment | LayoutError = find(name, backend)
        except LayoutError as error:
            found = error
        if isinstance(found, Fragment):
            fragments[name] = found
        if progress is not None:
            progress(name, found)
    return names.Table(backend.environment(), fragments)


def check_products(table: names.Table, backend: Backend) -> ProbeReport:
    """Return whether the products take the fragments of the table: the question wmma_products."""
    rows = [build() for name, build in names.specs(table) if name in names.products()]
    return session.run(rows, [shipped("wmma_products")], backend)
