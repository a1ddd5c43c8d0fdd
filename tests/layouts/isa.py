"""Which of the PTX ISA's formulas is whose: sparse and scaled products, moves, warpgroups.

Those of dense ``mma`` are in isa_dense.py. Sections: PTX ISA 9.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attnprobe.layouts import Instruction, Operand
from tests.layouts.isa_dense import (
    DENSE,
    QUAD_PAIRS,
    Formula,
    Int,
    c_m8n8,
    c_m16n8,
    group_id,
    in_group,
)

# --- 9.7.14.6.2: sparse A -------------------------------------------------------------------------

# The manual says the rows of each a_i and the first column of the chunk that it comes from; of a
# chunk half is stored, so the first stored column is half of that. It numbers the elements of a
# chunk in order.


def stored(
    rows_of: Callable[[Int], Int], firstcol: Callable[[Int, Int], Int], chunk: int
) -> Formula:
    def formula(laneid: Int, i: Int) -> tuple[Int, ...]:
        row = np.where(rows_of(i), group_id(laneid), group_id(laneid) + 8)
        return row, firstcol(laneid, i) // 2 + i % (chunk // 2)

    return formula


SPARSE_A = {  # (k, bits)
    (16, 16): stored(lambda i: i < 2, lambda t, i: in_group(t) * 4 + 0 * i, 4),
    (32, 16): stored(
        lambda i: ((i >= 0) & (i < 2)) | ((i >= 4) & (i < 6)),
        lambda t, i: np.where(i < 4, in_group(t) * 4, in_group(t) * 4 + 16),
        4,
    ),
    (16, 32): stored(
        lambda i: (i == 0) | (i == 2),
        lambda t, i: np.where(i < 2, in_group(t) * 2, in_group(t) * 2 + 8),
        2,
    ),
    (8, 32): stored(lambda i: i == 0, lambda t, i: in_group(t) * 2 + 0 * i, 2),
    (32, 8): stored(lambda i: (i >= 0) & (i < 4), lambda t, i: in_group(t) * 8 + 0 * i, 8),
    (64, 8): stored(
        lambda i: ((i >= 0) & (i < 4)) | ((i >= 8) & (i < 12)),
        lambda t, i: np.where(i < 8, in_group(t) * 8, in_group(t) * 8 + 32),
        8,
    ),
    (64, 4): stored(lambda i: (i >= 0) & (i < 8), lambda t, i: in_group(t) * 16 + 0 * i, 16),
    (128, 4): stored(
        lambda i: ((i >= 0) & (i < 8)) | ((i >= 16) & (i < 24)),
        lambda t, i: np.where(i < 16, in_group(t) * 16, in_group(t) * 16 + 64),
        16,
    ),
}


def b_in_registers(per: int) -> Formula:
    """Pictures only (figures 121, 124, 132-135, 142-145): register r has rows from 4 per r on."""

    def formula(laneid: Int, i: Int) -> tuple[Int, ...]:
        return i // per * 4 * per + in_group(laneid) * per + i % per, group_id(laneid)

    return formula


def scale_a(laneid: Int, i: Int, width: int) -> tuple[Int, ...]:
    """9.7.14.3: a pair of lanes of each quad, the upper of which has the rows 8 below."""
    return group_id(laneid) + 8 * (laneid % 2), i % width


def scale_b(laneid: Int, i: Int, width: int) -> tuple[Int, ...]:
    """9.7.14.3: a lane of each quad; the quad's number is the column."""
    return i % width, group_id(laneid) + 0 * i


# --- 9.7.14.5.15 to .17: matrices moved -----------------------------------------------------------


def m8n8(laneid: Int, i: Int) -> tuple[Int, ...]:
    """Four threads take a row of 16 bytes, thread 0 its first; a matrix a register."""
    byte = in_group(laneid) * 4 + i % 2 * 2
    return i // 2, group_id(laneid), byte // 2


def m8n8_trans(laneid: Int, i: Int) -> tuple[Int, ...]:
    """.trans: the matrix is loaded in column-major format."""
    matrix, row, col = m8n8(laneid, i)
    return matrix, col, row


def m8n16(laneid: Int, i: Int) -> tuple[Int, ...]:
    """Each thread loads 4 consecutive columns, a group of four threads a row; one register."""
    return i // 4, group_id(laneid), in_group(laneid) * 4 + i % 4


def m16n16_trans(laneid: Int, i: Int) -> tuple[Int, ...]:
    """4 consecutive columns across 2 rows, of the transpose: r0 the first row, r1 that 8 below."""
    row = group_id(laneid) + 8 * (i // 4 % 2)
    col = in_group(laneid) * 4 + i % 4
    return i // 8, col, row


def m16n8_trans(laneid: Int, i: Int) -> tuple[Int, ...]:
    """Figure 108: e0, e1 of a row and e2, e3 of that 8 below, stored in column-major format."""
    row = group_id(laneid) + 8 * (i % 4 // 2)
    col = in_group(laneid) * 2 + i % 2
    return i // 4, col, row


MOVED = {
    ("m8n8", False): m8n8,
    ("m8n8", True): m8n8_trans,
    ("m8n16", False): m8n16,
    ("m16n16", True): m16n16_trans,
    ("m16n8", True): m16n8_trans,
}


# --- 9.7.15.5.1.1: warpgroups (figures 148 to 155) ------------------------------------------------


def by_warp(formula: Formula) -> Formula:
    """Each warp has 16 rows, laid out as a warp's own instruction has them."""

    def of_group(thread: Int, i: Int) -> tuple[Int, ...]:
        row, *rest = formula(thread % 32, i)
        return (row + 16 * (thread // 32), *rest)

    return of_group


def d_wgmma(thread: Int, i: Int) -> tuple[Int, ...]:
    """d0, d1 of a row, d2, d3 of that 8 below, and 8 columns on with every four."""
    laneid, warp = thread % 32, thread // 32
    row = np.where(i % 4 < 2, group_id(laneid), group_id(laneid) + 8)
    return row + 16 * warp, 8 * (i // 4) + in_group(laneid) * 2 + (i & 0x1)


# --- 9.7.14.6.2 and 9.7.15.6.2: metadata ----------------------------------------------------------

# Pictures only. As CUTLASS 4 has them, (lane, bit) -> (m, k) in CuTe strides, m-major:
# mma_traits_sm120_sparse.hpp (four lanes) and mma_traits_sm90_gmma_sparse.hpp (two lanes).


def metadata(quad_lanes: int, bits: int, per_index: int, whole_rows: bool = False) -> Formula:
    """Return (m, index) of the i-th index of a lane; an index is ``per_index`` bits wide.

    ``whole_rows``: mma.sp with 8-bit and 4-bit elements and two lanes, which CUTLASS has not: the
    first of them has row groupID, the second the row 8 below. Source: dumps of an H200.
    """
    run = bits // per_index

    def formula(thread: Int, i: Int) -> tuple[Int, ...]:
        laneid, warp = thread % 32, thread // 32
        row = group_id(laneid) + 16 * warp
        if quad_lanes == 1:
            return row + 8 * (i // run), i % run
        if whole_rows:
            return row + 8 * (laneid % 2), i
        if quad_lanes == 2:
            return row + 8 * (i // run), run * (laneid % 2) + i % run
        return row + 8 * (laneid % 2), run * (laneid // 2 % 2) + i % run

    return formula


def quad_lanes(row: Instruction) -> int:
    """9.7.14.6.1, 9.7.15.6.1: how many threads of a group of four contribute metadata."""
    k, kinds = row.shape[2], ("kind::f8f6f4", "kind::mxf8f6f4", "kind::mxf4")
    if any(kind in row.mnemonic for kind in kinds):
        return 4
    bits = next(WIDTHS[word] for word in row.mnemonic.split(".")[-2:0:-1] if word in WIDTHS)
    if row.family == "wgmma.sp":
        return 4 if bits == 8 else 2
    one = {(16, 16), (8, 32)}
    two = {(32, 16), (16, 32), (32, 8), (64, 4)}
    return 1 if (k, bits) in one else 2 if (k, bits) in two else 4


WIDTHS = {
    "f16": 16,
    "bf16": 16,
    "tf32": 32,
    "s8": 8,
    "u8": 8,
    "e4m3": 8,
    "e5m2": 8,
    "s4": 4,
    "u4": 4,
}


# --- which one ------------------------------------------------------------------------------------


def formula(row: Instruction, operand: Operand) -> Formula:
    """Return the manual's formula of an operand."""
    words = row.mnemonic.split(".")
    if row.family in ("ldmatrix", "stmatrix"):
        return MOVED[words[3], "trans" in words]
    if row.family == "movmatrix":
        source, result = m8n8, m8n8_trans
        return lambda lane, i: {"A": source, "D": result}[operand.name](lane, i)[1:]
    if operand.matrices > 1:
        kinds = QUAD_PAIRS[operand.name if operand.name in "AB" else "CD"]
        layouts_ = dict(zip("AB", words[4:6], strict=True))
        return kinds[layouts_.get(operand.name, operand.format.name)]
    return product_formula(row, operand)


def product_formula(row: Instruction, operand: Operand) -> Formula:
    m, _, k = row.shape
    width, per = operand.format.bits, operand.format.per_register
    if operand.name in "CD":
        return {8: c_m8n8, 16: c_m16n8, 64: d_wgmma}[m]
    if operand.name == "E":
        lanes = quad_lanes(row)
        whole = row.family == "mma.sp" and lanes == 2 and row["A"].format.bits <= 8
        return metadata(lanes, 32 if lanes == 4 else 16, width, whole)
    if operand.name == "SFA":
        return lambda lane, i: scale_a(lane, i, operand.fragment.cols)
    if operand.name == "SFB":
        return lambda lane, i: scale_b(lane, i, operand.fragment.rows)
    if row.sparsity is None:
        warp = DENSE[16 if m == 64 else m, k, width]["AB".index(operand.name)]
    elif operand.name == "A":
        warp = SPARSE_A[k, width]
    else:
        dense = DENSE.get((16, k, width))
        warp = dense[1] if dense else b_in_registers(per)
    return by_warp(warp) if m == 64 else warp


def positions(row: Instruction, operand: Operand) -> np.ndarray:
    """Return every position by the manual: int64, (lanes, elements, axes)."""
    lane, i = np.indices((operand.fragment.lanes, operand.fragment.elements))
    values = formula(row, operand)(lane, i)
    return np.stack([np.broadcast_to(value, lane.shape) for value in values], axis=-1)
