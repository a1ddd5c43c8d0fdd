"""``attnprobe.testing``: cases for somebody's own test-suite, and the assertion."""

from __future__ import annotations

import pytest

from attnprobe.errors import ToleranceError, UsageError
from attnprobe.numerics import real
from attnprobe.testing import AttentionCase, assert_attention_close, attention_cases
from tests.rig import faulty


@attention_cases(
    supports={"causal", "softmax_scale"}, cases=("65 x 65", "scale 0"), fills=["peaked"]
)
def test_a_sound_attention_passes(case):
    O, LSE = faulty.sound(case.q, case.k, case.v, **case.arguments(), return_lse=True)
    assert_attention_close(O, case, lse=LSE)


@attention_cases(cases=("65 x 65",), fills=["normal"], dtype="bf16", argument="problem")
def test_a_broken_one_is_refused(problem):
    assert problem.q.dtype.name == "bfloat16"
    O = faulty.rows_swapped(problem.q, problem.k, problem.v)
    with pytest.raises(AssertionError, match="elements over the bound"):
        assert_attention_close(O, problem, tile_rows=64)


def test_arrays_are_taken_without_a_case():
    q, k, v = real.layers()[15]
    q, k, v = q[:, :40, :3], k[:, :40, :1], v[:, :40, :1]
    O, LSE = faulty.sound(q, k, v, causal=True, return_lse=True)
    assert_attention_close(O, q, k, v, lse=LSE, causal=True)
    with pytest.raises(ToleranceError, match="causal=True"):
        assert_attention_close(faulty.sound(q, k, v), q, k, v, causal=True)
    with pytest.raises(ToleranceError, match="LSE"):
        assert_attention_close(O, q, k, v, lse=LSE + 1, causal=True)


def test_a_failure_names_the_case_and_the_place():
    mark = attention_cases(cases=("65 x 65",), fills=["normal"])
    (parameter,) = mark.args[1]
    (case,) = parameter.values
    O = faulty.rows_swapped(case.q, case.k, case.v)
    with pytest.raises(ToleranceError) as raised:
        assert_attention_close(O, case, tile_rows=64)
    text = str(raised.value)
    assert text.startswith("65 x 65/normal/f16")
    assert "lane" in text
    assert "query tile 0 (64 rows)" in text


def test_what_is_not_supported_is_skipped_by_name():
    parameters = attention_cases(supports={"causal"}, size="full").args[1]
    by_id = {each.id: each for each in parameters}
    assert len(by_id) == len(parameters)
    skipped = {id_: each.marks[0].kwargs["reason"] for id_, each in by_id.items() if each.marks}
    assert "softcap" in skipped["softcap/normal/f16"]
    assert "65 x 65/normal/f16" not in skipped
    assert len(skipped) < len(parameters)


def test_no_case_is_made_before_it_is_asked_for():
    parameters = attention_cases(size="full").args[1]
    (case,) = parameters[0].values
    assert isinstance(case, AttentionCase)
    assert "call" not in vars(case)
    assert {each.values[0].job.case.entry for each in parameters} == {"attention"}


def test_a_mistake_is_answered():
    with pytest.raises(UsageError, match="--list"):
        attention_cases(cases=("no such case",))
    case = attention_cases(cases=("65 x 65",), fills=["normal"]).args[1][0].values[0]
    with pytest.raises(UsageError, match="its own"):
        assert_attention_close(case.q, case, causal=True)
