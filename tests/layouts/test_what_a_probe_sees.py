"""What a product can tell about a layout row: all but a common order of k, of m and of n.

Here the "hardware" is the true row; a claimed row names what goes in and comes out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.layouts import Digit, Fragment, Instruction
from tests.layouts.layout_mutants import mutant_rows
from tests.layouts.test_isa_formulas import disagreements

# One row of each shape and width in which one matrix is multiplied.
MMA_ROWS = [row for row in layouts.distinct("mma") if row["A"].matrices == 1]
K16 = layouts.search("m16n8k16")[0]


def product_agrees(true: Instruction, claimed: Instruction) -> bool:
    """Return whether D = A B + C under the claimed names, on random integers."""
    rng = np.random.default_rng(7)
    m, n, k = true.shape
    A, B, C = (rng.integers(-1000, 1000, size) for size in ((m, k), (k, n), (m, n)))
    held = [
        claimed[name].fragment.gather(matrix) for name, matrix in (("A", A), ("B", B), ("C", C))
    ]
    a, b, c = (true[name].fragment.scatter(each) for name, each in zip("ABC", held, strict=True))
    d = claimed["D"].fragment.scatter(true["D"].fragment.gather(a @ b + c))
    return bool(np.array_equal(d, A @ B + C))


def renamed(row: Instruction, names: str, axes: str, steps: dict[int, int]) -> Instruction:
    """Return the row with the steps of digits changed on one axis of some operands.

    ``axes`` says for each operand of ``names`` whether the renamed axis is its row or its column.
    """
    along = dict(zip(names, axes, strict=True))

    def change(digit: Digit, axis: str) -> Digit:
        if axis == "r":
            return replace(digit, row=steps.get(digit.row, digit.row))
        return replace(digit, col=steps.get(digit.col, digit.col))

    operands = []
    for operand in row.operands:
        if operand.name in along:
            old = operand.fragment
            lane = tuple(change(digit, along[operand.name]) for digit in old.lane)
            elem = tuple(change(digit, along[operand.name]) for digit in old.elem)
            operand = replace(operand, fragment=replace(old, lane=lane, elem=elem))
        operands.append(operand)
    return replace(row, operands=tuple(operands))


def other_order_of_k(row: Instruction) -> Instruction:
    """Exchange bits 0 and 3 of k in A and B."""
    return renamed(row, "AB", "cr", {1: 8, 8: 1})


def other_order_of_m(row: Instruction) -> Instruction:
    """Make m = 2 * (lane // 4) + half, in place of lane // 4 + 8 * half, in A, C and D."""
    return renamed(row, "ACD", "rrr", {1: 2, 8: 1})


def other_order_of_n(row: Instruction) -> Instruction:
    """Move bit 0 of n to the top in B, C and D."""
    columns = (Digit(4, row=2), Digit(2, col=4), Digit(4, col=1))
    moved = renamed(row, "CD", "cc", {2: 1, 1: 4})
    b = moved["B"]
    b = replace(b, fragment=Fragment(16, 8, columns, b.fragment.elem))
    return replace(
        moved, operands=tuple(b if each.name == "B" else each for each in moved.operands)
    )


COMMON_ORDERS = (other_order_of_k, other_order_of_m, other_order_of_n)


@pytest.mark.parametrize("row", MMA_ROWS, ids=lambda row: row.ptx)
def test_the_row_itself_agrees(row: Instruction) -> None:
    assert product_agrees(row, row)


@pytest.mark.parametrize("change", COMMON_ORDERS, ids=lambda change: change.__name__)
def test_a_common_order_is_not_seen_by_a_product_but_by_the_manual(
    change: Callable[[Instruction], Instruction],
) -> None:
    claimed = change(K16)
    assert claimed != K16
    assert product_agrees(K16, claimed)
    assert disagreements(claimed) != []


@pytest.mark.parametrize("change", COMMON_ORDERS, ids=lambda change: change.__name__)
def test_the_same_order_in_one_operand_alone_is_seen(
    change: Callable[[Instruction], Instruction],
) -> None:
    claimed = change(K16)
    for operand in claimed.operands:
        if operand != K16[operand.name]:
            alone = tuple(operand if each.name == operand.name else each for each in K16.operands)
            assert not product_agrees(K16, replace(K16, operands=alone))


@pytest.mark.parametrize("row", MMA_ROWS, ids=lambda row: row.ptx)
def test_every_exchange_of_two_digits_in_one_operand_is_seen(row: Instruction) -> None:
    seen = [not product_agrees(row, mutant) for mutant in mutant_rows(row)]
    assert len(seen) >= 4
    assert all(seen)
