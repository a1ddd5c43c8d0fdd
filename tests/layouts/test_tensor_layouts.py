"""Second witness: the tables of tensor-layouts, a library that shares no line with this one.

It writes a fragment as a CuTe layout: (lane, value) -> offset in a column-major matrix, B as n x k;
and matrix loads and stores as bits: (lane, bit) -> offset in bits in the matrices in memory. Where
it is wrong, docs/errata.md says how that is known, and a test here that it still is.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.layouts import Instruction
from tests.layouts.layout_mutants import mutant_rows

atoms = pytest.importorskip("tensor_layouts.atoms_nv", reason="comes with the extra 'test'")

LISTS = ("SM70", "SM75", "SM80", "SM89", "SM90", "SM120", "SM90_GMMA", "SM90_GMMA_EXT")
MMA_ATOMS = {atom.name: atom for name in LISTS for atom in getattr(atoms, f"MMA_ATOMS_{name}")}

# Its tables that the manual, CuTe and the rows contradict: atom -> operands. See docs/errata.md.
WRONG = {"SM80_16x8x32_S32S4S4S32_TN": "B"}

# Atoms whose name is no instruction of PTX, so that there is no row to compare.
NAMELESS = re.compile(r"\(complex\)|\(sparse\)|m16n8k64\.row\.col\.f\d\d\.e4m3|^mma\.sync.*kind")


def row_of(atom: Any) -> Instruction | None:
    """Return the atom's row; of wgmma it names no types, and any row of its shape will do."""
    if NAMELESS.search(atom.ptx):
        return None
    shape = next((name for name in layouts.names() if name.startswith(f"{atom.ptx}.")), "")
    return layouts.exact(atom.ptx) or layouts.exact(shape)


WITH_ROWS = {name: atom for name, atom in MMA_ATOMS.items() if row_of(atom) is not None}

# The library writes the count before the shape: ...aligned.x4.trans.m8n8...
COPY_ATOMS = {
    ("ldmatrix", 1, False): atoms.SM75_U32x1_LDSM_N,
    ("ldmatrix", 2, False): atoms.SM75_U32x2_LDSM_N,
    ("ldmatrix", 4, False): atoms.SM75_U32x4_LDSM_N,
    ("ldmatrix", 1, True): atoms.SM75_U16x2_LDSM_T,
    ("ldmatrix", 2, True): atoms.SM75_U16x4_LDSM_T,
    ("ldmatrix", 4, True): atoms.SM75_U16x8_LDSM_T,
    ("stmatrix", 1, False): atoms.SM90_U32x1_STSM_N,
    ("stmatrix", 2, False): atoms.SM90_U32x2_STSM_N,
    ("stmatrix", 4, False): atoms.SM90_U32x4_STSM_N,
    ("stmatrix", 1, True): atoms.SM90_U16x2_STSM_T,
    ("stmatrix", 2, True): atoms.SM90_U16x4_STSM_T,
    ("stmatrix", 4, True): atoms.SM90_U16x8_STSM_T,
}
M8N8_ROWS = [row for row in layouts.rows("ldmatrix", "stmatrix") if ".m8n8." in row.ptx]


def table(atom: Any, row: Instruction, name: str) -> np.ndarray:
    """Return the library's (lane, element) -> (row, col), for the lanes of one matrix."""
    return _table(atom.name, row.lanes // row[name].matrices, name)


@cache
def _table(atom_name: str, lanes: int, name: str) -> np.ndarray:
    atom = MMA_ATOMS[atom_name]
    m, n, k = atom.shape_mnk
    layout, height, elements = {
        "A": (atom.a_layout, m, m * k),
        "B": (atom.b_layout, n, n * k),
        "C": (atom.c_layout, m, m * n),
        "D": (atom.c_layout, m, m * n),
    }[name]
    offsets = [[layout(lane, i) for i in range(elements // lanes)] for lane in range(lanes)]
    slow, fast = np.divmod(np.array(offsets), height)
    return np.stack([slow, fast] if name == "B" else [fast, slow], axis=-1)


def by_row(atom: Any, row: Instruction, name: str) -> np.ndarray:
    """Return the row's (lane, element) -> (row, col), for the lanes of the first matrix."""
    coords = row[name].coords()
    if row[name].matrices == 1:
        return coords
    lanes = [atom.thr_id(thread) for thread in range(row.lanes // row[name].matrices)]
    assert not coords[lanes][..., 0].any()  # the first quad pair has matrix 0
    return coords[lanes][..., 1:]


def disagreeing_operands(atom: Any, row: Instruction) -> str:
    """Return the names of the operands in which the library and the row differ."""
    names = [name for name in row.by_name if name in "ABCD"]
    if row.family == "wgmma":
        names = ["D"]  # A and B are places in shared memory there
    return "".join(
        name
        for name in names
        if not np.array_equal(table(atom, row, name), by_row(atom, row, name))
    )


def m8n8_table(row: Instruction) -> np.ndarray:
    """Return the library's (lane, element) -> (matrix, row, col), int64 (32, elements, 3)."""
    count = row.operands[0].matrices
    atom = COPY_ATOMS[row.family, count, row.transposed]
    layout = atom.dst_layout_bits if row.family == "ldmatrix" else atom.src_layout_bits
    found = np.empty((32, 2 * count, 3), np.int64)
    for lane in range(32):
        for element in range(2 * count):
            line, bit = divmod(layout(lane, 16 * element), 128)
            found[lane, element] = (*divmod(line, 8), bit // 16)
    return found


@pytest.mark.parametrize("name", WITH_ROWS)
def test_products_are_the_library_s_but_where_it_is_known_to_be_wrong(name: str) -> None:
    atom = WITH_ROWS[name]
    row = row_of(atom)
    assert row is not None
    assert disagreeing_operands(atom, row) == WRONG.get(name, "")


def test_every_atom_that_names_an_instruction_has_a_row() -> None:
    without = [atom.ptx for atom in MMA_ATOMS.values() if row_of(atom) is None]
    assert [ptx for ptx in without if not NAMELESS.search(ptx)] == []
    assert len(WITH_ROWS) >= 78


def test_the_wrong_int4_table_does_not_even_cover_its_matrix() -> None:
    atom = MMA_ATOMS["SM80_16x8x32_S32S4S4S32_TN"]
    row = row_of(atom)
    assert row is not None
    found = table(atom, row, "B")
    differ = (found != row["B"].coords()).any(axis=-1)
    positions = {tuple(position) for lane in found.tolist() for position in lane}
    assert (differ.size, int(differ.sum()), len(positions)) == (256, 192, 160)


@pytest.mark.parametrize("row", M8N8_ROWS, ids=lambda row: row.ptx)
def test_moved_matrices_are_the_library_s(row: Instruction) -> None:
    assert row.operands[0].coords().tolist() == m8n8_table(row).tolist()


@pytest.mark.parametrize("row", M8N8_ROWS, ids=lambda row: row.ptx)
def test_addresses_are_the_library_s(row: Instruction) -> None:
    # The library repeats the addresses for the lanes that supply none; the hardware ignores those.
    count = row.operands[0].matrices
    atom = COPY_ATOMS[row.family, count, row.transposed]
    place = atom.src_layout_bits if row.family == "ldmatrix" else atom.dst_layout_bits
    assert row.addresses == 8 * count
    assert [place(lane, 0) // 128 for lane in range(row.addresses)] == list(range(row.addresses))


def seen_by() -> list[tuple[Any, Instruction]]:
    """Return the atoms that must see a changed digit: those of one matrix in one warp."""
    pairs = [(atom, row_of(atom)) for atom in WITH_ROWS.values() if atom.name not in WRONG]
    fitting = [(atom, row) for atom, row in pairs if row is not None and row.family == "mma"]
    return [(atom, row) for atom, row in fitting if row["A"].matrices == 1]


@pytest.mark.parametrize(("atom", "row"), seen_by(), ids=lambda value: getattr(value, "ptx", ""))
def test_any_exchange_of_two_digits_is_seen_here_too(atom: Any, row: Instruction) -> None:
    changed = list(mutant_rows(row))
    assert changed
    assert all(disagreeing_operands(atom, mutant) for mutant in changed)


@pytest.mark.parametrize("row", M8N8_ROWS, ids=lambda row: row.ptx)
def test_any_exchange_of_two_digits_of_a_moved_matrix_is_seen_here_too(row: Instruction) -> None:
    found = m8n8_table(row).tolist()
    assert all(mutant.operands[0].coords().tolist() != found for mutant in mutant_rows(row))
