"""The ISA's formulas for fragments, written again: (row, col) of element i of a lane.

Nothing here reads the layout rows. Source: PTX ISA 9.1, 9.7.14.5 "Matrix Fragments for mma...",
9.7.14.6 "Matrix fragments for ... mma.sp". The places of sparsity metadata are in pictures there.
"""

from functools import cache

import numpy as np

At = tuple[int, int]


def accumulator(lane: int, i: int) -> At:
    """C and D of every shape but m8n8k4 with .f16: rows groupID and, from c2 on, groupID + 8."""
    group, thread = lane >> 2, lane % 4
    return (group if i < 2 else group + 8), thread * 2 + (i & 1)


def a_one_row(per: int, lane: int, i: int) -> At:
    """m8n8k4 .f64, m8n8k16, m8n8k32, m8n8k128: row groupID, ``per`` columns from each thread."""
    return lane >> 2, (lane % 4) * per + i


def a_two_rows(per: int, lane: int, i: int) -> At:
    """m16n8k4, m16n8k16 .s8, m16n8k32 .s4, m16n8k128: the second register eight rows below."""
    group, thread = lane >> 2, lane % 4
    return (group if i < per else group + 8), thread * per + (i & (per - 1))


def a_four(per: int, lane: int, i: int) -> At:
    """m16n8k8 .tf32, m16n8k16 .f16, m16n8k32 .s8, m16n8k64 .s4, m16n8k256 (and longer k alike).

    a0 and a1 as above, a2 and a3 to the right by the columns of all four threads.
    """
    group, thread = lane >> 2, lane % 4
    register = i // per
    row = group if register in (0, 2, 4, 6) else group + 8
    return row, thread * per + i % per + (4 * per) * (register >> 1)


def b_usual(per: int, lane: int, i: int) -> At:
    """B of every shape but m8n8k4 with .f16: column groupID; further registers further down."""
    group, thread = lane >> 2, lane % 4
    return thread * per + i % per + 4 * per * (i // per), group


def quad_pair_a(layout: str, lane: int, i: int) -> At:
    """A of m8n8k4 with .f16; rows 8 q on are those of quad pair q."""
    low = 8 * (lane % 16 // 4)
    upper = 0 if lane < 16 else 4
    if layout == "row":
        return low + lane % 4 + upper, i
    return low + i % 4 + upper, lane % 4


def quad_pair_b(layout: str, lane: int, i: int) -> At:
    """B of m8n8k4 with .f16; rows 4 q on are those of quad pair q."""
    low = 4 * (lane % 16 // 4)
    upper = 0 if lane < 16 else 4
    if layout == "row":
        return low + lane % 4, i + upper
    return low + i, lane % 4 + upper


def quad_pair_c(bits: int, lane: int, i: int) -> At:
    """C and D of m8n8k4 with .f16, of 16 or 32 bits."""
    low = 8 * (lane % 16 // 4)
    upper = 0 if lane < 16 else 4
    if bits == 16:
        return low + lane % 4 + upper, i
    return low + (lane & 1) + (i & 2) + upper, (i & 4) + (lane & 2) + (i & 1)


def index_at(quad_lanes: int, indices: int, lane: int, i: int, bits: int) -> tuple[int, int]:
    """(row, index) of the i-th index in a lane's metadata, ``indices`` of them in a row of A.

    One lane of a quad: 16 bits for row groupID, 16 for the row 8 below. Two lanes: the first has
    the first half of both rows, the second the second; with elements of 8 and 4 ``bits``, each has
    a row. Four: row groupID is in the even ones.
    """
    group, thread = lane >> 2, lane % 4
    if quad_lanes == 1:
        return (group, i) if i < indices else (group + 8, i - indices)
    half = indices // 2
    if quad_lanes == 2 and bits <= 8:
        return group + 8 * (thread % 2), i
    if quad_lanes == 2:
        return (group if i < half else group + 8), i % half + half * (thread % 2)
    return (group + 8 * (thread % 2)), i + half * (thread // 2)


def reads(quad_lanes: int, selector: int, lane: int) -> bool:
    """Whether the selector takes metadata from the lane."""
    thread = lane % 4
    if quad_lanes == 1:
        return thread == selector
    return quad_lanes == 4 or thread // 2 == selector


@cache
def table(function: object, *given: object, elements: int) -> np.ndarray:
    """(row, col) of all elements of all lanes: (32, elements, 2)."""
    assert callable(function)
    return np.array([[function(*given, lane, i) for i in range(elements)] for lane in range(32)])
