"""Which row is to blame: what each operand would have to be for a dump to be explained.

A *solution* says for each slot of each operand where its element lies. A comparison can solve for
one operand with the others as their rows say; what explains the dump with the fewest operands that
differ from their rows is the verdict.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers
from attnprobe.probing.compare import verdict
from attnprobe.probing.report import MATCH, Answer, OperandVerdict

Int = npt.NDArray[np.int64]
Solution = dict[str, Int]  # operand -> (slots, 2): the (row, col) that the dump says each slot has


def claims(row: Instruction) -> Solution:
    """Return (row, col) of each slot as ``row`` says, by operand.

    Where lanes multiply several matrices at once, these stand on the diagonal of a larger product:
    columns count through the matrices as rows do.
    """
    return {name: _on_diagonal(row[name]) for name in "ABCD"}


def _on_diagonal(operand: Operand) -> Int:
    at = operand.fragment.coords().reshape(-1, 2)
    if operand.matrices == 1:
        return at
    matrix = at[:, 0] // operand.matrix_rows
    return np.stack([at[:, 0], at[:, 1] + matrix * operand.fragment.cols], axis=-1)


def covers(solved: Int, operand: Operand) -> bool:
    """Return whether the places are those of the operand, each as often as it has copies."""
    rows, cols = operand.fragment.rows, operand.fragment.cols
    matrix, col = np.divmod(solved[:, 1], cols)
    of_row = solved[:, 0] // operand.matrix_rows if operand.matrix_rows else 0
    if (matrix != of_row).any() or (solved < 0).any() or (solved[:, 0] >= rows).any():
        return False
    counts = np.bincount(solved[:, 0] * cols + col, minlength=rows * cols)
    return bool((counts == operand.fragment.copies).all())


def through(c_of_d: Int, coords_d: Int, count: int) -> Int | None:
    """Return (row, col) of each slot of C: that of the slot of D that shows it."""
    if (c_of_d < 0).any() or len(np.unique(c_of_d)) != count:
        return None
    coords = np.empty((count, 2), np.int64)
    coords[c_of_d] = coords_d
    return coords


def explanations(row: Instruction, solve: Callable[[str], Solution | None]) -> list[Solution]:
    """Return every way to explain a dump by changing A, B or D, and C with it; fewest first.

    ``solve`` gives the solution for one of A, B, D with the others as they are, or None. Each
    explanation has only the operands that differ from the row.
    """
    said = claims(row)
    kept: list[Solution] = []
    for operand in "ABD":
        solution = solve(operand)
        if solution is None:
            continue
        wrong = {name: at for name, at in solution.items() if (at != said[name]).any()}
        if not any(_same(wrong, other) for other in kept):
            kept.append(wrong)
    return sorted(kept, key=len)


def _same(one: Solution, other: Solution) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def answer(row: Instruction, ways: list[Solution]) -> Answer:
    """Return the answer that blames the operands of the shortest of ``ways``."""
    blamed: Solution = {}
    for way in ways:
        if len(way) == len(ways[0]):
            blamed = {**way, **blamed}
    verdicts = tuple(moved(row[name], blamed.get(name)) for name in "ABCD")
    return Answer(verdicts, _explain(ways))


def moved(operand: Operand, measured: Int | None) -> OperandVerdict:
    """Return the verdict on an operand whose slots hold ``measured`` (None: what the row says)."""
    said = operand.fragment.coords()
    if measured is None:
        return OperandVerdict(operand.name, MATCH, registers.slots(operand))
    at = np.stack([measured[:, 0], measured[:, 1] % operand.fragment.cols], axis=-1)
    at = at.reshape(said.shape)

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
