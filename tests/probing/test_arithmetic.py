"""Questions on arithmetic, and the recorded answers of hardware to them: no bit differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from attnprobe.backends.base import Dump, Launch
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.errors import UsageError
from attnprobe.formats import Format
from attnprobe.layouts import Instruction
from attnprobe.probing import (
    arithmetic,
    evidence,
    registers,
    scalars,
    vectors,
    warpgroup,
    warpgroup_arithmetic,
)
from attnprobe.ptx import exact, exact_ex2, exact_kinds, exact_plan

FOLDER = evidence.folder()
ROWS = arithmetic.rows()


@cache
def by_the_rule() -> tuple[arithmetic.Outcome, ...]:
    """Return every question as a chip that follows the rule would answer it."""
    outcomes = []
    for question, row in arithmetic.pairs(ROWS):
        packed = vectors.pack(row, question.name)
        d = exact_plan.tiles(row, *vectors.tiles(row, packed))
        outcomes.append(arithmetic.outcome(question, row, vectors.picked(row, d, len(packed.c))))
    return tuple(outcomes)


@cache
def answers() -> tuple[arithmetic.Outcome, ...]:
    """Return every question with the answers of the hardware."""
    return tuple(evidence.recorded_outcomes(evidence.load(FOLDER / "questions.json"), ROWS))


def test_every_question_separates_what_it_says() -> None:
    separated = {(item.question.name, name) for item in by_the_rule() for name in item.refuted()}
    wanted = {(item.name, name) for item in arithmetic.questions() for name in item.separates}
    assert wanted - separated == set()


def test_every_vector_that_a_page_shows_is_asked() -> None:
    asked: dict[str, set[str]] = {}
    for item in by_the_rule():
        asked.setdefault(item.question.name, set()).update(item.packed.says)
    missing = {
        (question.name, says)
        for question in arithmetic.questions()
        for says in question.shown
        if says not in asked[question.name]
    }
    assert missing == set()


def test_every_known_product_is_asked_at_least_one_question() -> None:
    assert {item.row.ptx for item in by_the_rule()} == {row.ptx for row in ROWS}


def test_the_rule_gives_every_recorded_bit_of_every_vector() -> None:
    assert len(answers()) == len(arithmetic.pairs(ROWS))
    wrong = {(item.question.name, item.row.ptx): item.differing for item in answers()}
    assert {key: count for key, count in wrong.items() if count} == {}


def test_the_hardware_refutes_every_other_hypothesis() -> None:
    refuted = {(item.question.name, name) for item in answers() for name in item.refuted()}
    wanted = {(item.name, name) for item in arithmetic.questions() for name in item.separates}
    assert wanted - refuted == set()


def test_changed_vectors_are_not_compared_with_old_answers() -> None:
    item = by_the_rule()[0]
    entry = {"vectors": "0" * 16, "answers": evidence.packed(item.answers)}
    data = {"questions": {item.question.name: {item.row.ptx: entry}}}
    with pytest.raises(UsageError, match="the vectors changed; record them again"):
        list(evidence.recorded_outcomes(data, (item.row,)))


def rule(row: Instruction) -> evidence.Multiply:
    return lambda held: exact_plan.tiles(row, *held)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.ptx)
def test_no_bit_of_any_recorded_tile_differs(row: Instruction) -> None:
    there = evidence.load(FOLDER / "tiles.json")["tiles"][row.ptx]
    (here,) = evidence.record_tiles(row, evidence.tile_count(row, ROWS), rule(row))
    assert here["tiles"] == there["tiles"]
    assert evidence.differing_chunks(there, here) == []


def test_at_least_ten_thousand_tiles_of_every_type_are_recorded() -> None:
    stored = evidence.load(FOLDER / "tiles.json")["tiles"]
    counts: Counter[str] = Counter()
    for row in ROWS:
        counts[evidence.type_of(row)] += stored[row.ptx]["tiles"]
    assert min(counts.values()) >= 10_000


def test_one_wrong_bit_of_one_tile_shows() -> None:
    row = next(row for row in ROWS if row["D"].format.ptx == "f32")

    def broken(held: Any) -> Any:
        d = exact_plan.tiles(row, *held)
        d[-1, 0, 0] ^= 1
        return d

    there, here = evidence.record_tiles(row, 60, rule(row), broken)
    assert len(evidence.differing_chunks(there, here)) == len(there["regimes"])
    assert evidence.differing_chunks(there, there) == []


GROUPS = {row.ptx: row for row in map(warpgroup_arithmetic.twin, warpgroup_arithmetic.rows())}


@pytest.mark.parametrize("name", GROUPS)
def test_no_bit_of_any_recorded_wgmma_differs(name: str) -> None:
    row, data = GROUPS[name], evidence.load(FOLDER / "wgmma.json")["wgmma"]
    there = data["tiles"][name]
    (here,) = evidence.record_tiles(row, evidence.tile_count(row, ()), rule(row))
    assert here["tiles"] == there["tiles"]
    assert evidence.differing_chunks(there, here) == []
    wrong = {
        item.question.name: item.differing for item in evidence.recorded_outcomes(data, (row,))
    }
    assert {key: count for key, count in wrong.items() if count} == {}


class Normalised(exact_kinds.NativeFp8):
    """fp8 whose subnormals align by their leading digit, as f16 holds them."""

    def left(self, bits: Any) -> exact.Numbers:
        return self.right(np.ascontiguousarray(np.swapaxes(bits, 0, 1)), self.form_a)

    def right(self, bits: Any, form: str = "") -> exact.Numbers:
        return exact.numbers(exact_kinds.f16_of_fp8(form or self.form_b)[bits], "f16")


FP8_GROUPS = [name for name, row in GROUPS.items() if row["A"].format.ptx in ("e4m3", "e5m2")]


def refuted_by_tiles(name: str, other: exact_kinds.Arithmetic) -> list[str]:
    there = evidence.load(FOLDER / "wgmma.json")["wgmma"]["tiles"][name]
    row = GROUPS[name]
    multiply = partial(exact_plan.multiplied, other)
    (here,) = evidence.record_tiles(row, there["tiles"], lambda held: multiply(*held))
    return evidence.differing_chunks(there, here)


@pytest.mark.parametrize("name", [name for name in FP8_GROUPS if ".e4m3.e" in name])
def test_the_hardware_aligns_subnormals_of_e4m3_by_their_field(name: str) -> None:
    known: Any = exact_kinds.arithmetic(GROUPS[name])
    other = Normalised(known.form_a, known.form_b, known.rule)
    assert "subnormals 0" in refuted_by_tiles(name, other)


@pytest.mark.parametrize("name", FP8_GROUPS[::5])
@pytest.mark.parametrize(
    "change",
    [{"fraction": 12}, {"fraction": 14}, {"block": 16}, {"terms": "floor"}, {"late_c": True}],
    ids=str,
)
def test_the_hardware_refutes_other_rules_of_fp8_under_wgmma(
    name: str, change: dict[str, Any]
) -> None:
    known: Any = exact_kinds.arithmetic(GROUPS[name])
    other = replace(known, rule=replace(known.rule, **change))
    assert len(refuted_by_tiles(name, other)) >= 5


@pytest.mark.parametrize("bits", [12, 14, 23])
def test_the_f32_results_of_fp8_under_wgmma_have_13_bits(bits: int) -> None:
    known: Any = exact_kinds.arithmetic(GROUPS[FP8_GROUPS[0]])
    other = replace(known, rule=replace(known.rule, result_bits=bits))
    assert len(refuted_by_tiles(FP8_GROUPS[0], other)) == len(evidence.tiles.FLOAT_REGIMES)


def test_the_record_leaves_open_whether_products_that_are_all_zero_align() -> None:
    """The page says so; where a new record decides, both are to change."""
    name = FP8_GROUPS[0]
    known: Any = exact_kinds.arithmetic(GROUPS[name])
    assert (known.form_a, known.form_b, known.rule.output) == ("e4m3", "e4m3", "f32")
    least = replace(known, rule=replace(known.rule, zero_exponent=-12))
    assert refuted_by_tiles(name, least) == []
    c = np.full((1, 64, 8), np.float32(2.0**-30).view(np.uint32))
    empty = [np.zeros(shape, np.uint8) for shape in ((1, 64, 32), (1, 32, 8))]
    assert (exact_plan.multiplied(known, *empty, c) == c).all()
    assert (exact_plan.multiplied(least, *empty, c) == 0).all()


class Echo:
    """A backend that reads the operands of a wgmma launch back, and multiplies by the rule."""

    name, cc = "echo", 90

    def __init__(self, row: Instruction) -> None:
        self.row = row

    def environment(self) -> dict[str, str]:
        return {}

    def run(self, launch: Launch) -> Dump:
        row, (m, n, k) = self.row, self.row.shape
        form = warpgroup_arithmetic.twin(row)["A"].format
        _, held_a, held_b, held_c, _ = launch.inputs
        b = np.swapaxes(warpgroup.elements_of(held_b, n, k, form_b(row)), -1, -2)
        if "A" in row.by_name:
            a = row["A"].fragment.scatter(registers.unpack(held_a, form))
        else:
            a = warpgroup.elements_of(held_a, m, k, form)
        d = row["D"]
        c = d.fragment.scatter(registers.unpack(held_c, d.format))
        product = exact_plan.tiles(warpgroup_arithmetic.twin(row), a, b, c)
        return Dump((registers.pack(d.fragment.gather(product), d.format),), "echo", {})


def form_b(row: Instruction) -> Format:
    return warpgroup_arithmetic.twin(row)["B"].format


@pytest.mark.parametrize("row", warpgroup_arithmetic.rows()[::5], ids=lambda row: row.ptx)
def test_a_wgmma_launch_holds_the_tiles(row: Instruction) -> None:
    plain = warpgroup_arithmetic.twin(row)
    held = evidence.tiles.make(plain, next(iter(evidence.tiles.regimes(plain))), 0, 4)
    found = warpgroup_arithmetic.products(row, held, Echo(row))
    assert (found == exact_plan.tiles(plain, *held)).all()


@pytest.mark.parametrize("scalar", scalars.SCALARS, ids=lambda scalar: scalar.ptx)
def test_no_bit_of_any_recorded_scalar_differs(scalar: scalars.Scalar) -> None:
    there = evidence.load(FOLDER / "scalars.json")["scalars"][scalar.ptx]
    backend = EmulatorBackend(checked=False, mma="exact")
    wrong = [
        regime
        for regime in scalars.REGIMES
        if evidence.digest(scalars.ask(scalar, regime, backend)) != there[regime]["hash"]
    ]
    assert wrong == []


def test_the_recorded_table_of_ex2_is_within_one_unit_of_correct_rounding() -> None:
    found = exact_ex2.differences()
    assert found.size == exact_ex2.SIZE
    assert np.unique(found).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("row", ROWS[::7], ids=lambda row: row.ptx)
def test_the_emulator_gives_what_the_rule_gives(row: Instruction) -> None:
    """The registers' way: PTX of the probe kernel, packing and unpacking by the layout row."""
    regime = next(iter(evidence.chunks(row, 60)))[0]
    held = evidence.tiles.make(row, regime, 0, 12)
    backend = EmulatorBackend(mma="exact")
    found = arithmetic.products(row, held, backend)
    assert (found == exact_plan.tiles(row, *held)).all()
