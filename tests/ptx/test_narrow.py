"""Conversions to fp8, tf32 and packed integers, against values worked out one by one."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from attnprobe.ptx.ops import narrow
from tests.ptx.harness import evaluate

FIELDS = {"e4m3": (4, 3, 448.0), "e5m2": (5, 2, 57344.0)}


def fp8_values(kind: str) -> dict[Fraction, int]:
    """Return every finite value of the format, not negative, with its bits."""
    exponent_bits, fraction_bits, largest = FIELDS[kind]
    bias = 2 ** (exponent_bits - 1) - 1
    values = {}
    for bits in range(128):
        exponent, fraction = bits >> fraction_bits, bits & (2**fraction_bits - 1)
        if exponent:
            value = Fraction(2**fraction_bits + fraction, 2**fraction_bits)
            value *= Fraction(2) ** (exponent - bias)
        else:
            value = Fraction(fraction, 2**fraction_bits) * Fraction(2) ** (1 - bias)
        if value <= Fraction(largest):
            values[value] = bits
    return values


def nearest_even(value: float, kind: str) -> int:
    """Return the bits of the nearest finite fp8; of two as near, those that are even."""
    values = fp8_values(kind)
    size = abs(Fraction(value))
    best = min(values, key=lambda each: (abs(each - size), values[each] & 1))
    sign = 0x80 if np.signbit(value) else 0
    return sign | values[best]


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_every_midpoint_and_its_neighbours_round_to_the_nearest_even(kind: str) -> None:
    values = [float(each) for each in sorted(fp8_values(kind))]
    middles = [(low + high) / 2 for low, high in pairwise(values)]
    edges = np.array([*values, *middles], np.float32)
    tried = np.concatenate([edges, np.nextafter(edges, np.float32(0)),
                            np.nextafter(edges, np.float32(np.inf)), [1e30, 1e-30]])  # fmt: skip
    tried = np.concatenate([tried, -tried]).astype(np.float32)
    expected = [nearest_even(float(value), kind) for value in tried]
    assert narrow.fp8_bits(tried, kind).tolist() == expected


@pytest.mark.parametrize(("kind", "largest"), [("e4m3", 0x7E), ("e5m2", 0x7B)])
def test_infinities_become_the_largest_and_nan_stays_nan(kind: str, largest: int) -> None:
    tried = np.array([np.inf, -np.inf, np.nan], np.float32)
    assert narrow.fp8_bits(tried, kind).tolist() == [largest, 0x80 | largest, 0x7F]


def words(*values: float) -> list[int]:
    return np.array(values, np.float32).view(np.uint32).tolist()


def test_the_first_source_of_a_pair_goes_to_the_high_byte() -> None:
    text = "{.reg .b16 p; cvt.rn.satfinite.e4m3x2.f32 p, a, b; mov.b32 d, {p, p};}"
    (got,) = evaluate(text, "b32", ("f32", "f32"), [words(2.0), words(1.0)])
    assert got & 0xFFFF == 0x40 << 8 | 0x38  # e4m3: 2.0 is 0x40, 1.0 is 0x38


def test_two_halves_keep_their_order() -> None:
    text = "{.reg .b16 p; cvt.rn.satfinite.e5m2x2.f16x2 p, a; mov.b32 d, {p, p};}"
    (got,) = evaluate(text, "b32", ("b32",), [[0x4000 << 16 | 0x3C00]])  # f16: 2.0 and 1.0
    assert got & 0xFFFF == 0x40 << 8 | 0x3C


@pytest.mark.parametrize(
    ("a", "b", "c", "kind", "expected"),
    [
        (1, 2, 0, "s8", 0x0102),
        (-1, 300, 0xABCD1234, "s8", 0x1234FF7F),  # 300 becomes 127; c moves up by 16
        (-5, 300, 0, "u8", 0x00FF),
        (7, -8, 0x0, "s4", 0x78),
        (9, -9, 0x123456, "s4", 0x12345678),
        (16, -1, 0xFFFFFFFF, "u4", 0xFFFFFFF0),
    ],
)
def test_cvt_pack_clamps_and_moves_what_was_packed_before(
    a: int, b: int, c: int, kind: str, expected: int
) -> None:
    raw = [[a & 0xFFFFFFFF], [b & 0xFFFFFFFF], [c]]
    text = f"cvt.pack.sat.{kind}.s32.b32 d, a, b, c;"
    assert evaluate(text, "b32", ("s32", "s32", "b32"), raw) == [expected]


def test_tf32_rounds_ties_away_from_zero() -> None:
    tried = [0x3F801000, 0x3F800FFF, 0xBF801000, 0x3F803000, 0x7F7FFFFF, 0x7F800000]
    got = narrow.tf32_bits(np.array(tried, np.uint32).view(np.float32)).tolist()
    assert got == [0x3F802000, 0x3F800000, 0xBF802000, 0x3F804000, 0x7F800000, 0x7F800000]
    assert narrow.tf32_bits(np.array([np.nan], np.float32)).tolist() == [0x7FFFFFFF]
