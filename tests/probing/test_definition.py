"""Questions are data: what a file may hold, and what each must say."""

from pathlib import Path

import pytest

from attnprobe import _paths, layouts
from attnprobe.errors import UsageError
from attnprobe.probing import compare, definition, fills, generate, memory, session
from attnprobe.probing.definition import Question

GOOD = (_paths.data_dir("probes") / "operand_layout.toml").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "operand_layout.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("question", definition.questions(), ids=lambda question: question.name)
def test_every_shipped_question_names_things_that_exist_and_says_what_it_proves(
    question: Question,
) -> None:
    assert session.pairs
    assert question.compare in compare.COMPARISONS
    assert question.kernel in generate.RECIPES
    assert (_paths.data_dir("kernels") / "probe" / question.kernel).is_file()
    assert question.asks.endswith("?")
    assert question.proves.endswith(".")
    assert question.blind
    known = {"addresses": set(memory.ADDRESSES), "variant": {"every", "first"}}
    for fill in question.fills:
        assert fill.says
        for name, value in fill.parts.items():
            if name in ("A", "B", "C", "E", "addresses", "variant"):
                assert value in known.get(name, {*fills.FILLS, *fills.RAW}), name


@pytest.mark.parametrize("question", definition.questions(), ids=lambda question: question.name)
def test_every_shipped_question_is_asked_of_some_row(question: Question) -> None:
    rows = layouts.rows(*question.families)
    assert any(generate.applies(question, row) for row in rows)


def test_every_recipe_and_every_comparison_is_asked_for() -> None:
    asked = definition.questions()
    assert {question.kernel for question in asked} == set(generate.RECIPES)
    assert {question.compare for question in asked} == set(compare.COMPARISONS)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('family = "mma"', 'familie = "mma"', "familie"),
        ('asks = "', 'x = "', "asks"),
        ('name = "operand_layout"', 'name = "other"', "'other'"),
        ('name = "pass_through"', 'name = "meetings"', "named twice"),
        ('says = "A B = 0', 'said = "A B = 0', "says"),
    ],
)
def test_a_file_that_is_no_question_is_refused_with_what_is_wrong(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=complaint):
        definition.read(written(tmp_path, GOOD.replace(old, new, 1)))


def test_an_unknown_question_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="operand_layout"):
        definition.find("operand_layuot")
