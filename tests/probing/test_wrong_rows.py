"""A wrong row is caught, on the right operand, with the right lanes and registers.

The data come from ``silicon``: the ISA's formulas, not the rows, so a wrong row can disagree with
them as it would with a GPU. Kept dumps stand for recorded ones: fills of the layout questions do
not depend on the row, so a dump made once is evidence for or against any row.
"""

from dataclasses import replace

import pytest

from attnprobe import layouts
from attnprobe.backends import Dump, Launch
from attnprobe.layouts import Digit, Fragment, Instruction
from attnprobe.probing import definition, session
from attnprobe.probing.report import MATCH, MISMATCH, ProbeResult
from tests.layouts.layout_mutants import mutant_rows
from tests.probing.kinds import FAMILIES, KINDS, QUESTIONS
from tests.probing.silicon import Silicon

MMA = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
LDMATRIX = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
ROWS, COLS = Digit(2, row=8), Digit(2, col=8)


class Kept:
    """Silicon that answers each launch once and keeps the answer."""

    name, cc = "gpu", 90

    def __init__(self) -> None:
        self.kept: dict[str, Dump] = {}

    def environment(self) -> dict[str, str]:
        return {"device": "kept"}

    def run(self, launch: Launch) -> Dump:
        digest = launch.digest()
        if digest not in self.kept:
            self.kept[digest] = Silicon().run(launch)
        return self.kept[digest]


HARDWARE = Kept()


def changed(row: Instruction, **fragments: Fragment) -> Instruction:
    """Return ``row`` with other fragments for the named operands."""
    operands = tuple(
        replace(operand, fragment=fragments.get(operand.name, operand.fragment))
        for operand in row.operands
    )
    return replace(row, operands=operands)


def ask(row: Instruction, question: str) -> ProbeResult:
    return session.ask(row, definition.find(question), HARDWARE)


def wrong_operands(result: ProbeResult) -> set[str]:
    return {item.operand for item in result.operands if item.verdict == MISMATCH}


def fragment(row: Instruction, operand: str, **parts: tuple[Digit, ...]) -> Fragment:
    return replace(row[operand].fragment, **parts)


def test_a_with_its_middle_registers_exchanged_is_blamed_alone_with_every_lane() -> None:
    """The repack that put (row a, k >= 8) into a[1] and (row b, k < 8) into a[2]."""
    wrong = changed(MMA, A=fragment(MMA, "A", elem=(Digit(2, col=1), COLS, ROWS)))
    result = ask(wrong, "operand_layout")
    assert result.verdict == MISMATCH
    assert wrong_operands(result) == {"A"}
    (a,) = (item for item in result.operands if item.operand == "A")
    assert a.differing == 128
    assert {item.register for item in a.differences} == {1, 2}
    assert {item.lane for item in a.differences} == set(range(32))
    first = a.differences[0]
    assert (first.slot, first.holds, first.expected) == ("a[1].lo", "A[8, 0]", "A[0, 8]")
    assert (first.row, first.col) == (0, 8)


@pytest.mark.parametrize("operand", ["C", "D"])
def test_an_accumulator_with_rows_and_columns_exchanged_is_blamed_alone(operand: str) -> None:
    swapped = fragment(MMA, operand, elem=(ROWS, Digit(2, col=1)))
    result = ask(changed(MMA, **{operand: swapped}), "operand_layout")
    assert wrong_operands(result) == {operand}
    assert {(item.register, item.holds) for item in result.differences if item.lane == 0} == {
        (1, f"{operand}[0, 1]"),
        (2, f"{operand}[8, 0]"),
    }


def test_c_and_d_wrong_alike_are_blamed_together() -> None:
    swapped = fragment(MMA, "D", elem=(ROWS, Digit(2, col=1)))
    result = ask(changed(MMA, C=swapped, D=swapped), "operand_layout")
    assert wrong_operands(result) == {"C", "D"}


def test_b_read_by_columns_is_blamed_alone() -> None:
    wrong = Fragment(16, 8, (Digit(4, col=2), Digit(8, row=1)), (Digit(2, col=1), ROWS))
    result = ask(changed(MMA, B=wrong), "operand_layout")
    assert wrong_operands(result) == {"B"}
    first = result.differences[0]
    assert (first.lane, first.slot) == (0, "b[0].hi")
    assert (first.holds, first.expected) == ("B[1, 0]", "B[0, 1]")


def test_another_order_of_k_in_b_alone_blames_a_and_b_and_says_that_no_product_can_tell() -> None:
    wrong = changed(MMA, B=fragment(MMA, "B", elem=(ROWS, Digit(2, row=1))))
    result = ask(wrong, "operand_layout")
    assert wrong_operands(result) == {"A", "B"}
    assert "no product can tell which" in result.findings[0]


def test_the_same_order_of_k_in_a_and_b_is_not_seen_by_products_but_by_ldmatrix() -> None:
    wrong = changed(
        MMA,
        A=fragment(MMA, "A", elem=(COLS, ROWS, Digit(2, col=1))),
        B=fragment(MMA, "B", elem=(ROWS, Digit(2, row=1))),
    )
    result = ask(wrong, "operand_layout")
    assert result.verdict == MATCH
    assert "relabelling of k in A and B" in result.blind
    assert wrong_operands(ask(wrong, "ldmatrix_to_a")) >= {"A"}


def test_two_operands_wrong_in_ways_of_their_own_are_a_mismatch_without_a_single_culprit() -> None:
    wrong = changed(
        MMA,
        A=fragment(MMA, "A", elem=(Digit(2, col=1), COLS, ROWS)),
        D=fragment(MMA, "D", elem=(ROWS, Digit(2, col=1))),
    )
    result = ask(wrong, "operand_layout")
    assert wrong_operands(result) >= {"A", "D"}
    assert "at least two rows are wrong" in " ".join(result.findings)


def test_matrices_of_a_load_in_another_order_name_the_registers_and_what_they_hold() -> None:
    elem = (Digit(2, col=1), Digit(2, row=16), Digit(2, row=8))
    result = ask(changed(LDMATRIX, D=fragment(LDMATRIX, "D", elem=elem)), "ldmatrix_layout")
    assert wrong_operands(result) == {"D"}
    assert {item.register for item in result.differences} == {1, 2}
    first = result.differences[0]
    assert (first.lane, first.slot) == (0, "d[1].lo")
    assert (first.holds, first.expected) == ("matrix 1 [0, 0]", "matrix 2 [0, 0]")


def test_a_load_with_the_transposed_layout_is_caught() -> None:
    transposed = layouts.find("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16")
    result = ask(changed(LDMATRIX, D=transposed["D"].fragment), "ldmatrix_layout")
    assert wrong_operands(result) == {"D"}
    assert ("matrix 0 [0, 1]", "matrix 0 [1, 0]") in {
        (item.holds, item.expected) for item in result.differences
    }


def test_ldmatrix_to_a_says_which_register_belongs_where_when_the_row_is_wrong() -> None:
    wrong = changed(MMA, A=fragment(MMA, "A", elem=(Digit(2, col=1), COLS, ROWS)))
    result = ask(wrong, "ldmatrix_to_a")
    assert "r[0] is a[0], r[1] is a[2], r[2] is a[1], r[3] is a[3]" in result.findings[0]
    assert wrong_operands(result) == {"A"}


def test_d_is_next_a_is_refused_for_a_d_that_holds_columns_in_pairs_of_rows() -> None:
    wrong = changed(MMA, D=fragment(MMA, "D", elem=(ROWS, Digit(2, col=1))))
    assert ask(wrong, "d_is_next_a").verdict == MISMATCH


# --- Every kind of row ----------------------------------------------------------------------------


def asked_about(row: Instruction, operand: str) -> str:
    """Return the question that tells about the place of ``operand``."""
    pairs = session.pairs([row], definition.questions())
    tells = QUESTIONS[row.family]
    return next(item.name for _, item in pairs if operand in tells.get(item.name, ""))


def changed_operand(row: Instruction, wrong: Instruction) -> str:
    both = zip(row.operands, wrong.operands, strict=True)
    return next(operand.name for operand, other in both if operand != other)


def test_the_kinds_have_every_family_and_width() -> None:
    assert {row.family for row in KINDS} == set(FAMILIES)
    widths = {row["A"].format.bits for row in KINDS if row.family == "mma"}
    assert widths == {1, 4, 8, 16, 32, 64}


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.ptx)
def test_a_row_with_two_digits_exchanged_is_caught_on_the_operand_that_was_changed(
    row: Instruction,
) -> None:
    wrongs = list(mutant_rows(row))
    assert wrongs
    for wrong in wrongs:
        touched = changed_operand(row, wrong)
        blamed = wrong_operands(ask(wrong, asked_about(row, touched)))
        if row.family == "movmatrix":  # the places of the operand are the names of the result's
            assert blamed == {"D"}
        else:
            allowed = [{touched}, *([{"A", "B"}] if touched in "AB" else [])]  # an order of k
            assert blamed in allowed, (touched, blamed, wrong[touched].fragment)


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.ptx)
def test_every_question_of_a_true_row_matches(row: Instruction) -> None:
    report = session.run([row], definition.questions(), HARDWARE)
    assert {(result.probe, result.verdict) for result in report.results} == {
        (question.name, MATCH) for _, question in session.pairs([row], definition.questions())
    }
    layout_asked = {result.probe for result in report.results} & set(QUESTIONS[row.family])
    told = {name for asked in layout_asked for name in QUESTIONS[row.family][asked]}
    assert told == set(row.by_name)
