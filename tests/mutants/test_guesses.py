"""The diagnosis names what is wrong in real kernels, broken on purpose."""

from __future__ import annotations

import pytest

from attnprobe.mutants.catalogue import find
from attnprobe.mutants.places import Place
from attnprobe.mutants.scenes import SCENES
from attnprobe.mutants.stage import result
from attnprobe.numerics.fills import FILLS

GUESSES = {
    "p_repack_order": ("p_repack", "a[1] and a[2] of P are exchanged"),
    "k_ldmatrix_order": ("k_fragment", "quarters of K"),
    "mask_rows_of_lane": ("mask_of_others", "rows g + 8 of every 16 are masked as rows g"),
    "sum_of_half_quad": ("sum_of_lanes", "two of its four lanes"),
}


@pytest.mark.parametrize("place", ["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", GUESSES)
def test_the_guess_is_the_mutant(name, place):
    mutant = find(name)
    scene = SCENES[mutant.seen_on[0]]
    call, O, LSE = result(scene, FILLS[mutant.refused_by[0]], mutant, Place(place))
    verdict = call.judge(O, LSE)
    fault, says = GUESSES[name]
    assert verdict.guess is not None, str(verdict)
    assert verdict.guess.fault == fault, str(verdict)
    assert says in verdict.guess.text
    assert verdict.guess.explains > 0.99
