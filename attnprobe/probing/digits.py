"""From where every element is to the digits of its lane and element number: the solver.

Positions (lanes, elements, axes) that a probe found are the sum of what the lane adds and what the
element adds, and each of these is a list of mixed-radix digits. The lowest digit of a sequence is
read off its start: as long as number i is i times number 1, one digit goes on; its extent is where
that ends, and what remains is the sequence of every extent-th number, with its own lowest digit.
Extents need not be powers of two, and a digit that does not move is a copy. Neighbouring digits
that continue each other come out as one: this is the shortest list, and there is only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.layouts import Digit, Fragment
from attnprobe.layouts.fragment import Digits

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One digit that was found: its extent, and what one step adds on each axis."""

    extent: int
    moves: tuple[int, ...]


def sequence(values: npt.NDArray[Any]) -> tuple[Step, ...]:
    """Return the digits of ``values`` (numbers, axes), lowest first.

    Raises
    ------
    LayoutError
        If no digits give these values; says at which number they fail.
    """
    rest: Int = np.asarray(values, np.int64)
    if rest[0].any():
        raise LayoutError(f"number 0 is at {tuple(rest[0].tolist())}, not at the origin")
    found: list[Step] = []
    weight = 1
    while len(rest) > 1:
        step = rest[1]
        expected = np.arange(len(rest))[:, None] * step
        differs = np.flatnonzero((rest != expected).any(axis=1))
        extent = int(differs[0]) if differs.size else len(rest)
        tiled = expected[:extent][None] + rest[::extent][:, None]
        flat = tiled.reshape(-1, rest.shape[1])[: len(rest)]
        if len(rest) % extent or (flat != rest).any():
            number = weight * (extent if len(rest) % extent else _first(flat, rest))
            raise LayoutError(f"no digits: number {number} does not go on as those before it")
        found.append(Step(extent, tuple(step.tolist())))
        rest, weight = rest[::extent], weight * extent
    return tuple(found)


def _first(expected: Int, found: Int) -> int:
    return int(np.flatnonzero((expected != found).any(axis=1))[0])


@dataclass(frozen=True)
class Found:
    """The digits of lane and element number, lowest first."""

    lane: tuple[Step, ...]
    elem: tuple[Step, ...]


def solve(positions: npt.NDArray[Any]) -> Found:
    """Return the digits of ``positions`` (lanes, elements, axes).

    Raises
    ------
    LayoutError
        If the positions are not a sum of digits of the lane and of the element; says where not.
    """
    at: Int = np.asarray(positions, np.int64)
    lanes, elements = at[:, 0], at[0]
    expected = lanes[:, None] + elements[None] - at[0, 0]
    wrong = np.argwhere((expected != at).any(axis=-1))
    if wrong.size:
        lane, element = wrong[0].tolist()
        is_at, total = at[lane, element].tolist(), expected[lane, element].tolist()
        raise LayoutError(
            f"lane and element do not add up: element {element} of lane {lane} is at "
            f"{tuple(is_at)}, the sum is {tuple(total)}"
        )
    return Found(sequence(lanes), sequence(elements))


def fragment(positions: npt.NDArray[Any], rows: int, cols: int) -> Fragment:
    """Return the fragment that has element i of lane l at ``positions[l, i]``, (row, col).

    Raises
    ------
    LayoutError
        If no digits fit, or they do not cover rows x cols evenly.
    """
    found = solve(positions)
    count = positions.shape[0] * positions.shape[1]
    copies = max(1, count // (rows * cols))
    return Fragment(rows, cols, _digits(found.lane), _digits(found.elem), copies)


def _digits(steps: tuple[Step, ...]) -> Digits:
    return tuple(Digit(step.extent, row=step.moves[0], col=step.moves[1]) for step in steps)


def shortest(one: Fragment) -> Fragment:
    """Return the fragment with neighbouring digits that continue each other made one."""
    return fragment(one.coords(), one.rows, one.cols)
