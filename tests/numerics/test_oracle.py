"""The oracle lets sound results pass on every fill, and refuses by the demand that is not met."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import ToleranceError
from attnprobe.formats import FORMATS
from attnprobe.numerics import reference
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.oracle import Question, judge
from attnprobe.numerics.reference import Features

FEATURES = {
    "plain": Features(),
    "causal": Features(causal=True),
    "window": Features(window_size=(30, 4)),
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=list(FEATURES))
@pytest.mark.parametrize("fill", FILLS.values(), ids=list(FILLS))
def test_sound_results_pass_on_every_fill(fill, features):
    for name in fill.formats:
        q, k, v = fill(Sizes(33, 150, 4, 2, batch=2), FORMATS[name].dtype, seed=2)
        question = Question(q, k, v, features, fill.checks)
        for block in (16, 64):
            verdict = question.judge(*reference.yardstick(q, k, v, features, block))
            assert verdict.ok, str(verdict)
            assert verdict.guesses == ()
            assert len(verdict.rows.share) == 2 * 33 * 4


def refusals(verdict):
    return {finding.check for finding in verdict.refused}


def test_each_demand_refuses_what_only_it_sees():
    fill = FILLS["one_hot"]
    q, k, v = fill(Sizes(33, 150, 4, 2), np.float16)
    sound = reference.yardstick(q, k, v)
    nudged = sound.o.copy()
    where = np.unravel_index(nudged.argmax(), nudged.shape)
    nudged[where] = np.nextafter(nudged[where], np.float16(0))
    assert refusals(judge(q, k, v, nudged, sound.lse)) == set()
    assert refusals(judge(q, k, v, nudged, sound.lse, fill=fill)) == {"exact"}

    fill = FILLS["constant_v"]
    q, k, v = fill(Sizes(33, 150, 4, 2), np.float16)
    sound = reference.yardstick(q, k, v)
    nudged = sound.o.copy()
    nudged[0, 3, 1, 5] = np.nextafter(nudged[0, 3, 1, 5], np.float16(0))
    assert refusals(judge(q, k, v, nudged, sound.lse, fill=fill)) == {"equal columns"}

    q, k, v = FILLS["normal"](Sizes(33, 150, 4, 2), np.float16)
    sound = reference.yardstick(q, k, v)
    lse = sound.lse.copy()
    lse[0, 2, 7] += np.float32(1e-3)
    verdict = judge(q, k, v, sound.o, lse)
    assert refusals(verdict) == {"lse"}
    assert (verdict.place.head, verdict.place.query, verdict.place.column) == (2, 7, -1)


def test_the_worst_element_is_given_its_place_in_the_tile():
    q, k, v = FILLS["normal"](Sizes(150, 40, 2, 2), np.float16)
    sound = reference.yardstick(q, k, v)
    wrong = sound.o.copy()
    wrong[0, 90, 1, 13] += np.float16(1)
    place = judge(q, k, v, wrong, sound.lse, tile_rows=64).place
    assert (place.tile, place.row_block, place.query, place.column) == (1, 1, 90, 13)
    # Row 26 of the tile is row 10 of its block: lane 4 * 2 + 5 // 2, second pair of registers.
    assert (place.lane, place.register) == (10, 3)


def test_another_shape_or_format_is_refused():
    q, k, v = FILLS["normal"](Sizes(8, 8), np.float16)
    sound = reference.yardstick(q, k, v)
    with pytest.raises(ToleranceError, match="got float32"):
        judge(q, k, v, sound.o.astype(np.float32), sound.lse)
    assert judge(q, k, v, reference.attention(q, k, v).o.astype(np.float32), out_dtype="f4").ok
