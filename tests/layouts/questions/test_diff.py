"""What differs between layouts: digits, counts of positions that move, facts."""

from __future__ import annotations

import pytest

from attnprobe.errors import UsageError
from attnprobe.layouts import Digit, Fragment, Operand
from attnprobe.layouts.questions.diff import diff, named, of_operands

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
BF16 = M + "m16n8k16.row.col.f32.bf16.bf16.f32"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
K8 = M + "m16n8k8.row.col.f32.f16.f16.f32"


def test_an_instruction_does_not_differ_from_itself() -> None:
    found = diff(F16, F16)
    assert all(fact.same for fact in found.facts)
    assert all(pair.same and pair.moved == () for pair in found.operands)


def test_another_format_of_one_width_has_the_same_layout() -> None:
    found = diff(F16, BF16)
    assert all(pair.same for pair in found.operands)
    formats = {pair.first.name: pair.facts for pair in found.operands}
    assert [fact.name for fact in formats["A"] if not fact.same] == ["format"]


def test_8_bit_a_differs_from_16_bit_a_in_where_a_lane_begins_and_what_comes_third() -> None:
    (pair,) = diff(f"{F16}:A", f"{FP8}:A").operands
    differing = [(step.number, step.weight) for step in pair.steps if not step.same]
    assert differing == [("lane", 1), ("i", 2), ("i", 4), ("i", 8)]
    assert pair.steps[0].first == (0, 2)
    assert pair.steps[0].second == (0, 4)
    # Of 32 lanes x 8 elements only lane % 4 == 0 begins alike, with elements 0 and 1.
    assert (pair.compared, len(pair.moved)) == (32 * 8, 32 * 8 - 8 * 2 * 2)


def test_a_longer_k_adds_a_digit_and_moves_nothing() -> None:
    (pair,) = diff(f"{K8}:A", f"{F16}:A").operands
    assert pair.moved == ()
    assert not pair.same
    assert [(step.first, step.second) for step in pair.steps if not step.same] == [(None, (0, 8))]


def test_digits_are_cut_where_either_has_a_cut() -> None:
    f16 = diff(F16, F16).operands[0].first.format
    one = Operand("D", Fragment(8, 8, (Digit(4, col=2), Digit(8, row=1)), (Digit(2, col=1),)),
                  f16, ("m", "n"))  # fmt: skip
    other = Operand("D", Fragment(8, 8, (Digit(8, row=1), Digit(4, col=2)), (Digit(2, col=1),)),
                    f16, ("m", "n"))  # fmt: skip
    assert of_operands(one, other).steps[:3] == of_operands(one, other).steps[:3]
    steps = [(step.weight, step.extent, step.first, step.second)
             for step in of_operands(one, other).steps if step.number == "lane"]  # fmt: skip
    assert steps == [
        (1, 4, (0, 2), (1, 0)),
        (4, 2, (1, 0), (4, 0)),
        (8, 4, (2, 0), (0, 2)),
    ]


def test_operands_that_one_lacks_are_named() -> None:
    found = diff("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", F16)
    assert found.only == ((0, "E"),)


def test_a_name_may_have_colons_of_its_own() -> None:
    ordered = "mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    row, operand = named(ordered)
    assert (row.ptx, operand) == (ordered, None)
    assert named(f"{ordered}:a")[1] == "A"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (f"{F16}:A", F16, "names an operand and .* does not; give both or neither"),
        (f"{F16}:X", f"{F16}:A", "has no operand 'X'; it has D, A, B, C"),
        ("m16n8k61", F16, "no instruction fits 'm16n8k61'; the nearest"),
    ],
)
def test_what_does_not_exist_is_refused(first: str, second: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        diff(first, second)
