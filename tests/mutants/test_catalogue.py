"""What every row of the mutants promises: it applies, it changes something, its judges exist."""

from __future__ import annotations

import pytest

from attnprobe.compile import Source, load_source
from attnprobe.errors import CompileError, UsageError
from attnprobe.mutants.apply import edited
from attnprobe.mutants.catalogue import FAMILIES, MUTANTS, find
from attnprobe.mutants.mutant import Argument, Edit, Mutant
from attnprobe.mutants.scenes import SCENES
from attnprobe.numerics.fills import FILLS


def ids(row: Mutant) -> str:
    return row.name


@pytest.mark.parametrize("mutant", MUTANTS, ids=ids)
def test_its_edits_apply_to_the_kernel_text(mutant: Mutant) -> None:
    source = load_source(mutant.kernel)
    for change in mutant.changes:
        if isinstance(change, Edit):
            source = edited(source, change)
    if any(isinstance(change, Edit) for change in mutant.changes):
        assert source.text != load_source(mutant.kernel).text


@pytest.mark.parametrize("mutant", MUTANTS, ids=ids)
def test_its_scenes_and_judges_exist(mutant: Mutant) -> None:
    assert set(mutant.seen_on) <= set(SCENES)
    assert set(mutant.refused_by) <= set(FILLS)
    assert "near_uniform" not in mutant.refused_by


def test_names_are_unique_and_every_subject_is_broken_somewhere() -> None:
    assert len({row.name for row in MUTANTS}) == len(MUTANTS)
    assert {row.subject for row in MUTANTS} == {"kernel text", "launch arguments", "plan"}
    assert len(MUTANTS) >= 60
    assert set(FAMILIES) == {row.family for row in MUTANTS}


def test_every_scene_shows_something() -> None:
    assert {scene for row in MUTANTS for scene in row.seen_on} == set(SCENES)


def test_the_storys_faults_are_there() -> None:
    told = {row.name for row in MUTANTS if row.slipped}
    assert told == {
        "p_repack_order",
        "q_same_pointer",
        "q_ldmatrix_order",
        "rescale_rows_swapped",
        "store_rows_swapped",
    }


def test_an_edit_that_no_longer_applies_is_an_error() -> None:
    source = Source("int a; int c; int c;", "a.cu")
    with pytest.raises(CompileError, match="found 0"):
        edited(source, Edit("int b;", "int d;"))
    with pytest.raises(CompileError, match="found 2"):
        edited(source, Edit("int c;", "int d;"))


def test_an_edit_looks_past_line_breaks_and_takes_its_own_text_literally() -> None:
    source = Source("f(a,\n        b)", "a.cu")
    assert edited(source, Edit("f(a, b)", r"\1")).text == r"\1"


def test_a_row_that_says_nothing_is_refused() -> None:
    same = (Edit("x", "x"),)
    one = (Argument("rows_k", "0", lambda fields: 0),)
    with pytest.raises(ValueError, match="changes nothing"):
        Mutant("a", "b", same, ("plain",), family="c")
    with pytest.raises(ValueError, match="a scene"):
        Mutant("a", "b", one, (), family="c")
    with pytest.raises(ValueError, match="refuses it, or nothing can"):
        Mutant("a", "b", one, ("plain",), (), family="c")
    with pytest.raises(ValueError, match="refuses it, or nothing can"):
        Mutant("a", "b", one, ("plain",), family="c", equivalent="for no reason")


def test_mutants_are_found_by_name() -> None:
    assert find("p_repack_order") is MUTANTS[0]
    with pytest.raises(UsageError, match="p_repack_order"):
        find("p_repack")
