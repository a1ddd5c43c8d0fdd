"""Cases: all there once, the work that they ask for, and the problem that ours is planned for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe.arch import arch
from attnprobe.bench import checking, features, inputs, session
from attnprobe.bench.cases import (
    DECODE,
    DECODE_LENGTHS,
    HEAD_DIMS,
    PREFILL,
    SEQLENS,
    SUITES,
    Case,
    prefill,
)
from attnprobe.bench.engines import ours
from attnprobe.bench.features import FEATURES
from attnprobe.bench.problems import problem_of
from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.errors import UsageError

EVERY = (*PREFILL, *DECODE, *features.CASES)


def test_names_are_unique() -> None:
    names = [case.name for case in EVERY]
    assert len(set(names)) == len(names)


def test_every_width_mask_and_length_is_there_in_float16() -> None:
    found = {(c.head_dim, c.causal, c.seqlen_q) for c in PREFILL if c.dtype == "float16"}
    assert found == {(d, causal, s) for d in HEAD_DIMS for causal in (False, True) for s in SEQLENS}
    for case in PREFILL:
        assert case.heads * case.head_dim == 2048
        assert case.batch * case.seqlen_q == 16384


def test_decode_has_twelve_plain_cells_and_every_cache_of_the_large_ones() -> None:
    plain = [case for case in DECODE if not case.beside]
    assert len(plain) == 3 * len(DECODE_LENGTHS) == 12
    names = {case.name for case in plain}
    others = [case for case in DECODE if case.beside]
    assert {case.beside for case in others} <= names
    kinds = {(case.page_size, case.kv_format) for case in others}
    assert kinds == {(16, ""), (1, ""), (256, ""), (0, "e4m3"), (0, "int8")}


def test_what_a_feature_is_beside_is_a_case() -> None:
    names = {case.name for case in features.CASES}
    assert {case.beside for case in features.CASES} - names == {""}


@pytest.mark.parametrize("suite", ["prefill", "decode", "features"])
def test_every_suite_has_a_quick_part_that_is_smaller(suite: str) -> None:
    quick = session.choose((suite,), "", quick=True)
    assert 0 < len(quick) < len(session.choose((suite,), "", quick=False))


def test_work_is_counted_by_hand() -> None:
    case = prefill(128, 512, True)
    assert (case.batch, case.heads) == (32, 16)
    assert case.flop == 4 * 32 * 16 * 512 * 512 * 128 / 2
    assert case.scores == 32 * 16 * 512 * 512 / 2
    rows = 32 * 512 * 16 * 128 * 2
    assert case.bytes == 4 * rows
    cell = Case("decode", 2, 32, 8, 1, 1000, 64, kv_format="e4m3")
    assert cell.cache_bytes == 2 * 2 * 1000 * 8 * 64
    assert cell.bytes == cell.cache_bytes + 2 * (2 * 32 * 64 * 2)
    assert cell.flop == 4 * 2 * 32 * 1000 * 64


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "heaped"}, {"layout": "paged"}, {"page_size": 16}, {"heads": 6, "kv_heads": 4}],
)
def test_a_case_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    values = {"heads": 8, "kv_heads": 8, **wrong}
    with pytest.raises(ValueError, match=r"wanted|pages|share"):
        Case("prefill", 1, seqlen_q=64, seqlen_k=64, head_dim=64, **values)  # type: ignore[arg-type]


def test_every_sixteen_bit_case_is_planned_on_hopper() -> None:
    for case in EVERY:
        if case.dtype != "e4m3":
            assert make_plan(problem_of(case), arch(90)).problem.head_dim == case.head_dim


SMALL = {
    "causal": Case("prefill", 2, 2, 2, 70, 70, 64, True),
    "bfloat16": Case("prefill", 1, 2, 1, 40, 90, 32, dtype="bfloat16"),
    "decode": Case("decode", 2, 4, 2, 1, 90, 64),
    "pages": Case("decode", 2, 4, 2, 1, 96, 64, layout="paged", page_size=16),
    "e4m3 cache": Case("decode", 2, 4, 2, 1, 90, 64, kv_format="e4m3"),
    "int8 cache": Case("decode", 2, 4, 2, 1, 90, 64, kv_format="int8"),
    **{
        f"feature {name}": replace(
            row.case, heads=2, kv_heads=2, seqlen_q=80, seqlen_k=80, head_dim=32
        )
        for name, row in FEATURES.items()
    },
}


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_a_call_is_planned_as_its_case_says_and_gives_what_float64_does(case: Case) -> None:
    """On the emulator: arrays, call, problem and check are those that a GPU run has."""
    planned: list[Plan] = []

    def note(plan: Plan) -> Plan:
        planned.append(plan)
        return plan

    given = inputs.make(case, 0, np)[0]
    with plans_changed(note):
        O = ours.o_of(ours.call_of(given)())
    assert planned[0].problem == problem_of(case)
    error = checking.error_of(O, checking.expected(given, O.dtype))
    assert 0 < error.max_abs < 0.1
    assert error.share <= 1


def test_a_wrong_result_is_seen() -> None:
    case = SMALL["causal"]
    given = inputs.make(case, 0, np)[0]
    O = np.array(ours.o_of(ours.call_of(given)()))
    wanted = checking.expected(given, O.dtype)
    O[-1, -1, -1, 3] += np.float16(0.25)  # the last row of the last head is one that is looked at
    assert checking.error_of(O, wanted).share > 1


def test_small_caches_get_copies_and_large_ones_none() -> None:
    small, large = DECODE[0], DECODE[3]
    l2 = 50 << 20
    assert inputs.copies_of(small.cache_bytes, l2) * small.cache_bytes >= 3 * l2
    assert inputs.copies_of(large.cache_bytes, l2) == 1


def test_suites_are_chosen_by_name() -> None:
    assert session.suites_of("all") == SUITES
    assert session.suites_of("decode, host") == ("decode", "host")
    with pytest.raises(UsageError, match="'decod'"):
        session.suites_of("decod")


def test_what_matters_most_comes_first() -> None:
    ranks = [case.rank for case in session.choose(SUITES, "", quick=False)]
    assert ranks == sorted(ranks)
    assert {case.name for case in session.choose(SUITES, "d128 causal", quick=False)} == {
        case.name for case in EVERY if "d128 causal" in case.name
    }
