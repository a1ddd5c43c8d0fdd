"""Comparison "meetings": which element of A met which of B in which sum, and which row is to blame.

With B one-hot and A numbered, every nonzero sum names the slot of A that met the one slot of B: a
table of meetings (a, b, d), m * n * k of them, that knows nothing of any layout. A row says for
each slot which (m, k), (k, n) or (m, n) it is, so each meeting is three claims: m of a is m of d, k
of a is k of b, n of b is n of d; and C passing through D is two more. Where claims fail, each
operand in turn is solved for from the others; what explains all meetings with the fewest wrong
operands is the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import fills, predict, registers
from attnprobe.probing.compare import Asked, compare_bits, comparison, verdict
from attnprobe.probing.definition import Question
from attnprobe.probing.report import MATCH, Answer, OperandVerdict

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]
Solution = dict[str, Int]  # operand -> (slots, 2): the (row, col) that the dump says each slot has


@dataclass(frozen=True, eq=False)
class Meetings:
    """What a dump says without any row.

    Attributes
    ----------
    a, b, d : slot numbers; a[i] * b[i] was added into d[i]. int64, (meetings,).
    c_of_d : slot of C that each slot of D shows when A B = 0, -1 or -2 where none can be read.
    unreadable : how many values of D are neither 0 nor the number of a slot.
    """

    a: Int
    b: Int
    d: Int
    c_of_d: Int
    unreadable: int


def read(row: Instruction, asked: Mapping[str, Asked]) -> Meetings:
    """Return the meetings in the dumps of fills "meetings" and "pass_through"."""
    a, b, c, d = (row[name] for name in "ABCD")
    values = d.format.decode(registers.unpack(asked["meetings"].dump.arrays[0], d.format))
    by_digit = values.reshape(fills.tag_passes(row, a), registers.slots(b), registers.slots(d))
    numbers = fills.read_tags(row, a, by_digit)
    met_b, met_d = np.nonzero(numbers >= 0)
    passed = d.format.decode(registers.unpack(asked["pass_through"].dump.arrays[0], d.format))
    c_of_d = fills.read_tags(row, c, passed.reshape(fills.tag_passes(row, c), registers.slots(d)))
    unreadable = int((numbers == -2).sum() + (c_of_d < 0).sum())
    return Meetings(numbers[met_b, met_d], met_b, met_d, c_of_d, unreadable)


def claims(row: Instruction) -> Solution:
    """Return (row, col) of each slot as ``row`` says, by operand."""
    return {name: row[name].fragment.coords().reshape(-1, 2) for name in "ABCD"}


def solve(row: Instruction, found: Meetings, operand: str) -> Solution | None:
    """Return what ``operand`` and C must be for all meetings to hold, the others as they are.

    None where nothing does: some other operand is wrong as well.
    """
    said = claims(row)
    (m_a, k_a), (k_b, n_b), (m_d, n_d) = (said[name].T for name in "ABD")
    a, b, d = found.a, found.b, found.d
    claimed = {
        "A": (n_b[b] == n_d[d], a, m_d[d], k_b[b]),
        "B": (m_a[a] == m_d[d], b, k_a[a], n_d[d]),
        "D": (k_a[a] == k_b[b], d, m_a[a], n_b[b]),
    }
    rest_holds, slot, rows, cols = claimed[operand]
    if not rest_holds.all():
        return None
    solved = _unanimous(slot, rows, cols, registers.slots(row[operand]))
    if solved is None or not _covers(solved, row[operand]):
        return None
    solution = {**said, operand: solved}
    passed = _through(found.c_of_d, solution["D"], registers.slots(row["C"]))
    return None if passed is None else {**solution, "C": passed}


def _unanimous(slot: Int, rows: Int, cols: Int, count: int) -> Int | None:
    """Return (row, col) of each slot where all its meetings agree, else None."""
    solved = np.full((count, 2), -1, np.int64)
    solved[slot, 0], solved[slot, 1] = rows, cols
    agreed = (solved[slot, 0] == rows).all() and (solved[slot, 1] == cols).all()
    return solved if agreed and (solved >= 0).all() else None


def _covers(solved: Int, operand: Operand) -> bool:
    flat = solved[:, 0] * operand.fragment.cols + solved[:, 1]
    counts = np.bincount(flat, minlength=operand.fragment.rows * operand.fragment.cols)
    return bool((counts == operand.fragment.copies).all())


def _through(c_of_d: Int, coords_d: Int, count: int) -> Int | None:
    """Return (row, col) of each slot of C: that of the slot of D that shows it."""
    if (c_of_d < 0).any() or len(np.unique(c_of_d)) != count:
        return None
    coords = np.empty((count, 2), np.int64)
    coords[c_of_d] = coords_d
    return coords


def explanations(row: Instruction, found: Meetings) -> list[Solution]:
    """Return every way to explain the meetings by changing A, B or D, and C with it; fewest first.

    Each has only the operands that differ from the row.
    """
    said = claims(row)
    kept: list[Solution] = []
    for operand in "ABD":
        solution = solve(row, found, operand)
        if solution is None:
            continue
        wrong = {name: at for name, at in solution.items() if (at != said[name]).any()}
        if not any(_same(wrong, other) for other in kept):
            kept.append(wrong)
    return sorted(kept, key=len)


def _same(one: Solution, other: Solution) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@comparison
def meetings(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every bit of D is as the row predicts; else the operands that explain what is not."""
    bits = [_d_bits(row, asked["meetings"], "D"), _d_bits(row, asked["pass_through"], "C")]
    checked = {"A": bits[0], "B": bits[0], "C": bits[1], "D": bits[0]}
    counts = {name: registers.slots(row[name]) for name in "ABCD"}
    if not any(item.differing for item in bits):
        every = tuple(OperandVerdict(name, MATCH, counts[name]) for name in "ABCD")
        total = sum(item.checked for item in bits)
        return Answer(every, (f"all {total} values of D have the predicted bits",))
    found = read(row, asked)
    ways = explanations(row, found)
    if not ways:
        return _unexplained(row, found, checked)
    blamed: Solution = {}
    for way in ways:
        if len(way) == len(ways[0]):
            blamed = {**way, **blamed}
    verdicts = tuple(_moved(row[name], blamed.get(name)) for name in "ABCD")
    return Answer(verdicts, _explain(ways))


def _d_bits(row: Instruction, item: Asked, label: str) -> OperandVerdict:
    """Return the verdict on the bits of D, as one on the operand ``label``."""
    d = row["D"]
    expected = predict.fragment_bits(d, predict.product(row, item.held()).exact)
    return compare_bits(d, registers.unpack(item.dump.arrays[0], d.format), expected, label)


def _moved(operand: Operand, measured: Int | None) -> OperandVerdict:
    """Return the verdict on an operand whose slots hold ``measured`` (None: what the row says)."""
    said = operand.fragment.coords()
    if measured is None:
        return OperandVerdict(operand.name, MATCH, registers.slots(operand))
    at = measured.reshape(said.shape)

    def describe(block: int, lane: int, element: int) -> tuple[str, str, None, None]:
        holds = registers.position(operand, *at[lane, element].tolist())
        return holds, registers.position(operand, *said[lane, element].tolist()), None, None

    return verdict(operand, (at != said).any(axis=-1)[None], describe)


def _explain(ways: list[Solution]) -> tuple[str, ...]:
    texts = [" and ".join(sorted(way)) for way in ways]
    fewest = [text for text, way in zip(texts, ways, strict=True) if len(way) == len(ways[0])]
    if len(fewest) > 1:
        said = f"the rows of {' and '.join(fewest)} contradict each other: a change of either one"
        return (f"{said} explains every bit, and no product can tell which is wrong",)
    text = f"a wrong row of {texts[0]} alone explains every bit"
    return (text, *(f"so would wrong rows of {other} together" for other in texts[1:]))


def _unexplained(
    row: Instruction, found: Meetings, checked: Mapping[str, OperandVerdict]
) -> Answer:
    """No single operand explains the dump: blame those whose claims fail, show the bits of D."""
    said = claims(row)
    a, b, d = found.a, found.b, found.d
    broken = {
        "m of A and D": int((said["A"][a, 0] != said["D"][d, 0]).sum()),
        "k of A and B": int((said["A"][a, 1] != said["B"][b, 0]).sum()),
        "n of B and D": int((said["B"][b, 1] != said["D"][d, 1]).sum()),
    }
    expected = row["A"].fragment.rows * row["A"].fragment.cols * row["B"].fragment.cols
    findings = [
        f"{count} of {len(a)} meetings contradict {claim}" for claim, count in broken.items()
    ]
    findings.append(f"{len(a)} meetings of {expected}; {found.unreadable} values are unreadable")
    findings.append("no single operand explains this: at least two rows are wrong")
    failing = {claim[at] for claim, count in broken.items() if count for at in (5, -1)}
    verdicts = []
    for name in "ABCD":
        item = checked[name]
        wrong = item.differing and (name == "D" or name in failing or name == "C")
        differences = item.differences if name in "CD" else ()
        verdicts.append(
            OperandVerdict(name, item.verdict, item.checked, item.differing, differences)
            if wrong
            else OperandVerdict(name, MATCH, item.checked)
        )
    return Answer(tuple(verdicts), tuple(findings))
