"""First witness: the formulas of the PTX ISA, written a second time in ``isa.py``."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import LayoutError
from attnprobe.layouts import Digit, Fragment, Instruction
from tests.layouts import isa
from tests.layouts.layout_mutants import mutant_rows

# 9.7.14.5.15, the table of which threads provide which address: first thread of each matrix.
FIRST_ADDRESS_THREAD = {"x1": (0,), "x2": (0, 8), "x4": (0, 8, 16, 24)}

WARP = ("mma", "mma.sp", "mma.block_scale", "ldmatrix", "stmatrix", "movmatrix")


def disagreements(row: Instruction) -> list[tuple[str, int, int]]:
    """Return (operand, lane, i) wherever the manual and the row differ."""
    found = []
    for operand in row.operands:
        differ = (isa.positions(row, operand) != operand.coords()).any(axis=-1)
        found += [(operand.name, int(lane), int(i)) for lane, i in np.argwhere(differ)]
    return found


@pytest.mark.parametrize("family", [*WARP, "wgmma", "wgmma.sp"])
def test_every_lane_and_element_is_where_the_manual_puts_it(family: str) -> None:
    rows = layouts.rows(family)
    assert rows
    seen: set[object] = set()
    for row in rows:
        # Rows that share fragments, and the manual's formulas for them, are compared once.
        key = tuple((each.fragment, each.format.bits) for each in row.operands)
        if (row.shape, key) in seen and "kind" not in row.ptx:
            continue
        seen.add((row.shape, key))
        assert (row.ptx, disagreements(row)) == (row.ptx, [])


@pytest.mark.parametrize(
    "row", layouts.distinct("mma", "mma.sp", "mma.block_scale"), ids=lambda row: row.ptx
)
def test_any_exchange_of_two_digits_is_seen(row: Instruction) -> None:
    seen = [bool(disagreements(mutant)) for mutant in mutant_rows(row)]
    assert len(seen) >= 1
    assert all(seen)


# --- registers ------------------------------------------------------------------------------------

# The vector expressions' lengths in 9.7.14.5.1 to .13: (m, k, bits) -> registers of A, of B.
AB_REGISTERS = {
    (8, 4, 16): (2, 2),
    (8, 4, 64): (1, 1),
    (8, 16, 8): (1, 1),
    (8, 32, 4): (1, 1),
    (8, 128, 1): (1, 1),
    (16, 4, 32): (2, 1),
    (16, 4, 64): (2, 1),
    (16, 8, 16): (2, 1),
    (16, 8, 32): (4, 2),
    (16, 8, 64): (4, 2),
    (16, 16, 16): (4, 2),
    (16, 16, 64): (8, 4),
    (16, 16, 8): (2, 1),
    (16, 32, 8): (4, 2),
    (16, 32, 4): (2, 1),
    (16, 64, 4): (4, 2),
    (16, 128, 1): (2, 1),
    (16, 256, 1): (4, 2),
}
ACCUMULATORS = {  # (m, type) -> registers of C and of D
    (8, "f64"): 2,
    (8, "s32"): 2,
    (16, "f16"): 2,
    (16, "f32"): 4,
    (16, "s32"): 4,
    (16, "f64"): 4,
}


@pytest.mark.parametrize("row", layouts.rows("mma"), ids=lambda row: row.ptx)
def test_the_operands_have_as_many_registers_as_the_manual_says(row: Instruction) -> None:
    m, _, k = row.shape
    a, b = AB_REGISTERS[m, k, row["A"].format.bits]
    wanted = {"A": a, "B": b}
    for name in "CD":
        type_ = row[name].format.name
        quad_pairs = {"f16": 4, "f32": 8}  # 9.7.14.5.1
        wanted[name] = quad_pairs[type_] if row[name].matrices > 1 else ACCUMULATORS[m, type_]
    assert {operand.name: operand.registers for operand in row.operands} == wanted


def test_warpgroup_operands_have_as_many_registers_as_the_manual_says() -> None:
    for row in layouts.rows("wgmma", "wgmma.sp"):
        n, per = row.shape[1], row["D"].format.per_register
        assert row["D"].registers == n // 2 // per  # N/2 registers, N/4 of .f16x2
        if "A" in row.by_name:
            assert row["A"].registers == 4
        if "E" in row.by_name:
            assert row["E"].registers == 1


def test_moved_matrices_have_as_many_registers_as_the_manual_says() -> None:
    for row in layouts.rows("ldmatrix", "stmatrix"):
        words = row.mnemonic.split(".")
        count = int(words[4].removeprefix("x"))
        each = 2 if words[3] == "m16n16" else 1
        assert row.operands[0].registers == each * count
        assert row.operands[0].matrices == count


def test_sparse_and_scaled_products_have_as_many_registers_as_the_manual_s_examples() -> None:
    for row in layouts.rows("mma.sp", "mma.block_scale"):
        registers = {operand.name: operand.registers for operand in row.operands}
        assert {registers[name] for name in registers if name in ("E", "SFA", "SFB")} <= {1}
        if row.family == "mma.sp":
            assert registers["A"] == registers["B"]
            assert registers["A"] in (2, 4)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*WARP, "wgmma", "wgmma.sp"])
def test_a_row_s_shape_and_types_are_those_of_its_name(family: str) -> None:
    for row in layouts.rows(family):
        if not row.shape:
            continue
        shape = re.search(r"\.m(\d+)n(\d+)k(\d+)\.", row.mnemonic)
        assert shape is not None
        assert row.shape == tuple(map(int, shape.groups())), row.ptx
        types = re.findall(
            r"\.(f64|f32|s32|f16|bf16|tf32|[su][48]|b1|e\dm\d)(?=\.|$)", row.mnemonic
        )
        order = "DAB" if family.startswith("wgmma") else "DABC"
        for name, type_ in zip(order, types, strict=True):
            if name in row.by_name:
                assert row[name].format.ptx == type_, (row.ptx, name)


@pytest.mark.parametrize(
    "row",
    [row for row in layouts.rows("ldmatrix", "stmatrix") if "m16n16" not in row.ptx],
    ids=lambda row: row.ptx,
)
def test_lanes_supply_the_addresses_that_the_manual_asks_of_them(row: Instruction) -> None:
    from attnprobe.render.layout import address_rows

    firsts = FIRST_ADDRESS_THREAD[row.ptx.split(".")[4]]
    expected = {
        first + line: (matrix, line) for matrix, first in enumerate(firsts) for line in range(8)
    }
    assert dict(enumerate(address_rows(row))) == expected


def test_the_a_operand_of_m16n8k16_is_the_one_that_the_p_repack_must_meet() -> None:
    """a[0]: row_a, k < 8; a[1]: row_b, k < 8; a[2]: row_a, k >= 8; a[3]: row_b, k >= 8."""
    for row in layouts.search("mma.sync.aligned.m16n8k16.row.col.f32.bf16"):
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
    row = layouts.rows("mma")[0]
    odd = Fragment(32, 1, (Digit(32, row=1),), (Digit(1),))
    with pytest.raises(LayoutError, match="do not fill whole registers"):
        replace(row["A"], fragment=odd)
