"""Every seeded fault, by every fill: what the old test let through, the new one refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnprobe.errors import CompileError, UsageError
from attnprobe.mutants import apply, catalogue
from attnprobe.mutants.catalogue import MUTANTS, Edit, Mutant
from attnprobe.numerics.cases import ALL_FILLS as FILLS

TELLING_FILLS = [name for name in FILLS if name != "near_uniform"]
# What a telling fill cannot show, and why.
BLIND = {
    ("rescale_rows_swapped", "real"): "the layers repeat after 96 keys, so the first key block has "
    "every row's maximum already, and all later factors are 1",
}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "numerics.md"


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
    blind = BLIND.get((mutant.name, fill))
    assert cell.killed == (blind is None), (cell, blind)
    assert cell.bound_share < 1 or cell.bound_share > 10, "killed, but only just"


def test_the_table_in_the_docs_is_this_matrix(cells):
    """Rows are mutants; columns the old limit on near_uniform, then the bound on each fill."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    for mutant in MUTANTS:
        (line,) = (line for line in lines if line.startswith(f"| `{mutant.name}` |"))
        old = "refused" if not cells[mutant.name, "near_uniform"].old_rule else "passes"
        bound = ["refused" if cells[mutant.name, fill].killed else "passes" for fill in FILLS]
        # near_uniform under the bound can be close to it, and differ between GPU and emulator.
        told = [cell.strip() for cell in line.strip("|").split("|")][1:]
        assert told[:1] + told[2:] == [old, *bound[1:]]


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
