"""From classes to indices: the order in which the digits of all operands are the fewest.

A product does not say in which order the classes of m, k or n are to be counted. But each operand
must be digits of its lane and element, and most orders make some operand's digits many. So the
digits along which one operand moves are put in every order, and the order with the fewest digits
over all operands is taken; where several have as few, the one that counts within a register first,
then along the lanes, then along the registers. This is the manual's order in nearly all cases, and
nothing but a convention in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.probing import digits

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """A digit of a lane or element number along which a class changes."""

    number: int  # 0 lane, 1 element
    weight: int
    extent: int

    def values(self, shape: tuple[int, int]) -> Int:
        """Return the digit's value in every slot, (lanes, elements)."""
        value: Int = np.indices(shape)[self.number] // self.weight % self.extent
        return value

    def rank(self, per_register: int) -> tuple[int, int]:
        """Return where it stands in the order of counting that is preferred."""
        if self.number == 0:
            return 1, self.weight
        return (0 if self.weight < per_register else 2), self.weight


def moving(ids: Int, matrix: Int, kind: str) -> list[Place]:
    """Return the digits along which ``ids`` (lanes, elements) change within a matrix.

    ``kind`` "matrix" for those along which the matrix changes.

    Raises
    ------
    LayoutError
        If the changes are not those of digits.
    """
    lane = _runs(ids[:, 0], matrix[:, 0])
    element = _runs(ids[0], matrix[0])
    found = [Place(0, weight, extent) for what, weight, extent in lane if what == kind]
    return [*found, *(Place(1, weight, extent) for what, weight, extent in element if what == kind)]


def _runs(ids: Int, matrix: Int) -> list[tuple[str, int, int]]:
    """Return (what changes, weight, extent) of the digits of a sequence, lowest first."""
    found = []
    weight = 1
    while len(ids) > 1:
        if matrix[1] != matrix[0]:
            kind, extent = "matrix", _distinct(matrix)
        elif ids[1] != ids[0]:
            within = int(np.argmax(matrix != matrix[0])) or len(ids)
            kind, extent = "moves", _distinct(ids[:within])
        else:
            differs = np.flatnonzero((ids != ids[0]) | (matrix != matrix[0]))
            kind, extent = "stays", int(differs[0]) if differs.size else len(ids)
        if len(ids) % extent:
            raise LayoutError(f"{len(ids)} numbers in runs of {extent}: no digits")
        found.append((kind, weight, extent))
        ids, matrix, weight = ids[::extent], matrix[::extent], weight * extent
    return found


def _distinct(ids: Int) -> int:
    """Return how many from the first on are all different."""
    seen: set[int] = set()
    for number, each in enumerate(ids.tolist()):
        if each in seen:
            return number
        seen.add(each)
    return len(ids)


@dataclass(frozen=True)
class User:
    """An operand that has the axis.

    Attributes
    ----------
    positions : from the index of each class to the index of each slot, (lanes, elements).
    per_register : elements in a register, where its end matters; else 0.
    """

    positions: Callable[[Int], Int]
    per_register: int


def best(ids: Int, matrix: Int, per_register: int, users: Sequence[User]) -> Int:
    """Return the index of each class that makes the fewest digits.

    Parameters
    ----------
    ids, matrix : classes of the slots of the operand whose digits are put in order.
    per_register : elements in one of its registers.
    users : the operands whose digits count.

    Raises
    ------
    LayoutError
        If no order gives digits.
    """
    places = sorted(moving(ids, matrix, "moves"), key=lambda place: place.rank(per_register))
    chosen: tuple[int, Int] | None = None
    error = LayoutError("the classes are not those of digits")
    for order in permutations(places):
        try:
            index = _index(ids, order)
            cost = sum(_cost(user, index) for user in users)
        except LayoutError as caught:
            error = caught
            continue
        if chosen is None or cost < chosen[0]:
            chosen = cost, index
    if chosen is None:
        raise error
    return chosen[1]


def _index(ids: Int, order: tuple[Place, ...]) -> Int:
    """Return the index of each class when the digits count in this order."""
    label = np.zeros(ids.shape, np.int64)
    weight = 1
    for place in order:
        label += place.values((ids.shape[0], ids.shape[1])) * weight
        weight *= place.extent
    index = np.full(int(ids.max()) + 1, -1, np.int64)
    index[ids] = label
    if (index[ids] != label).any():
        raise LayoutError("slots of one class lie at different indices: no digits")
    return index


def _cost(user: User, index: Int) -> int:
    """Return how many digits move; one that runs on from register to register counts as two."""
    found = digits.solve(user.positions(index)[..., None])
    cost, weight = sum(any(step.moves) for step in found.lane), 1
    for step in found.elem:
        crosses = weight < user.per_register < weight * step.extent
        cost += any(step.moves) * (1 + crosses)
        weight *= step.extent
    return cost
