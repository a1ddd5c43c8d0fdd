"""Closed formulas of tables: sums of digits, choices by bits, tables with holes."""

from __future__ import annotations

import random

import pytest

from attnprobe.layouts.questions import closed


def value(text: str, lane: int) -> int:
    """Return what a C++ expression in ``lane`` is; ``?:`` by hand, for Python has another."""
    while "?" in text:
        start = text.rindex("(", 0, text.index("?"))
        depth, end = 0, start
        for end in range(start, len(text)):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                break
        condition, _, rest = text[start + 1 : end].partition(" ? ")
        depth, colon = 0, 0
        for position, letter in enumerate(rest):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if letter == ":" and depth == 0:
                colon = position
                break
        chosen = rest[: colon - 1] if eval(condition, {}, {"lane": lane}) else rest[colon + 2 :]
        text = text[:start] + chosen + text[end + 1 :]
    return int(eval(text.replace("/", "//"), {}, {"lane": lane}))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([lane // 4 for lane in range(32)], "lane / 4"),
        ([4 * (lane // 4) + lane // 2 % 2 for lane in range(32)], "lane / 2 % 2 + 4 * (lane / 4)"),
        ([7] * 32, "7"),
        ([lane % 16 + 3 for lane in range(32)], "lane % 16 + 3"),
        ([lane % 32 for lane in range(128)], "lane % 32"),
    ],
)
def test_sums_of_digits_are_found(values: list[int], text: str) -> None:
    assert closed.in_cpp(values, "lane") == text
    assert [value(text, lane) for lane in range(len(values))] == values


def test_what_is_no_sum_is_a_choice_by_bits() -> None:
    values = [0x5410, 0x5410, 0x7632, 0x7632] * 8
    text = closed.in_cpp(values, "lane", hexadecimal=True)
    assert text == "(lane & 2 ? 0x7632 : 0x5410)"


def test_any_table_has_an_expression() -> None:
    random.seed(0)
    for _ in range(20):
        values = [random.randrange(4) for _ in range(16)]
        text = closed.in_cpp(values, "lane")
        assert [value(text, lane) for lane in range(16)] == values


def test_a_table_with_holes_is_filled_as_its_formula_goes_on() -> None:
    known = {lane: 2 * (lane % 4) for lane in range(0, 16, 2)}
    assert closed.completed(known, 16) is not None
    filled = closed.extended(known, 16)
    assert all(filled[lane] == giver for lane, giver in known.items())
    assert closed.digits(filled, "lane") is not None


def test_a_table_with_holes_that_has_no_formula_keeps_its_own_numbers() -> None:
    known = {0: 3, 1: 3, 2: 0, 3: 1}
    assert closed.completed(known, 8) is None
    assert closed.extended(known, 8) == (3, 3, 0, 1, 4, 5, 6, 7)


def test_a_count_that_is_no_power_of_two_has_no_digits() -> None:
    assert closed.digits([0, 1, 2], "lane") is None
