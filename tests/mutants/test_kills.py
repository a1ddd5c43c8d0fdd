"""Every mutant is refused by the first fill that its row names; the kernel as it is passes there.

The whole matrix is what ``attnprobe mutants`` runs; this is its cheapest part that can fail for
every row.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attnprobe.mutants.catalogue import MUTANTS
from attnprobe.mutants.mutant import Mutant
from attnprobe.mutants.outcome import Outcome
from attnprobe.mutants.places import Place
from attnprobe.mutants.scenes import SCENES
from attnprobe.mutants.stage import run_one
from attnprobe.numerics.fills import FILLS

EMULATOR = Place("emulator")
FAULTY = [row for row in MUTANTS if not row.equivalent]
EQUIVALENT = [row for row in MUTANTS if row.equivalent]
# Where no row names the fills of an equivalent mutant: plain numbers, and what must not spread.
TELLING = ("normal", "nan_in_v")
USED = sorted(
    {(scene, row.refused_by[0]) for row in FAULTY for scene in row.seen_on}
    | {(scene, fill) for row in EQUIVALENT for scene in row.seen_on for fill in TELLING}
)


def ids(row: Mutant) -> str:
    return row.name


def outcomes(mutant: Mutant, fill: str) -> Iterator[Outcome]:
    return (run_one(SCENES[scene], FILLS[fill], mutant, EMULATOR) for scene in mutant.seen_on)


@pytest.mark.parametrize(("scene", "fill"), USED)
def test_the_kernel_as_it_is_passes(scene: str, fill: str) -> None:
    outcome = run_one(SCENES[scene], FILLS[fill], None, EMULATOR)
    assert outcome.refused_by == (), outcome


@pytest.mark.parametrize("mutant", FAULTY, ids=ids)
def test_a_faulty_mutant_is_refused(mutant: Mutant) -> None:
    """On the first of its scenes that shows it."""
    assert any(outcome.refused_by for outcome in outcomes(mutant, mutant.refused_by[0]))


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=ids)
def test_an_equivalent_mutant_is_not(mutant: Mutant) -> None:
    found = [outcome for fill in TELLING for outcome in outcomes(mutant, fill)]
    assert all(outcome.refused_by == () for outcome in found), found
