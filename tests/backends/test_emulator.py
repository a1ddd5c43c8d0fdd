"""The emulator answers every question with the very bits of the ISA's formulas."""

import pytest

from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.layouts import Instruction
from attnprobe.probing import definition, generate, session
from attnprobe.probing.report import MATCH, NOT_RUN
from tests.probing.kinds import KINDS
from tests.probing.silicon import Silicon

PAIRS = session.pairs(KINDS, definition.questions())


def named(value: object) -> str:
    return getattr(value, "ptx", "") or getattr(value, "name", "")


@pytest.mark.parametrize(("row", "question"), PAIRS, ids=named)
def test_the_emulator_agrees_with_the_row_and_with_the_formulas(
    row: Instruction, question: definition.Question
) -> None:
    result = session.ask(row, question, EmulatorBackend())
    if result.cause == "emulator":  # refused before anything runs, with the instruction's name
        assert result.verdict == NOT_RUN
        assert row.mnemonic in result.reason
        return
    assert (result.verdict, result.reason, result.differences) == (MATCH, "", ())
    if question.compare == "product_bound":
        return  # the order of a sum is the emulator's own
    for fill in question.fills:
        launch = generate.launch(row, question, fill)
        emulated, expected = EmulatorBackend().run(launch), Silicon().run(launch)
        for array, other in zip(emulated.arrays, expected.arrays, strict=True):
            assert (array == other).all(), fill.name


def test_the_emulator_answers_all_dense_products_and_loads() -> None:
    """So that the case above, where it refuses, is about the others alone."""
    for row in KINDS:
        if row.family in ("mma", "ldmatrix"):
            question = next(question for each, question in PAIRS if each is row)
            assert session.ask(row, question, EmulatorBackend()).cause == ""
