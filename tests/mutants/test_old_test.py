"""The story's faults on the shape of the test that let them through: what it missed, we refuse."""

from __future__ import annotations

import pytest

from attnprobe.mutants.catalogue import MUTANTS
from attnprobe.mutants.mutant import Mutant
from attnprobe.mutants.places import Place
from attnprobe.mutants.scenes import SCENES
from attnprobe.mutants.stage import run_one
from attnprobe.numerics.cases import ALL_FILLS
from attnprobe.numerics.fills import FILLS

EMULATOR, GPU = Place("emulator"), Place("gpu")
SLIPPED = [row for row in MUTANTS if row.slipped]
# What a telling fill cannot show, and why.
BLIND = {
    ("rescale_rows_swapped", "real"): "the layers repeat after 96 keys, so the first key block has "
    "every row's maximum already, and all later factors are 1",
    (
        "rescale_rows_swapped",
        "normal",
    ): "no score passes the first block's maximum by 2^8, and only then a factor is not 1",
}
PLACES = [pytest.param(EMULATOR, id="emulator"), pytest.param(GPU, id="gpu", marks=pytest.mark.gpu)]


def ids(row: Mutant) -> str:
    return row.name


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mutant", SLIPPED, ids=ids)
def test_near_uniform_data_under_the_old_limit_let_it_through(mutant: Mutant, place: Place) -> None:
    outcome = run_one(SCENES["story"], FILLS["near_uniform"], mutant, place)
    assert outcome.old_rule, outcome


@pytest.mark.parametrize("fill", ALL_FILLS)
@pytest.mark.parametrize("place", PLACES)
def test_the_kernel_as_it_is_passes_both_rules_on_the_old_shape(place: Place, fill: str) -> None:
    outcome = run_one(SCENES["story"], FILLS[fill], None, place)
    assert outcome.refused_by == (), outcome
    assert outcome.old_rule, outcome


@pytest.mark.parametrize("fill", [fill for fill in ALL_FILLS if fill != "near_uniform"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mutant", SLIPPED, ids=ids)
def test_every_telling_fill_refuses_the_storys_faults(
    mutant: Mutant, place: Place, fill: str
) -> None:
    outcome = run_one(SCENES["story"], FILLS[fill], mutant, place)
    blind = BLIND.get((mutant.name, fill))
    assert bool(outcome.refused_by) == (blind is None), (outcome, blind)
    assert outcome.share < 1 or outcome.share > 10, "refused, but only just"
