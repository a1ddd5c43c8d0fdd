"""Second witness: the tables of tensor-layouts, a library that shares no line with this one.

It writes a fragment as a CuTe layout: (lane, value) -> offset in a column-major matrix, B as n x k;
and ldmatrix as bits: (lane, bit) -> offset in bits in the matrices as they lie in memory.
"""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.layouts import Instruction
from tests.layouts.layout_mutants import mutant_rows

atoms = pytest.importorskip("tensor_layouts.atoms_nv", reason="comes with the extra 'test'")

MMA_ATOMS = {
    atom.ptx: atom
    for atom in (
        atoms.SM80_16x8x8_F16F16F16F16_TN,
        atoms.SM80_16x8x16_F16F16F16F16_TN,
        atoms.SM80_16x8x8_F32F16F16F32_TN,
        atoms.SM80_16x8x16_F32F16F16F32_TN,
        atoms.SM80_16x8x8_F32BF16BF16F32_TN,
        atoms.SM80_16x8x16_F32BF16BF16F32_TN,
    )
}

# The library writes the count before the shape: ...aligned.x4.trans.m8n8...
COPY_ATOMS = {
    (1, False): atoms.SM75_U32x1_LDSM_N,
    (2, False): atoms.SM75_U32x2_LDSM_N,
    (4, False): atoms.SM75_U32x4_LDSM_N,
    (1, True): atoms.SM75_U16x2_LDSM_T,
    (2, True): atoms.SM75_U16x4_LDSM_T,
    (4, True): atoms.SM75_U16x8_LDSM_T,
}

MMA_ROWS = layouts.search("mma.sync")
LDMATRIX_ROWS = layouts.search("ldmatrix")


def mma_table(row: Instruction, name: str) -> np.ndarray:
    """Return the library's (lane, element) -> (row, col) of an operand, int64 (32, elements, 2)."""
    atom = MMA_ATOMS[row.ptx]
    m, n, k = atom.shape_mnk
    layout, height = {
        "A": (atom.a_layout, m),
        "B": (atom.b_layout, n),
        "C": (atom.c_layout, m),
        "D": (atom.c_layout, m),
    }[name]
    elements = {"A": m * k, "B": n * k, "C": m * n, "D": m * n}[name] // 32
    table = np.empty((32, elements, 2), np.int64)
    for lane in range(32):
        for value in range(elements):
            slow, fast = divmod(layout(lane, value), height)
            table[lane, value] = (slow, fast) if name == "B" else (fast, slow)
    return table


def disagreeing_operands(row: Instruction) -> list[str]:
    return [
        operand.name
        for operand in row.operands
        if not np.array_equal(mma_table(row, operand.name), operand.coords())
    ]


def ldmatrix_table(row: Instruction) -> np.ndarray:
    """Return the library's (lane, element) -> (matrix, row, col), int64 (32, elements, 3)."""
    count = row["D"].axis_sizes[0]
    layout = COPY_ATOMS[count, row.transposed].dst_layout_bits
    table = np.empty((32, 2 * count, 3), np.int64)
    for lane in range(32):
        for element in range(2 * count):
            line, bit = divmod(layout(lane, 16 * element), 128)
            table[lane, element] = (*divmod(line, 8), bit // 16)
    return table


@pytest.mark.parametrize("row", MMA_ROWS, ids=lambda row: row.ptx)
def test_mma_operands_are_the_library_s(row: Instruction) -> None:
    assert disagreeing_operands(row) == []


@pytest.mark.parametrize("row", LDMATRIX_ROWS, ids=lambda row: row.ptx)
def test_ldmatrix_results_are_the_library_s(row: Instruction) -> None:
    assert row["D"].coords().tolist() == ldmatrix_table(row).tolist()


@pytest.mark.parametrize("row", LDMATRIX_ROWS, ids=lambda row: row.ptx)
def test_ldmatrix_addresses_are_the_library_s(row: Instruction) -> None:
    # The library repeats the addresses for the lanes that supply none; the hardware ignores those.
    count = row["D"].axis_sizes[0]
    source = COPY_ATOMS[count, row.transposed].src_layout_bits
    assert row.addresses == 8 * count
    assert [source(lane, 0) // 128 for lane in range(row.addresses)] == list(range(row.addresses))


@pytest.mark.parametrize("row", MMA_ROWS, ids=lambda row: row.ptx)
def test_any_exchange_of_two_digits_is_seen_here_too(row: Instruction) -> None:
    assert all(disagreeing_operands(mutant) for mutant in mutant_rows(row))


@pytest.mark.parametrize("row", LDMATRIX_ROWS, ids=lambda row: row.ptx)
def test_any_exchange_of_two_digits_of_ldmatrix_is_seen_here_too(row: Instruction) -> None:
    table = ldmatrix_table(row).tolist()
    assert all(mutant["D"].coords().tolist() != table for mutant in mutant_rows(row))


def test_every_row_has_a_table_in_the_library() -> None:
    named = {row.ptx for row in MMA_ROWS}
    assert named == set(MMA_ATOMS)
    assert {(row["D"].axis_sizes[0], row.transposed) for row in LDMATRIX_ROWS} == set(COPY_ATOMS)
    assert len(MMA_ROWS) + len(LDMATRIX_ROWS) == len(layouts.rows())
