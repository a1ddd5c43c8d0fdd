"""Comparison "planes": which bit of a slot's number is which bit of m, k or n, of wide products.

Where A and B have too many slots for a block of each, A holds one bit of its slots' numbers and B
one of its own, every bit of A with every bit of B. Each sum counts where both are set: the whole
length of k, half or a quarter of it or nothing, as the bits belong to m, n, the same k or another.
So a layout in which each bit of the slot number adds something of its own is determined, and random
integers in other questions see any other. Sparse products are asked so as well, once with each
group's elements in the first places and once in the last, so that all of B takes part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import blame, fills, predict, registers
from attnprobe.probing.blame import Solution
from attnprobe.probing.compare import Asked, comparison, merge
from attnprobe.probing.definition import Question
from attnprobe.probing.meetings import d_bits
from attnprobe.probing.report import MATCH, Answer, OperandVerdict

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]
_PASSES = "pass_through"


@dataclass(frozen=True, eq=False)
class Planes:
    """One fill as it was asked and answered.

    Attributes
    ----------
    a, b : what A (with its zeros in place) and B hold by the row: (planes, m, k), (planes, k, n).
    columns : k of each stored element of A, (m, stored); None for dense.
    d : the dump, (planes of A, planes of B, slots of D).
    """

    a: Array
    b: Array
    columns: Int | None
    d: Array


def read(row: Instruction, item: Asked) -> Planes:
    """Return the planes of a fill."""
    held, d = item.held(), row["D"]
    values = d.format.decode(registers.unpack(item.dump.arrays[0], d.format))
    count = len(fills.build("planes", row, row["B"]))
    a = predict.matrix(row["A"], held["A"][::count])
    b = predict.matrix(row["B"], held["B"][:count])
    by_plane = values.reshape(len(a), count, registers.slots(d))
    if row.sparsity is None:
        return Planes(a, b, None, by_plane)
    columns = row.sparsity.columns(predict.metadata(row, held)[0])
    return Planes(_expanded(row, a, columns), b, columns, by_plane)


def _expanded(row: Instruction, stored: Array, columns: Int | None) -> Array:
    if columns is None:
        return stored
    full = np.zeros((*stored.shape[:-1], row.shape[2]))
    np.put_along_axis(full, np.broadcast_to(columns, stored.shape), stored, axis=-1)
    return full


def solve(row: Instruction, found: list[Planes], c_of_d: Int, operand: str) -> Solution | None:
    """Return what ``operand`` and C must be for all sums to hold, the others as they are."""
    solved = _solve_d(row, found) if operand == "D" else _solve_factor(row, found, operand)
    if solved is None or not blame.covers(solved, row[operand]):
        return None
    solution = {**blame.claims(row), operand: solved}
    passed = blame.through(c_of_d, solution["D"], registers.slots(row["C"]))
    return None if passed is None else {**solution, "C": passed}


def _solve_factor(row: Instruction, found: list[Planes], name: str) -> Int | None:
    """Return (row, col) of each slot of A or B, where each bit of its number adds its own part."""
    operand = row[name]
    candidates = _coordinate_bits(operand)
    predicted = [_sums(row, item, name, [each for _, each in candidates]) for item in found]
    number = np.arange(registers.slots(operand))
    solved = np.zeros((len(number), 2), np.int64)
    for bit in range(int(number[-1]).bit_length()):
        plane = bit + 1  # plane 0 is 1 everywhere
        seen = [item.d[plane] if name == "A" else item.d[:, plane] for item in found]
        fitting = [
            step
            for place, (step, _) in enumerate(candidates)
            if all((sums[place] == d).all() for sums, d in zip(predicted, seen, strict=True))
        ]
        if not fitting:
            return None
        solved += (number[:, None] >> bit & 1) * np.array(fitting[0])
    return solved


def _coordinate_bits(operand: Operand) -> list[tuple[tuple[int, int], Array]]:
    """Return for each bit of row and column: what it adds to (row, col), and where it is set."""
    rows, cols = operand.fragment.rows, operand.fragment.cols
    row, col = np.indices((rows, cols))
    of_rows = [((1 << bit, 0), row >> bit & 1) for bit in range((rows - 1).bit_length())]
    of_cols = [((0, 1 << bit), col >> bit & 1) for bit in range((cols - 1).bit_length())]
    return [*of_rows, *of_cols]


def _sums(row: Instruction, item: Planes, name: str, matrices: list[Array]) -> Array:
    """Return what D would hold if ``name`` held each of ``matrices``, beside all planes.

    (matrices, planes of the other operand, slots of D).
    """
    given = np.stack(matrices).astype(np.float64)[:, None]
    if name == "A":
        sums = predict.times(row, _expanded(row, given, item.columns), item.b)
    else:
        sums = predict.times(row, item.a, given)
    return row["D"].fragment.gather(sums).reshape(*sums.shape[:2], -1)


def _solve_d(row: Instruction, found: list[Planes]) -> Int | None:
    """Return (row, col) of each slot of D: where the sums of all planes are those it holds."""
    wanted, seen = [], []
    for item in found:
        sums = predict.times(row, item.a[:, None], item.b)
        wanted.append(sums.reshape(-1, sums.shape[-2] * sums.shape[-1]))
        seen.append(item.d.reshape(-1, item.d.shape[-1]))
    cols = row["D"].fragment.cols
    positions = np.ascontiguousarray(np.concatenate(wanted).T)
    place = {each.tobytes(): divmod(number, cols) for number, each in enumerate(positions)}
    slots = np.ascontiguousarray(np.concatenate(seen).T)
    found_at = [place.get(each.tobytes()) for each in slots]
    if None in found_at or len(place) != len(positions):
        return None
    return np.array(found_at, np.int64)


@comparison
def planes(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every sum is as the row predicts; else the operands that explain what is not."""
    filled = [item for name, item in asked.items() if name != _PASSES]
    of_d = merge([d_bits(row, item, "D") for item in filled])
    of_c = d_bits(row, asked[_PASSES], "C")
    counts = {name: registers.slots(row[name]) for name in "ABCD"}
    if not of_d.differing and not of_c.differing:
        every = tuple(OperandVerdict(name, MATCH, counts[name]) for name in "ABCD")
        total = of_d.checked + of_c.checked
        return Answer(every, (f"all {total} values of D have the predicted bits",))
    found = [read(row, item) for item in filled]
    c_of_d = _passed(row, asked[_PASSES])
    ways = blame.explanations(row, lambda operand: solve(row, found, c_of_d, operand))
    if ways:
        return blame.answer(row, ways)
    said = "no operand whose slot number's bits each add a part of their own explains this"
    fine = [OperandVerdict(name, MATCH, counts[name]) for name in "AB"]
    return Answer((*fine, of_c, of_d), (said,))


def _passed(row: Instruction, item: Asked) -> Int:
    """Return the slot of C that each slot of D shows."""
    c, d = row["C"], row["D"]
    values = d.format.decode(registers.unpack(item.dump.arrays[0], d.format))
    by_digit = values.reshape(fills.tag_passes(row, c), registers.slots(d))
    return fills.read_tags(row, c, by_digit)
