"""Every seeded fault, by every fill: what the old test let through, the new one refuses."""

from __future__ import annotations

import pytest

from attnprobe.errors import CompileError, UsageError
from attnprobe.mutants import apply, catalogue
from attnprobe.mutants.catalogue import MUTANTS, Edit, Mutant
from attnprobe.numerics.fills import FILLS

TELLING_FILLS = [name for name in FILLS if name != "near_uniform"]


@pytest.fixture(scope="module", params=["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
def cells(request):
    """Return (mutant or None, fill) -> its cell of the kill matrix."""
    if request.param == "gpu":
        import cupy

        move = cupy.asarray
    else:
        move = None
    return {(cell.mutant, cell.fill): cell for cell in apply.matrix(move)}


@pytest.mark.parametrize("fill", FILLS)
def test_the_kernel_as_it_is_passes_both_rules(cells, fill):
    cell = cells[None, fill]
    assert not cell.killed, cell
    assert cell.old_rule, cell


@pytest.mark.parametrize(
    "mutant", [row for row in MUTANTS if row.slipped], ids=lambda row: row.name
)
def test_near_uniform_data_under_the_old_limit_let_it_through(cells, mutant):
    cell = cells[mutant.name, "near_uniform"]
    assert cell.old_rule, cell


@pytest.mark.parametrize("fill", TELLING_FILLS)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda row: row.name)
def test_every_telling_fill_kills_it(cells, mutant, fill):
    cell = cells[mutant.name, fill]
    assert cell.killed, cell
    assert cell.bound_share > 10, "killed, but only just"


def test_an_edit_that_no_longer_applies_is_an_error(cells):
    source = apply.Source("int a;", "a.cu")
    stale = Mutant("stale", "nothing", (Edit("int b;", "int c;"),), slipped=False)
    with pytest.raises(CompileError, match="found 0"):
        apply.mutated(source, stale)


def test_a_mutant_that_changes_nothing_is_refused():
    with pytest.raises(ValueError, match="changes nothing"):
        Mutant("same", "nothing", (Edit("x", "x"),), slipped=False)


def test_mutants_are_found_by_name():
    assert catalogue.find("p_repack_order") is MUTANTS[0]
    with pytest.raises(UsageError, match="p_repack_order"):
        catalogue.find("p_repack")
