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

from attnprobe.layouts import Instruction
from attnprobe.probing import blame, fills, predict, registers
from attnprobe.probing.blame import Solution
from attnprobe.probing.compare import Asked, compare_bits, comparison
from attnprobe.probing.definition import Question
from attnprobe.probing.report import MATCH, Answer, OperandVerdict

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]


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


def solve(row: Instruction, found: Meetings, operand: str) -> Solution | None:
    """Return what ``operand`` and C must be for all meetings to hold, the others as they are.

    None where nothing does: some other operand is wrong as well.
    """
    said = blame.claims(row)
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
    if solved is None or not blame.covers(solved, row[operand]):
        return None
    solution = {**said, operand: solved}
    passed = blame.through(found.c_of_d, solution["D"], registers.slots(row["C"]))
    return None if passed is None else {**solution, "C": passed}


def _unanimous(slot: Int, rows: Int, cols: Int, count: int) -> Int | None:
    """Return (row, col) of each slot where all its meetings agree, else None."""
    solved = np.full((count, 2), -1, np.int64)
    solved[slot, 0], solved[slot, 1] = rows, cols
    agreed = (solved[slot, 0] == rows).all() and (solved[slot, 1] == cols).all()
    return solved if agreed and (solved >= 0).all() else None


@comparison
def meetings(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every bit of D is as the row predicts; else the operands that explain what is not."""
    bits = [d_bits(row, asked["meetings"], "D"), d_bits(row, asked["pass_through"], "C")]
    checked = {"A": bits[0], "B": bits[0], "C": bits[1], "D": bits[0]}
    counts = {name: registers.slots(row[name]) for name in "ABCD"}
    if not any(item.differing for item in bits):
        every = tuple(OperandVerdict(name, MATCH, counts[name]) for name in "ABCD")
        total = sum(item.checked for item in bits)
        return Answer(every, (f"all {total} values of D have the predicted bits",))
    found = read(row, asked)
    ways = blame.explanations(row, lambda operand: solve(row, found, operand))
    return blame.answer(row, ways) if ways else _unexplained(row, found, checked)


def d_bits(row: Instruction, item: Asked, label: str) -> OperandVerdict:
    """Return the verdict on the bits of D, as one on the operand ``label``."""
    d = row["D"]
    expected = predict.result_bits(row, predict.product(row, item.held()))
    return compare_bits(d, registers.unpack(item.dump.arrays[0], d.format), expected, label)


def _unexplained(
    row: Instruction, found: Meetings, checked: Mapping[str, OperandVerdict]
) -> Answer:
    """No single operand explains the dump: blame those whose claims fail, show the bits of D."""
    said = blame.claims(row)
    a, b, d = found.a, found.b, found.d
    broken = {
        "m of A and D": int((said["A"][a, 0] != said["D"][d, 0]).sum()),
        "k of A and B": int((said["A"][a, 1] != said["B"][b, 0]).sum()),
        "n of B and D": int((said["B"][b, 1] != said["D"][d, 1]).sum()),
    }
    m, n, k = row.shape
    expected = row["D"].matrices * m * n * k
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
