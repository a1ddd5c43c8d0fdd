"""The fragments that matrix instructions share, as functions of their sizes.

Almost every product is spread over its lanes in one way. A lane is a quad number g = lane // 4 and
a place t = lane % 4 in the quad. The quad has a row of A, C and D and a column of B; the places
divide k (or n) between them in registers of E elements each (E = 32 / width; 1 for tf32 and f64).
A second register goes 8 rows down, and only then 4 E columns to the right. A warpgroup puts the
fragments of its four warps under each other.

Source: PTX ISA 9.1, 9.7.14.5 (mma), 9.7.14.6 (mma.sp), 9.7.14.3 (block scaling), 9.7.15.5 (wgmma).
"""

from __future__ import annotations

from functools import cache

from attnprobe.layouts.choice import Choice
from attnprobe.layouts.fragment import Digit, Digits, Fragment

# lane % 4: a pair of columns; lane // 4: the row.
QUAD_ROWS = (Digit(4, col=2), Digit(8, row=1))


def _digits(*digits: Digit) -> Digits:
    """Return the digits without those of one value."""
    return tuple(digit for digit in digits if digit.extent > 1)


def _warps(rows: int) -> tuple[Digit, ...]:
    """Return the digit of the warp where ``rows`` are those of a warpgroup."""
    return (Digit(rows // 16, row=16),) if rows > 16 else ()


def _halves(rows: int) -> Digit:
    """Return the digit that goes 8 rows down; shapes with m = 8 have only the upper half."""
    return Digit(min(rows, 16) // 8, row=8)


@cache
def a(m: int, k: int, per: int) -> Fragment:
    """Return A (m x k) with ``per`` elements in a register."""
    lane = (Digit(4, col=per), Digit(8, row=1), *_warps(m))
    wide = Digit(k // (4 * per), col=4 * per)
    return Fragment(m, k, lane, _digits(Digit(per, col=1), _halves(m), wide))


@cache
def b(k: int, per: int) -> Fragment:
    """Return B (k x 8) with ``per`` elements in a register."""
    lane = (Digit(4, row=per), Digit(8, col=1))
    return Fragment(k, 8, lane, _digits(Digit(per, row=1), Digit(k // (4 * per), row=4 * per)))


@cache
def d(m: int, n: int) -> Fragment:
    """Return C and D (m x n), whatever the accumulator's type."""
    lane = (*QUAD_ROWS, *_warps(m))
    return Fragment(m, n, lane, _digits(Digit(2, col=1), _halves(m), Digit(n // 8, col=8)))


# --- sparsity metadata ----------------------------------------------------------------------------


@cache
def metadata(m: int, indices: int, quad_lanes: int, whole_rows: bool = False) -> Fragment:
    """Return E: ``indices`` of each of m rows, in ``quad_lanes`` lanes of each quad.

    Where one or two lanes of a quad give them, the upper half of a register is for the row 8 below;
    where all four do, or where the two lanes have ``whole_rows``, that row has lanes of its own.
    """
    half, warps = Digit(2, row=8), _warps(m)
    quad_row = Digit(8, row=1)
    if quad_lanes == 1:
        lane = (Digit(4), quad_row, *warps)
        return Fragment(m, indices, lane, (Digit(indices, col=1), half), copies=4)
    across = Digit(2, col=indices // 2)
    run = Digit(indices // 2, col=1)
    if quad_lanes == 2 and whole_rows:
        lane = (half, Digit(2), quad_row, *warps)
        return Fragment(m, indices, lane, (Digit(indices, col=1),), copies=2)
    if quad_lanes == 2:
        return Fragment(m, indices, (across, Digit(2), quad_row, *warps), (run, half), copies=2)
    return Fragment(m, indices, (half, across, quad_row, *warps), (run,))


def metadata_choices(selector: str, quad_lanes: int) -> tuple[Choice, ...]:
    """Return which lanes of a quad the sparsity selector takes the metadata from."""
    if quad_lanes == 4:
        return ()
    count = 4 // quad_lanes
    return (Choice(selector, "lane", quad_lanes, tuple(range(count))),)


# --- scale factors --------------------------------------------------------------------------------


@cache
def scale_a(vector: int) -> Fragment:
    """Return the scale factors of A, 16 rows x ``vector`` blocks of k, a byte each."""
    lane = (Digit(2, row=8), Digit(2), Digit(8, row=1))
    bytes_ = _digits(Digit(vector, col=1), Digit(4 // vector))
    return Fragment(16, vector, lane, bytes_, copies=8 // vector)


@cache
def scale_b(vector: int) -> Fragment:
    """Return the scale factors of B, ``vector`` blocks of k x 8 columns, a byte each."""
    bytes_ = _digits(Digit(vector, row=1), Digit(4 // vector))
    return Fragment(vector, 8, (Digit(4), Digit(8, col=1)), bytes_, copies=16 // vector)


def scale_choices(letter: str, vector: int) -> tuple[Choice, ...]:
    """Return which lanes of a quad and which bytes ``thread-id`` and ``byte-id`` choose."""
    lanes = {"a": Choice("thread-id-a", "lane", 2, (0, 1))}
    lanes["b"] = Choice("thread-id-b", "lane", 1, (0, 1, 2, 3))
    if vector == 4:
        return (lanes[letter],)
    bytes_ = tuple(range(0, 4, vector))
    return (lanes[letter], Choice(f"byte-id-{letter}", "i", vector, bytes_))


# --- m8n8k4 with .f16 -----------------------------------------------------------------------------

# Lanes 4 q to 4 q + 3 and those 16 above them, a quad pair, have matrix q. A digit is the place in
# the quad, one the quad pair, one the upper lanes.


@cache
def quad_pair_a(row_major: bool) -> Fragment:
    """Return A, 8 x 4: a lane has a row, or half a column."""
    if row_major:
        lane = (Digit(4, row=1), Digit(4, row=8), Digit(2, row=4))
        return Fragment(32, 4, lane, (Digit(4, col=1),))
    return Fragment(32, 4, (Digit(4, col=1), Digit(4, row=8), Digit(2, row=4)), (Digit(4, row=1),))


@cache
def quad_pair_b(row_major: bool) -> Fragment:
    """Return B, 4 x 8: a lane has half a row, or a column."""
    if row_major:
        lane = (Digit(4, row=1), Digit(4, row=4), Digit(2, col=4))
        return Fragment(16, 8, lane, (Digit(4, col=1),))
    return Fragment(16, 8, (Digit(4, col=1), Digit(4, row=4), Digit(2, col=4)), (Digit(4, row=1),))


@cache
def quad_pair_d(bits: int) -> Fragment:
    """Return C and D, 8 x 8: a lane has a row of f16, or four pairs of f32."""
    upper = (Digit(4, row=8), Digit(2, row=4))
    if bits == 16:
        return Fragment(32, 8, (Digit(4, row=1), *upper), (Digit(8, col=1),))
    lane = (Digit(2, row=1), Digit(2, col=2), *upper)
    return Fragment(32, 8, lane, (Digit(2, col=1), Digit(2, row=2), Digit(2, col=4)))
