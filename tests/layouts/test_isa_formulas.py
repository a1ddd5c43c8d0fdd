"""First witness: the PTX ISA's own formulas, written here a second time and compared in full.

The functions below follow the manual's text (groupID, threadID_in_group, the cases of i) and share
nothing with the digits of the rows. Sections are those of PTX ISA 9.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import LayoutError
from attnprobe.layouts import Digit, Fragment, Instruction, Operand
from tests.layouts.layout_mutants import mutant_rows

Position = tuple[int, ...]
Formula = Callable[[int, int], Position]


def group_id(laneid: int) -> int:
    return laneid >> 2


def thread_id_in_group(laneid: int) -> int:
    return laneid % 4


def a_m16n8k8(laneid: int, i: int) -> Position:
    """9.7.14.5.7, multiplicand A, .f16 and .bf16."""
    row = group_id(laneid) if i in (0, 1) else group_id(laneid) + 8
    col = thread_id_in_group(laneid) * 2 + (i & 0x1)
    return row, col


def b_m16n8k8(laneid: int, i: int) -> Position:
    """9.7.14.5.7, multiplicand B, .f16 and .bf16."""
    return (thread_id_in_group(laneid) * 2) + i, group_id(laneid)


def c_m16n8k8(laneid: int, i: int) -> Position:
    """9.7.14.5.7, accumulators, .f16 and .f32."""
    row = group_id(laneid) if i in (0, 1) else group_id(laneid) + 8
    return row, (thread_id_in_group(laneid) * 2) + (i & 0x1)


def a_m16n8k16(laneid: int, i: int) -> Position:
    """9.7.14.5.8, multiplicand A, .f16 and .bf16."""
    row = group_id(laneid) if 0 <= i < 2 or 4 <= i < 6 else group_id(laneid) + 8
    col = (thread_id_in_group(laneid) * 2) + (i & 0x1)
    return row, col if i < 4 else col + 8


def b_m16n8k16(laneid: int, i: int) -> Position:
    """9.7.14.5.8, multiplicand B, .f16 and .bf16."""
    row = (thread_id_in_group(laneid) * 2) + (i & 0x1)
    return row if i < 2 else row + 8, group_id(laneid)


def c_m16n8k16(laneid: int, i: int) -> Position:
    """9.7.14.5.8, accumulators."""
    row = group_id(laneid) if i < 2 else group_id(laneid) + 8
    return row, (thread_id_in_group(laneid) * 2) + (i & 0x1)


def ldmatrix_m8n8(laneid: int, i: int) -> Position:
    """9.7.14.5.15: four threads take a row of 16 bytes, thread 0 its first; a matrix a register."""
    register, half = divmod(i, 2)
    byte = thread_id_in_group(laneid) * 4 + half * 2
    return register, group_id(laneid), byte // 2


def ldmatrix_m8n8_trans(laneid: int, i: int) -> Position:
    """9.7.14.5.15, .trans: the matrix is loaded in column-major format."""
    matrix, row, col = ldmatrix_m8n8(laneid, i)
    return matrix, col, row


MMA = {
    (16, 8, 8): {"A": a_m16n8k8, "B": b_m16n8k8, "C": c_m16n8k8, "D": c_m16n8k8},
    (16, 8, 16): {"A": a_m16n8k16, "B": b_m16n8k16, "C": c_m16n8k16, "D": c_m16n8k16},
}

# 9.7.14.5.15, the table of which threads provide which address: first thread of each matrix.
FIRST_ADDRESS_THREAD = {"x1": (0,), "x2": (0, 8), "x4": (0, 8, 16, 24)}


def manual_formula(row: Instruction, operand: Operand) -> Formula:
    """Return the manual's formula for an operand, from the name of the instruction alone."""
    words = row.ptx.split(".")
    if words[0] == "ldmatrix":
        return ldmatrix_m8n8_trans if "trans" in words else ldmatrix_m8n8
    m, rest = words[3].removeprefix("m").split("n")
    n, k = rest.split("k")
    return MMA[int(m), int(n), int(k)][operand.name]


def disagreements(row: Instruction) -> list[tuple[str, int, int, Position, Position]]:
    """Return (operand, lane, i, by the manual, by the row) wherever the two differ."""
    found = []
    for operand in row.operands:
        formula = manual_formula(row, operand)
        for lane, positions in enumerate(operand.coords().tolist()):
            for i, position in enumerate(positions):
                if formula(lane, i) != tuple(position):
                    found.append((operand.name, lane, i, formula(lane, i), tuple(position)))
    return found


ROWS = pytest.mark.parametrize("row", layouts.rows(), ids=lambda row: row.ptx)


@ROWS
def test_every_lane_and_element_is_where_the_manual_puts_it(row: Instruction) -> None:
    assert disagreements(row) == []


@ROWS
def test_the_operands_have_as_many_registers_as_the_manual_says(row: Instruction) -> None:
    # 9.7.14.5.7, .8 and .15: the vector expressions' lengths.
    shape, ab = row.ptx.split(".")[3], {"m16n8k8": (2, 1), "m16n8k16": (4, 2)}
    if row.family == "ldmatrix":
        expected = {"D": int(row.ptx.split(".")[4].removeprefix("x"))}
    else:
        a, b = ab[shape]
        accumulators = {"f32": 4, "f16": 2}[row.ptx.split(".")[-1]]
        expected = {"D": accumulators, "A": a, "B": b, "C": accumulators}
    assert {operand.name: operand.registers for operand in row.operands} == expected


@ROWS
def test_any_exchange_of_two_digits_is_seen(row: Instruction) -> None:
    seen = [bool(disagreements(mutant)) for mutant in mutant_rows(row)]
    assert len(seen) >= 1
    assert all(seen)


@pytest.mark.parametrize("row", layouts.search("ldmatrix"), ids=lambda row: row.ptx)
def test_lanes_supply_the_addresses_that_the_manual_asks_of_them(row: Instruction) -> None:
    from attnprobe.render.layout import address_rows

    firsts = FIRST_ADDRESS_THREAD[row.ptx.split(".")[4]]
    expected = {
        first + line: (matrix, line) for matrix, first in enumerate(firsts) for line in range(8)
    }
    assert dict(enumerate(address_rows(row))) == expected


def test_the_a_operand_of_m16n8k16_is_the_one_that_the_p_repack_must_meet() -> None:
    """a[0]: row_a, k < 8; a[1]: row_b, k < 8; a[2]: row_a, k >= 8; a[3]: row_b, k >= 8."""
    for row in layouts.search("m16n8k16"):
        a = row["A"]
        for lane in range(32):
            row_a = lane // 4
            row_b = row_a + 8
            held = a.coords()[lane].reshape(4, 2, 2)
            assert held[..., 0].tolist() == [[row_a] * 2, [row_b] * 2, [row_a] * 2, [row_b] * 2]
            assert (held[:2, :, 1] < 8).all()
            assert (held[2:, :, 1] >= 8).all()
            columns = [2 * (lane % 4), 2 * (lane % 4) + 1]
            assert (held[..., 1] % 8).tolist() == [columns] * 4


def test_d_of_one_product_packed_to_16_bits_is_the_a_of_the_next() -> None:
    """Two m16n8 accumulators side by side are the 16x16 A operand, lane by lane and in order."""
    row = layouts.exact("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
    assert row is not None
    d, a = row["D"].coords(), row["A"].coords()
    left = d.tolist()
    right = (d + np.array([0, 8])).tolist()
    assert [one + two for one, two in zip(left, right, strict=True)] == a.tolist()


def test_a_fragment_with_too_few_elements_for_its_registers_is_refused() -> None:
    row = layouts.rows()[0]
    odd = Fragment(32, 1, (Digit(32, row=1),), (Digit(1),))
    with pytest.raises(LayoutError, match="do not fill whole registers"):
        replace(row["A"], fragment=odd)
