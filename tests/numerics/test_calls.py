"""Calls hold what they say, sound results pass every relation, and each relation can refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe.numerics import reference
from attnprobe.numerics.calls import UNUSED_PAGE, Pages
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.plain import Plain, sound
from attnprobe.numerics.reference import Attention, Features
from attnprobe.numerics.relations import RELATIONS

CAUSAL = Features(causal=True)
LENGTHS = ((1, 33), (20, 40), (7, 7), (16, 1))
CASES = {
    "dense": Case("dense", Sizes(20, 40, 4, 2, batch=2)),
    "dense, causal": Case("dense", Sizes(20, 60, 4, 2), features=CAUSAL, layout="gaps"),
    "gated": Case("gated", Sizes(20, 40, 4, 2), layout="gated"),
    "varlen": Case("varlen", Sizes(0, 0, 4, 2), features=CAUSAL, lengths=LENGTHS),
    "paged": Case("paged", Sizes(0, 0, 4, 2), features=CAUSAL, lengths=LENGTHS, pages=Pages(16)),
    "paged by 1": Case("one", Sizes(0, 0, 4, 2), lengths=((3, 9), (3, 17)), pages=Pages(1)),
    "cache": Case("cache", Sizes(0, 0, 4, 2), lengths=((2, 9), (2, 30)), pages=Pages(0)),
}


def demanded(case, fill, dense=sound):
    """Return relation -> its finding (None where it does not apply), and the verdict."""
    target = Plain(dense)
    call = case.call(FILLS[fill], seed=3)
    first = target.run(call.entry, call.arguments())
    found = {}
    for relation in RELATIONS:
        calls = relation.further(call)
        results = [target.run(each.entry, each.arguments()) for each in calls]
        found[relation.name] = relation.judge(call, first, calls, results) if calls else None
    return found, call.judge(*first)


@pytest.mark.parametrize("fill", ["normal", "one_hot", "garbage_inf", "scores_minus_100"])
@pytest.mark.parametrize("name", CASES)
def test_sound_results_meet_every_relation(name, fill):
    found, verdict = demanded(CASES[name], fill)
    assert verdict.ok, str(verdict)
    assert all(finding.ok for finding in found.values() if finding), found
    applies = {relation for relation, finding in found.items() if finding}
    dense = {"permuted keys", "split and merge"}
    slack = {"garbage"}
    wanted = {
        "dense": dense,
        "dense, causal": {"split and merge", "garbage"},
        "gated": dense | slack,
    }.get(name, slack)
    assert applies == {"repeat"} | wanted


def test_a_paged_call_has_disorder_and_garbage_where_nothing_is_used():
    call = CASES["paged"].call(FILLS["normal"])
    table, lengths = call.arrays["block_table"], call.arrays["cache_seqlens"]
    assert lengths.tolist() == [33, 40, 7, 1]
    assert (table[:, -1] == UNUSED_PAGE).all()
    used = table[table != UNUSED_PAGE]
    assert len(set(used.tolist())) == len(used) == 3 + 3 + 1 + 1
    assert used.tolist() != sorted(used.tolist())
    assert np.isnan(call.arrays["k_cache"].astype(float)).any(axis=(1, 2, 3)).sum() == 4 + 3
    np.testing.assert_array_equal(
        call.arrays["k_cache"][table[0, 2], 0], call.parts[0].question.k[0, 32]
    )
    assert not np.isnan(call.clean.arrays["k_cache"].astype(float)).any()


def looks_behind(q, k, v, features):
    """Attention that reads one key past the end of a view."""
    base = k if k.base is None else k.base
    stray = np.float16(0) * base.ravel()[-1].astype(np.float16)
    result = sound(q, k, v, features)
    return Attention(result.o + stray, result.lse)


def in_base_2(q, k, v, features):
    result = sound(q, k, v, features)
    return Attention(result.o, (result.lse / np.log(2)).astype(np.float32))


def forgets_the_last_key_of_long_rows(q, k, v, features):
    kept = slice(0, 39 if k.shape[1] == 40 else None)
    return reference.yardstick(q, k[:, kept], v[:, kept], features)


def test_each_relation_refuses_its_fault():
    found, _ = demanded(CASES["cache"], "normal", looks_behind)
    assert not found["garbage"].ok
    found, _ = demanded(CASES["dense"], "normal", in_base_2)
    assert not found["split and merge"].ok
    found, _ = demanded(CASES["dense"], "normal", forgets_the_last_key_of_long_rows)
    assert not found["permuted keys"].ok
    calls = iter(range(100))

    def drifts(q, k, v, features):
        result = sound(q, k, v, features)
        return Attention(result.o + q.dtype.type(next(calls) * 1e-2), result.lse)

    found, _ = demanded(CASES["dense"], "normal", drifts)
    assert not found["repeat"].ok


def test_a_wrong_sequence_is_named():
    call = CASES["varlen"].call(FILLS["normal"])
    o, lse = Plain().run(call.entry, call.arguments())
    first = call.parts[1].first
    o[first + 4, 2, 9] += np.float16(1)
    verdict = call.judge(o, lse)
    assert not verdict.ok
    assert (verdict.place.batch, verdict.place.query, verdict.place.head) == (1, 4, 2)
    assert verdict.refused[0].text.startswith("sequence 1:")
    assert verdict.o.worst == (1, 4, 2, 9)
    assert verdict.o.total == sum(m for m, _ in LENGTHS) * 4 * 64
    assert len(verdict.rows.share) == sum(m for m, _ in LENGTHS) * 4


def test_results_are_cut_as_the_call_packs_them():
    case = replace(CASES["paged"], lengths=((3, 9), (3, 30)))
    call = case.call(FILLS["normal"])
    o, lse = Plain().run(call.entry, call.arguments())
    assert o.shape == (2, 3, 4, 64)
    assert lse.shape == (2, 4, 3)
    assert call.judge(o, lse).ok
    swapped = call.judge(o[::-1], lse[::-1])
    assert not swapped.ok
