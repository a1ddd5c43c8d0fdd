"""Fragments: which rows of digits can be built, and that every way of asking one agrees."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import LayoutError
from attnprobe.formats import FORMATS
from attnprobe.layouts import Digit, Fragment, Instruction, Operand

QUAD_ROWS = (Digit(4, col=2), Digit(8, row=1))


def wgmma_d(n: int) -> Fragment:
    """D of wgmma m64nN: a warpgroup, and an extent that need not be a power of two."""
    elem = (Digit(2, col=1), Digit(2, row=8), Digit(n // 8, col=8))
    return Fragment(64, n, (*QUAD_ROWS, Digit(4, row=16)), elem)


# Not in the tables, and of other kinds: extents of 3 and 5, copies, odd orders of the digits.
STRANGE = {
    "wgmma n24": wgmma_d(24),
    "wgmma n40": wgmma_d(40),
    "each lane a row": Fragment(32, 3, (Digit(32, row=1),), (Digit(3, col=1),)),
    "column by column": Fragment(3, 32, (Digit(32, col=1),), (Digit(3, row=1),)),
    "held by both halves": Fragment(16, 2, (Digit(16, row=1), Digit(2)), (Digit(2, col=1),), 2),
    "held by the low lanes' quads": Fragment(8, 1, (Digit(4), Digit(8, row=1)), (), copies=4),
    "high digit first": Fragment(64, 1, (Digit(2, row=32), Digit(16, row=2)), (Digit(2, row=1),)),
    "three digits of an axis in one number": Fragment(
        2, 30, (Digit(2, col=15), Digit(3, col=1), Digit(2, row=1)), (Digit(5, col=3),)
    ),
}


def in_the_tables() -> dict[str, Operand]:
    """Return an operand for each fragment of the tables; of wgmma's D only some widths."""
    found: dict[object, tuple[str, Operand]] = {}
    for row in layouts.distinct():
        if row.lanes == 128 and row.shape[1] not in (8, 24):
            continue
        for operand in row.operands:
            if operand.fragment.rows * operand.fragment.cols > 2048:
                continue  # as its smaller kin, and slow one position at a time
            key = (operand.fragment, operand.format.bits, operand.matrix_rows, operand.axes)
            found.setdefault(key, (f"{row.ptx}:{operand.name}", operand))
    return dict(found.values())


OPERANDS = in_the_tables()
FRAGMENTS = STRANGE | {name: operand.fragment for name, operand in OPERANDS.items()}

every_fragment = pytest.mark.parametrize("fragment", FRAGMENTS.values(), ids=FRAGMENTS.keys())
every_operand = pytest.mark.parametrize("operand", OPERANDS.values(), ids=OPERANDS.keys())


def by_hand(fragment: Fragment, lane: int, i: int) -> tuple[int, int]:
    """Return (row, col) by taking the numbers apart digit by digit."""
    row = col = 0
    for number, digits in ((lane, fragment.lane), (i, fragment.elem)):
        rest = number
        for digit in digits:
            rest, value = divmod(rest, digit.extent)
            row, col = row + value * digit.row, col + value * digit.col
    return row, col


# --- what cannot be built -------------------------------------------------------------------------


def test_a_fragment_that_leaves_a_position_out_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"16x9: \(0, 8\) is held 0 times, not 1; 16 positions"):
        Fragment(16, 9, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8)))


def test_a_fragment_that_holds_a_position_twice_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"\(0, 0\) is held 2 times, not 1"):
        Fragment(8, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2)))


def test_a_fragment_that_says_that_it_replicates_must_do_so_everywhere() -> None:
    Fragment(8, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2)), copies=2)
    with pytest.raises(LayoutError, match=r"is held 1 times, not 2"):
        Fragment(8, 8, QUAD_ROWS, (Digit(2, col=1),), copies=2)


def test_uneven_replication_is_refused() -> None:
    # Steps 1 and 1 reach columns 0, 1, 1, 2: the middle one twice.
    with pytest.raises(LayoutError, match=r"is held 2 times"):
        Fragment(1, 3, (Digit(2, col=1),), (Digit(2, col=1),))


@pytest.mark.parametrize("step", [{"row": 16}, {"row": -1}, {"col": 8}, {"col": -8}])
def test_an_element_outside_the_operand_is_refused(step: dict[str, int]) -> None:
    with pytest.raises(LayoutError, match="16x8: some element lies outside"):
        Fragment(16, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2, **step)))


@pytest.mark.parametrize("extent", [0, -2])
def test_a_digit_without_values_is_refused(extent: int) -> None:
    with pytest.raises(LayoutError, match=f"at least one value; got extent {extent}"):
        Digit(extent, row=1)


# --- every way of asking agrees -------------------------------------------------------------------


@every_fragment
def test_coords_are_the_sums_of_the_digits(fragment: Fragment) -> None:
    coords = fragment.coords()
    assert coords.shape == (fragment.lanes, fragment.elements, 2)
    expected = [
        [by_hand(fragment, lane, i) for i in range(fragment.elements)]
        for lane in range(fragment.lanes)
    ]
    assert coords.tolist() == [[list(position) for position in lane] for lane in expected]


@every_fragment
def test_coords_cannot_be_written(fragment: Fragment) -> None:
    with pytest.raises(ValueError, match="read-only"):
        fragment.coords()[0, 0, 0] = 1


@every_fragment
def test_where_is_the_inverse_of_coords(fragment: Fragment) -> None:
    coords = fragment.coords()
    found = 0
    for row, col in itertools.product(range(fragment.rows), range(fragment.cols)):
        holders = fragment.where(row, col)
        assert holders == sorted(holders)
        assert all(tuple(coords[lane, i]) == (row, col) for lane, i in holders)
        found += len(set(holders))
    assert found == fragment.lanes * fragment.elements


def test_where_finds_nothing_outside() -> None:
    assert wgmma_d(24).where(64, 0) == []


def evaluate(formulas: Iterable[str], names: dict[str, np.ndarray]) -> np.ndarray:
    """Return the formulas' values, int64, shape (*the names' shape, formulas)."""
    shape = next(iter(names.values())).shape
    values = [eval(text, {}, names) for text in formulas]
    return np.stack([np.broadcast_to(value, shape) for value in values], axis=-1)


def all_holders(fragment: Fragment) -> dict[str, np.ndarray]:
    lane, i = np.indices((fragment.lanes, fragment.elements))
    return {"lane": lane, "i": i}


@every_fragment
def test_the_formula_gives_the_coords(fragment: Fragment) -> None:
    assert np.array_equal(evaluate(fragment.formula(), all_holders(fragment)), fragment.coords())


@every_fragment
def test_the_inverse_formula_gives_the_first_holder(fragment: Fragment) -> None:
    row, col = np.indices((fragment.rows, fragment.cols))
    first = [[fragment.where(r, c)[0] for c in range(fragment.cols)] for r in range(fragment.rows)]
    found = evaluate(fragment.inverse(), {"row": row, "col": col})
    assert np.array_equal(found, np.array(first))


@every_operand
def test_an_operand_s_formulas_are_in_the_manual_s_axes(operand: Operand) -> None:
    formulas, holders = operand.formulas(), all_holders(operand.fragment)
    assert tuple(formulas) == operand.axis_names
    assert np.array_equal(evaluate(formulas.values(), holders), operand.coords())
    names = dict(zip(operand.axis_names, np.moveaxis(operand.coords(), -1, 0), strict=True))
    inverse = operand.inverse()
    assert tuple(inverse) == ("lane", "i")
    back = evaluate(inverse.values(), names)
    if operand.fragment.copies == 1:
        assert np.array_equal(back, np.stack([holders["lane"], holders["i"]], axis=-1))
    else:  # the lowest of those that hold the position
        first = [operand.fragment.where(*at)[0] for at in operand.coords().reshape(-1, 2).tolist()]
        assert back.reshape(-1, 2).tolist() == [list(each) for each in first]


def test_formulas_are_short() -> None:
    row = layouts.find("m16n8k16.row.col.f32.f16")
    assert row["A"].formulas() == {
        "m": "lane // 4 + 8 * (i // 2 % 2)",
        "k": "2 * (lane % 4) + i % 2 + 8 * (i // 4)",
    }
    assert row["A"].inverse() == {
        "lane": "4 * (m % 8) + k // 2 % 4",
        "i": "4 * (k // 8) + 2 * (m // 8) + k % 2",
    }
    assert layouts.find("ldmatrix m8n8 x1")["D"].formulas()["matrix"] == "0"


def test_digits_that_continue_each_other_are_one_term() -> None:
    halves = Fragment(64, 1, (Digit(4, row=2), Digit(8, row=8)), (Digit(2, row=1),))
    assert halves.formula() == ("2 * lane + i", "0")
    assert halves.inverse() == ("row // 2", "row % 2")


# --- gather and scatter ---------------------------------------------------------------------------


@every_fragment
def test_scatter_undoes_gather(fragment: Fragment) -> None:
    matrix = np.arange(2 * fragment.rows * fragment.cols).reshape(2, fragment.rows, fragment.cols)
    held = fragment.gather(matrix)
    assert held.shape == (2, fragment.lanes, fragment.elements)
    assert held.dtype == matrix.dtype
    assert np.array_equal(fragment.scatter(held), matrix)


@every_fragment
def test_gather_takes_each_element_from_its_position(fragment: Fragment) -> None:
    matrix = np.arange(fragment.rows * fragment.cols).reshape(fragment.rows, fragment.cols)
    held = fragment.gather(matrix)
    rows, cols = fragment.coords()[..., 0], fragment.coords()[..., 1]
    assert np.array_equal(held, matrix[rows, cols])


def test_a_transposed_matrix_is_refused_although_it_has_as_many_elements() -> None:
    with pytest.raises(LayoutError, match=r"ends in axes \(64, 24\); got shape \(24, 64\)"):
        wgmma_d(24).gather(np.zeros((24, 64)))
    with pytest.raises(LayoutError, match=r"ends in axes \(128, 12\); got shape \(12, 128\)"):
        wgmma_d(24).scatter(np.zeros((12, 128)))


# --- operands and instructions --------------------------------------------------------------------


@every_operand
def test_slots_and_elements_are_inverse(operand: Operand) -> None:
    slots = [operand.slot(i) for i in range(operand.fragment.elements)]
    assert [operand.element(*slot) for slot in slots] == list(range(operand.fragment.elements))
    assert slots == sorted(slots)
    assert slots[-1] == (operand.registers - 1, operand.format.per_register - 1)


def test_a_row_whose_operand_has_the_wrong_size_is_refused() -> None:
    d = Operand("D", wgmma_d(24), FORMATS["f32"], ("m", "n"))
    with pytest.raises(LayoutError, match=r"operand D is \(64, 24\), not \(64, 16\)"):
        Instruction("made.up", "wgmma", (64, 16, 16), (d,), "8.0", 90, "nowhere")
    assert Instruction("made.up", "wgmma", (64, 24, 16), (d,), "8.0", 90, "nowhere").lanes == 128


def test_a_row_that_names_an_operand_twice_is_refused() -> None:
    d = Operand("D", wgmma_d(24), FORMATS["f32"], ("m", "n"))
    with pytest.raises(LayoutError, match="named twice"):
        Instruction("made.up", "wgmma", (64, 24, 16), (d, d), "8.0", 90, "nowhere")


def test_a_row_of_warps_and_warpgroups_is_refused() -> None:
    d = Operand("D", wgmma_d(24), FORMATS["f32"], ("m", "n"))
    elem = (Digit(2, col=1), Digit(2, row=8), Digit(3, col=8))
    in_a_warp = Fragment(16, 24, QUAD_ROWS, elem)
    b = Operand("B", in_a_warp, FORMATS["f16"], ("k", "n"))
    with pytest.raises(LayoutError, match="different numbers of lanes"):
        Instruction("made.up", "wgmma", (64, 24, 16), (d, b), "8.0", 90, "nowhere")


def test_a_digit_that_runs_across_matrices_is_refused() -> None:
    through = Fragment(32, 1, (Digit(16, row=1), Digit(2, row=16)), ())
    with pytest.raises(LayoutError, match="runs across matrices"):
        Operand("D", through, FORMATS["f32"], ("row", "col"), matrix_rows=8)
    with pytest.raises(LayoutError, match="no whole number of matrices"):
        Operand("D", through, FORMATS["f32"], ("row", "col"), matrix_rows=5)
