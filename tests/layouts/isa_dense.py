"""The PTX ISA's own formulas of dense ``mma``, written here a second time in its words.

Each function takes arrays of lane numbers and element numbers and gives the axes' values. They
follow the manual's cases (groupID, threadID_in_group, the ranges of i) and share nothing with the
digits of the rows, nor with each other more than the manual does. Sections: PTX ISA 9.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Int = np.ndarray
Formula = Callable[[Int, Int], tuple[Int, ...]]


def group_id(laneid: Int) -> Int:
    return laneid >> 2


def in_group(laneid: Int) -> Int:
    return laneid % 4


# --- 9.7.14.5.1: m8n8k4 with .f16, four computations ----------------------------------------------


def computation(laneid: Int) -> Int:
    """Threads 0-3 and 16-19 make computation 1, 4-7 and 20-23 computation 2, and so on."""
    return laneid % 16 // 4


def a_m8n8k4_row(laneid: Int, i: Int) -> tuple[Int, ...]:
    return computation(laneid), np.where(laneid < 16, laneid % 4, laneid % 4 + 4), i


def a_m8n8k4_col(laneid: Int, i: Int) -> tuple[Int, ...]:
    return computation(laneid), np.where(laneid < 16, i % 4, i % 4 + 4), laneid % 4


def b_m8n8k4_row(laneid: Int, i: Int) -> tuple[Int, ...]:
    return computation(laneid), laneid % 4, np.where(laneid < 16, i, i + 4)


def b_m8n8k4_col(laneid: Int, i: Int) -> tuple[Int, ...]:
    return computation(laneid), i, np.where(laneid < 16, laneid % 4, laneid % 4 + 4)


def c_m8n8k4_f16(laneid: Int, i: Int) -> tuple[Int, ...]:
    return computation(laneid), np.where(laneid < 16, laneid % 4, laneid % 4 + 4), i


def c_m8n8k4_f32(laneid: Int, i: Int) -> tuple[Int, ...]:
    x = (laneid & 0b1) + (i & 0b10)
    row = np.where(laneid < 16, x, x + 4)
    return computation(laneid), row, (i & 0b100) + (laneid & 0b10) + (i & 0b1)


QUAD_PAIRS = {
    "A": {"row": a_m8n8k4_row, "col": a_m8n8k4_col},
    "B": {"row": b_m8n8k4_row, "col": b_m8n8k4_col},
    "CD": {"f16": c_m8n8k4_f16, "f32": c_m8n8k4_f32},
}


# --- 9.7.14.5.2 to .5: m8n8 -----------------------------------------------------------------------


def c_m8n8(laneid: Int, i: Int) -> tuple[Int, ...]:
    return group_id(laneid), in_group(laneid) * 2 + (i & 0x1)


def a_m8n8k4_f64(laneid: Int, i: Int) -> tuple[Int, ...]:
    return laneid >> 2, laneid % 4


def b_m8n8k4_f64(laneid: Int, i: Int) -> tuple[Int, ...]:
    return laneid % 4, laneid >> 2


def a_m8n8k16(laneid: Int, i: Int) -> tuple[Int, ...]:
    return group_id(laneid), in_group(laneid) * 4 + i


def b_m8n8k16(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 4 + i, group_id(laneid)


def a_m8n8k32(laneid: Int, i: Int) -> tuple[Int, ...]:
    return group_id(laneid), in_group(laneid) * 8 + i


def b_m8n8k32(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 8 + i, group_id(laneid)


def a_m8n8k128(laneid: Int, i: Int) -> tuple[Int, ...]:
    return group_id(laneid), in_group(laneid) * 32 + i


def b_m8n8k128(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 32 + i, group_id(laneid)


# --- 9.7.14.5.6: m16n8k4, .tf32 and .f64 ----------------------------------------------------------


def a_m16n8k4(laneid: Int, i: Int) -> tuple[Int, ...]:
    return np.where(i == 0, group_id(laneid), group_id(laneid) + 8), in_group(laneid)


def b_m16n8k4(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid), group_id(laneid)


def c_m16n8(laneid: Int, i: Int) -> tuple[Int, ...]:
    """The accumulators of every m16n8 shape: 9.7.14.5.6 to .13 repeat this one."""
    row = np.where(i < 2, group_id(laneid), group_id(laneid) + 8)
    return row, in_group(laneid) * 2 + (i & 0x1)


# --- 9.7.14.5.7: m16n8k8 --------------------------------------------------------------------------


def a_m16n8k8_f16(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = np.where((i == 0) | (i == 1), group_id(laneid), group_id(laneid) + 8)
    return row, in_group(laneid) * 2 + (i & 0x1)


def b_m16n8k8_f16(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 2 + i, group_id(laneid)


def a_m16n8k8_tf32(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = np.where((i == 0) | (i == 2), group_id(laneid), group_id(laneid) + 8)
    return row, np.where((i == 0) | (i == 1), in_group(laneid), in_group(laneid) + 4)


def b_m16n8k8_tf32(laneid: Int, i: Int) -> tuple[Int, ...]:
    return np.where(i == 0, in_group(laneid), in_group(laneid) + 4), group_id(laneid)


# --- 9.7.14.5.8: m16n8k16, floating point ---------------------------------------------------------


def a_m16n8k16_f16(laneid: Int, i: Int) -> tuple[Int, ...]:
    upper = ((i >= 0) & (i < 2)) | ((i >= 4) & (i < 6))
    col = in_group(laneid) * 2 + (i & 0x1)
    return np.where(upper, group_id(laneid), group_id(laneid) + 8), np.where(i < 4, col, col + 8)


def b_m16n8k16_f16(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = in_group(laneid) * 2 + (i & 0x1)
    return np.where(i < 2, row, row + 8), group_id(laneid)


def a_m16n8k16_f64(laneid: Int, i: Int) -> tuple[Int, ...]:
    """The manual's column, for even and odd i, with its missing parenthesis put in."""
    row = np.where(i % 2 == 0, group_id(laneid), group_id(laneid) + 8)
    even = i * 2 + in_group(laneid)
    odd = (i * 2) - 2 + in_group(laneid)
    return row, np.where(i % 2 == 0, even, odd)


def b_m16n8k16_f64(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) + i * 4, group_id(laneid)


# --- 9.7.14.5.9 to .11: 8-bit and 4-bit -----------------------------------------------------------


def a_m16n8k16_i8(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = np.where(i < 4, group_id(laneid), group_id(laneid) + 8)
    return row, in_group(laneid) * 4 + (i & 0x3)


def b_m16n8k16_i8(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 4 + i, group_id(laneid)


def a_m16n8k32_i4(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = np.where(i < 8, group_id(laneid), group_id(laneid) + 8)
    return row, in_group(laneid) * 8 + (i & 0x7)


def b_m16n8k32_i4(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 8 + (i & 0x7), group_id(laneid)


def a_m16n8k32_i8(laneid: Int, i: Int) -> tuple[Int, ...]:
    upper = ((i >= 0) & (i < 4)) | ((i >= 8) & (i < 12))
    col = in_group(laneid) * 4 + (i & 0x3)
    return np.where(upper, group_id(laneid), group_id(laneid) + 8), np.where(i < 8, col, col + 16)


def b_m16n8k32_i8(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = in_group(laneid) * 4 + (i & 0x3)
    return np.where(i < 4, row, row + 16), group_id(laneid)


def a_m16n8k64_i4(laneid: Int, i: Int) -> tuple[Int, ...]:
    upper = ((i >= 0) & (i < 8)) | ((i >= 16) & (i < 24))
    col = in_group(laneid) * 8 + (i & 0x7)
    return np.where(upper, group_id(laneid), group_id(laneid) + 8), np.where(i < 16, col, col + 32)


def b_m16n8k64_i4(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = in_group(laneid) * 8 + (i & 0x7)
    return np.where(i < 8, row, row + 32), group_id(laneid)


# --- 9.7.14.5.12 and .13: single bits -------------------------------------------------------------


def a_m16n8k128(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = np.where(i < 32, group_id(laneid), group_id(laneid) + 8)
    return row, in_group(laneid) * 32 + (i & 0x1F)


def b_m16n8k128(laneid: Int, i: Int) -> tuple[Int, ...]:
    return in_group(laneid) * 32 + i, group_id(laneid)


def a_m16n8k256_as_printed(laneid: Int, i: Int) -> tuple[Int, ...]:
    """The manual's text, with its slip: no ``& 0x1F`` in the first line of the column."""
    upper = ((i >= 0) & (i < 32)) | ((i >= 64) & (i < 96))
    low = in_group(laneid) * 32 + i
    high = in_group(laneid) * 32 + (i & 0x1F) + 128
    return np.where(upper, group_id(laneid), group_id(laneid) + 8), np.where(i < 64, low, high)


def a_m16n8k256(laneid: Int, i: Int) -> tuple[Int, ...]:
    row, _ = a_m16n8k256_as_printed(laneid, i)
    col = in_group(laneid) * 32 + (i & 0x1F)
    return row, np.where(i < 64, col, col + 128)


def b_m16n8k256(laneid: Int, i: Int) -> tuple[Int, ...]:
    row = in_group(laneid) * 32 + (i & 0x1F)
    return np.where(i < 32, row, row + 128), group_id(laneid)


DENSE = {  # (m, k, bits of an element of A) -> A, B
    (8, 4, 64): (a_m8n8k4_f64, b_m8n8k4_f64),
    (8, 16, 8): (a_m8n8k16, b_m8n8k16),
    (8, 32, 4): (a_m8n8k32, b_m8n8k32),
    (8, 128, 1): (a_m8n8k128, b_m8n8k128),
    (16, 4, 32): (a_m16n8k4, b_m16n8k4),
    (16, 4, 64): (a_m16n8k4, b_m16n8k4),
    (16, 8, 16): (a_m16n8k8_f16, b_m16n8k8_f16),
    (16, 8, 32): (a_m16n8k8_tf32, b_m16n8k8_tf32),
    (16, 8, 64): (a_m16n8k8_tf32, b_m16n8k8_tf32),
    (16, 16, 16): (a_m16n8k16_f16, b_m16n8k16_f16),
    (16, 16, 64): (a_m16n8k16_f64, b_m16n8k16_f64),
    (16, 16, 8): (a_m16n8k16_i8, b_m16n8k16_i8),
    (16, 32, 8): (a_m16n8k32_i8, b_m16n8k32_i8),
    (16, 32, 4): (a_m16n8k32_i4, b_m16n8k32_i4),
    (16, 64, 4): (a_m16n8k64_i4, b_m16n8k64_i4),
    (16, 128, 1): (a_m16n8k128, b_m16n8k128),
    (16, 256, 1): (a_m16n8k256, b_m16n8k256),
}
