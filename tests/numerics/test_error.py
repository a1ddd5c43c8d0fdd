"""The bound accepts sound results and refuses wrong ones, at every size of problem."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from attnprobe.errors import AttnprobeError, ToleranceError
from attnprobe.numerics import error, reference
from attnprobe.numerics.cases import ALL_FILLS, CASES, LAYOUTS
from attnprobe.numerics.error import check_attention, compare, expect
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.reference import Features

F16, BF16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
CASE_FILLS = [
    pytest.param(case, fill, id=f"{case.name}-{fill}") for case in CASES for fill in case.fills
]


@pytest.mark.parametrize(("case", "fill"), CASE_FILLS)
def test_the_yardstick_is_within_the_bound_at_every_block_size(case, fill):
    q, k, v = case.inputs(fill, seed=5)
    expected = expect(q, k, v, case.features)
    for block in (None, 16, 32, 64, 128):
        sound = reference.yardstick(q, k, v, case.features, block)
        report = compare(expected, sound.o, sound.lse)
        assert report.ok, str(report)
        # Not far from it either: a bound that sound results never come near refuses too little.
        assert report.o.share < 0.6


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.parametrize("fill", [FILLS[name] for name in ALL_FILLS], ids=ALL_FILLS)
def test_the_bound_is_a_few_units_of_the_output_and_of_the_error_of_p(dtype, fill):
    q, k, v = fill(Sizes(100, 200, 3, 1), dtype)
    expected = expect(q, k, v)
    rms = math.sqrt(np.square(expected.exact.o).mean())
    assert np.median(expected.o_bound) < 10 * error.unit_roundoff(dtype) * rms
    assert expected.lse_bound.max() < 1e-3


def rows_swapped(o):
    """Swap rows g and g + 8 of every 16: what a kernel with exchanged accumulator rows stores."""
    rows = np.arange(o.shape[1])
    swapped = rows ^ 8
    return o[:, np.where(swapped < len(rows), swapped, rows)]


def rerun(q, k, v, **features):
    return reference.yardstick(q, k, v, Features(**features))


# Each returns a wrong O, as a kernel with this fault would give it.
WRONG = {
    "zeros": lambda q, k, v, sound: np.zeros_like(sound.o),
    "last key block dropped": lambda q, k, v, sound: rerun(q, k[:, :-32], v[:, :-32]).o,
    "last key dropped": lambda q, k, v, sound: rerun(q, k[:, :-1], v[:, :-1]).o,
    "first key doubled": lambda q, k, v, sound: (
        rerun(q, np.concatenate([k[:, :1], k], 1), np.concatenate([v[:, :1], v], 1)).o
    ),
    "scale off by 5 %": lambda q, k, v, sound: rerun(q, k, v, softmax_scale=1.05 / 8).o,
    "scale off by 1 %": lambda q, k, v, sound: rerun(q, k, v, softmax_scale=1.01 / 8).o,
    "scale twice": lambda q, k, v, sound: rerun(q, k, v, softmax_scale=1 / 64).o,
    "rows swapped": lambda q, k, v, sound: rows_swapped(sound.o),
    "heads swapped": lambda q, k, v, sound: sound.o[:, :, ::-1],
    "one row wrong": lambda q, k, v, sound: np.concatenate(
        [sound.o[:, :-1], sound.o[:, -2:-1]], axis=1
    ),
    "greatest element off by six units": lambda q, k, v, sound: nudged(sound.o),
    "not divided by the sum": lambda q, k, v, sound: np.clip(
        sound.o * np.exp(sound.lse - sound.lse.max()).transpose(0, 2, 1)[..., None], -9, 9
    ).astype(sound.o.dtype),
    "softcap for none": lambda q, k, v, sound: rerun(q, k, v, softcap=30.0).o,
    "a NaN": lambda q, k, v, sound: planted(sound.o, np.nan),
    "an infinity": lambda q, k, v, sound: planted(sound.o, np.inf),
}


def planted(o, value):
    wrong = o.copy()
    wrong[0, 3, 1, 5] = value
    return wrong


def nudged(o):
    """O with its greatest element moved by six units in the last place, or three, and rounded."""
    wrong = o.copy()
    where = np.unravel_index(np.abs(o.astype(float)).argmax(), o.shape)
    wrong[where] = o[where] * o.dtype.type(1 + 12 * error.unit_roundoff(o.dtype))
    return wrong


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.parametrize("fill", ["normal", "outliers", "real"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_outputs_are_refused(name, fill, dtype):
    q, k, v = FILLS[fill](Sizes(64, 96, 3, 1), dtype)
    sound = reference.yardstick(q, k, v)
    check_attention(sound.o, sound.lse, q, k, v)
    wrong = WRONG[name](q, k, v, sound)
    assert wrong.dtype == dtype
    with pytest.raises(ToleranceError, match="elements over the bound"):
        check_attention(wrong, None, q, k, v)


@pytest.mark.parametrize("window", [(9, 3), (7, 3), (8, 4), (8, 2)], ids=str)
def test_a_window_wrong_by_one_is_refused(window):
    q, k, v = FILLS["normal"](Sizes(70, 70), F16)
    shifted = rerun(q, k, v, window_size=window)
    with pytest.raises(ToleranceError):
        check_attention(shifted.o, None, q, k, v, window_size=(8, 3))
    with pytest.raises(ToleranceError):
        check_attention(
            rerun(q, k, v, window_size=(8, 3)).o, shifted.lse, q, k, v, window_size=(8, 3)
        )


def test_top_left_causal_is_refused():
    q, k, v = FILLS["normal"](Sizes(40, 70), F16)
    top_left = rerun(q, k[:, :40], v[:, :40], causal=True)
    with pytest.raises(ToleranceError):
        check_attention(top_left.o, None, q, k, v, causal=True)


@pytest.mark.parametrize("fill", ALL_FILLS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda lse: lse / np.float32(math.log(2)),  # base 2
        lambda lse: lse + np.float32(1e-3),
        lambda lse: np.zeros_like(lse),
        lambda lse: lse[:, ::-1],
    ],
    ids=["base 2", "off by 0.001", "zeros", "heads swapped"],
)
def test_wrong_lse_is_refused(fill, wrong):
    q, k, v = FILLS[fill](Sizes(64, 96, 3, 1), F16)
    sound = reference.yardstick(q, k, v)
    with pytest.raises(ToleranceError, match="LSE"):
        check_attention(sound.o, np.ascontiguousarray(wrong(sound.lse)), q, k, v)


def test_a_row_with_no_key_must_be_exactly_zero():
    q, k, v = FILLS["normal"](Sizes(8, 4), F16)
    sound = rerun(q, k, v, causal=True)
    check_attention(sound.o, sound.lse, q, k, v, causal=True)
    small = sound.o.copy()
    small[0, 0, 0, 0] = np.finfo(np.float16).smallest_subnormal
    with pytest.raises(ToleranceError):
        check_attention(small, None, q, k, v, causal=True)
    plus = sound.lse.copy()
    plus[0, 0, 0] = np.inf  # the other convention
    with pytest.raises(ToleranceError):
        check_attention(sound.o, plus, q, k, v, causal=True)


def test_nan_must_be_where_the_reference_has_it():
    q, k, v = FILLS["normal"](Sizes(8, 8), F16)
    v[0, 5, 0, 7] = np.nan
    sound = rerun(q, k, v, causal=True)
    assert np.isnan(sound.o).sum() == 3
    report = check_attention(sound.o, sound.lse, q, k, v, causal=True)
    assert np.isfinite([report.o.max_abs, report.o.signal_to_error]).all()
    for row, value in ((5, 0.0), (4, np.nan)):  # swallowed, and leaked
        wrong = sound.o.copy()
        wrong[0, row, 0, 7] = value
        with pytest.raises(ToleranceError):
            check_attention(wrong, None, q, k, v, causal=True)


def test_infinity_must_have_the_right_sign_and_may_be_nan_only_where_p_underflows():
    q, k, v = FILLS["normal"](Sizes(4, 8), F16)
    v[0, 2, 0, 3] = np.inf
    sound = reference.yardstick(q, k, v)
    check_attention(sound.o, sound.lse, q, k, v)
    for value in (-np.inf, np.nan):
        wrong = sound.o.copy()
        wrong[0, 1, 0, 3] = value
        with pytest.raises(ToleranceError):
            check_attention(wrong, None, q, k, v)
    far = (100 * q, 100 * k, v)  # now most weights round to 0, and 0 * inf is NaN
    check_attention(reference.yardstick(*far).o, None, *far)


def test_a_result_next_to_the_greatest_number_may_round_up_to_infinity():
    q, k, _ = FILLS["normal"](Sizes(4, 8), F16)
    v = np.full_like(k, np.finfo(np.float16).max)
    over = np.full_like(q, np.inf)
    check_attention(over, None, q, k, v)
    with pytest.raises(ToleranceError):
        check_attention(-over, None, q, k, v)
    with pytest.raises(ToleranceError):
        check_attention(over, None, q, k, v / 2)


def test_the_wrong_shape_or_dtype_is_refused():
    q, k, v = FILLS["normal"](Sizes(4, 8, 2, 1), F16)
    sound = reference.yardstick(q, k, v)
    for o, lse in [
        (sound.o.astype(np.float32), sound.lse),
        (sound.o.transpose(0, 2, 1, 3), sound.lse),
        (sound.o, sound.lse.astype(np.float64)),
        (sound.o, sound.lse.transpose(0, 2, 1)),
    ]:
        with pytest.raises(ToleranceError, match="expected"):
            check_attention(o, lse, q, k, v)


def test_the_message_names_the_place_both_values_and_the_bound():
    q, k, v = FILLS["normal"](Sizes(4, 8, 2, 1), F16)
    sound = reference.yardstick(q, k, v)
    wrong = sound.o.copy()
    wrong[0, 2, 1, 40] = 9.5
    with pytest.raises(AssertionError) as caught:
        check_attention(wrong, sound.lse, q, k, v)
    assert isinstance(caught.value, AttnprobeError)
    for part in ("1 of 512 elements", "(0, 2, 1, 40)", "got 9.5", "bound", "no features"):
        assert part in str(caught.value)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_the_unit_in_the_last_place_is_the_distance_to_the_next_number(dtype):
    bits = np.arange(1, 0x7C00 if dtype == F16 else 0x7F80, dtype=np.uint16)
    numbers = bits.view(dtype).astype(np.float64)
    steps = np.diff(np.append(numbers, np.nan))
    np.testing.assert_array_equal(error.ulp(numbers, dtype)[:-1], steps[:-1])
    assert error.unit_roundoff(dtype) == (2**-11 if dtype == F16 else 2**-8)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_layouts_hold_the_array_and_poison_around_it(layout):
    array = np.arange(1, 1 + 2 * 5 * 3 * 8, dtype=np.float16).reshape(2, 5, 3, 8)
    placed = layout.place(array)
    np.testing.assert_array_equal(placed, array)
    assert placed.strides[3] == 2
    memory = placed if placed.base is None else placed.base
    assert np.isnan(memory).sum() == memory.size - array.size
