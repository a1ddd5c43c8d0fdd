"""Large problems are judged on a sample of queries that has every tile edge in it."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.numerics import reference, sample
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features


def test_small_problems_are_judged_whole():
    assert sample.queries((1, 4096, 1, 64), 4096) is None
    assert sample.queries((2, 300, 8, 128), 300) is None


@pytest.mark.parametrize("tile", [0, 64, 192])
def test_the_sample_has_every_tile_edge_and_whole_blocks(tile):
    chosen = sample.queries((4, 4000, 32, 128), 4000, tile)
    assert (np.diff(chosen) > 0).all()
    assert 4 * 32 * 4000 * len(chosen) <= 1.1 * sample.MOST_SCORES
    edges = np.arange(0, 4000, tile or sample.EDGE_TILE)
    share = np.isin(edges, chosen).mean()
    assert share == 1 if tile != 64 else share > 0.3  # more edges than there is room for
    assert np.isin([*range(16), *range(3984, 4000)], chosen).all()
    blocks = chosen // 16
    whole = [block for block in np.unique(blocks) if (blocks == block).sum() == 16]
    assert len(whole) >= 4


def test_a_sampled_verdict_is_that_of_the_whole(monkeypatch):
    q, k, v = FILLS["normal"](Sizes(700, 90, 2, 2), np.float16)
    features = Features(causal=True)
    whole = Question(q, k, v, features).expected
    o, lse = reference.yardstick(q, k, v, features, 32)
    monkeypatch.setattr(sample, "MOST_SCORES", 2 * 90 * 200)
    part = Question(q, k, v, features)
    queries = part.expected.queries
    assert 100 < len(queries) <= 220
    for name, axis, rtol in (("o_bound", 1, 0.3), ("lse_bound", 2, 1e-9), ("top", 1, 1e-9)):
        given, wanted = getattr(part.expected, name), getattr(whole, name)
        np.testing.assert_allclose(given, wanted.take(queries, axis), rtol=rtol, atol=1e-12)
    wanted = whole.exact.o[:, queries]
    np.testing.assert_allclose(part.expected.exact.o, wanted, rtol=1e-9, atol=1e-12)
    assert part.judge(o, lse).ok
    worst = int(queries[57])
    wrong = o.copy()
    wrong[0, worst, 1, 5] += np.float16(1)
    verdict = part.judge(wrong, lse)
    assert verdict.o.worst == (0, worst, 1, 5)
    assert (verdict.place.query, verdict.place.head) == (worst, 1)
    assert sorted(set(verdict.rows.query.tolist())) == queries.tolist()


def test_rows_outside_the_sample_must_still_be_means_of_v(monkeypatch):
    q, k, v = FILLS["normal"](Sizes(700, 90, 2, 2), np.float16)
    o, lse = reference.yardstick(q, k, v)
    monkeypatch.setattr(sample, "MOST_SCORES", 2 * 90 * 200)
    question = Question(q, k, v)
    left_out = np.setdiff1d(np.arange(700), question.expected.queries)[40]
    for value in (np.nan, 30.0):
        wrong = o.copy()
        wrong[0, left_out, 1, 5] = value
        verdict = question.judge(wrong, lse)
        assert [finding.check for finding in verdict.refused] == ["hull"]
        assert f"(0, {left_out}, 1, 5)" in verdict.refused[0].text
