"""The gate on tiny models: a sound attention passes, and each kind of broken one is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe.errors import UnsupportedError
from attnprobe.models import attend, checks, gate, minilm, smollm2, texts
from attnprobe.models.attend import OneCall
from attnprobe.models.checks import Check, GateReport, ModelResult
from attnprobe.numerics import reference
from tests.models import tiny

SCOPE = gate.Scope(tokens=40, decoded=3, questions=2, answer_tokens=3, sentences=4)


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return smollm2.load(tiny.write_smollm2(tmp_path_factory.mktemp("smollm2")))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return minilm.load(tiny.write_minilm(tmp_path_factory.mktemp("minilm")))


def sound(q, k, v, features):
    """A sound fp16 attention in NumPy."""
    return reference.yardstick(q, k, v, features, block=16).o


def refused(result):
    """The parts and figures that are over their limits."""
    return {(check.part, check.limit.name) for check in result.checks if not check.ok}


def test_a_sound_attention_passes_in_every_part(language, encoder) -> None:
    tested = OneCall(sound)
    decoder = gate.gate_language(language, tested, SCOPE)
    embeddings = gate.gate_encoder(encoder, tested, SCOPE)
    assert (refused(decoder), refused(embeddings)) == (set(), set())
    assert decoder.ok
    assert embeddings.ok
    figures = [check.figure for check in (*decoder.checks, *embeddings.checks)]
    assert sum(figure > 0 for figure in figures) == 8, "nothing differs: nothing was exchanged"


def test_float64_is_no_way_from_itself(language) -> None:
    result = gate.gate_language(language, attend.exact(), SCOPE)
    assert [check.figure for check in result.checks] == [0] * len(result.checks)


def scale_off(q, k, v, features):
    return sound(q, k, v, replace(features, softmax_scale=1.05 / np.sqrt(q.shape[-1])))


def heads_mixed_up(q, k, v, features):
    return sound(q, k, v, features)[:, :, ::-1]


def own_key_lost(q, k, v, features):
    """Every query but the first misses the key that it is aligned with."""
    rows, keys = q.shape[1], k.shape[1]
    aligned = np.arange(rows)[:, None] + keys - rows == np.arange(keys)
    seen = ~aligned | (np.arange(keys) == 0)
    return sound(
        q, k, v, replace(features, mask=seen if features.mask is None else seen & features.mask)
    )


def not_causal(q, k, v, features):
    return sound(q, k, v, replace(features, causal=False))


def nan_in_one_row(q, k, v, features):
    O = sound(q, k, v, features).copy()
    O[0, min(1, O.shape[1] - 1), 0, 0] = np.nan
    return O


@pytest.mark.parametrize("broken", [scale_off, heads_mixed_up, own_key_lost, nan_in_one_row])
def test_a_broken_attention_is_refused_by_both_models(language, encoder, broken) -> None:
    tested = OneCall(broken)
    decoder = gate.gate_language(language, tested, SCOPE)
    assert {part for part, _ in refused(decoder)} >= {"prefill", "decode"}
    assert ("prefill", "max_abs_delta_logit") in refused(decoder)
    embeddings = gate.gate_encoder(encoder, tested, SCOPE)
    assert refused(embeddings) >= {
        (part, "max_abs_delta_embedding") for part in ("padded", "packed")
    }


def test_a_mask_that_lets_the_future_through_is_refused(language) -> None:
    result = gate.gate_language(language, OneCall(not_causal), SCOPE)
    assert ("prefill", "max_abs_delta_logit") in refused(result)


def test_padding_that_is_seen_is_refused_where_it_is_padded_only(encoder) -> None:
    def blind_to_padding(q, k, v, features):
        return sound(q, k, v, replace(features, mask=None))

    result = gate.gate_encoder(encoder, OneCall(blind_to_padding), SCOPE)
    assert {part for part, _ in refused(result)} == {"padded"}


def test_what_a_target_declines_is_told_and_the_rest_is_judged(encoder) -> None:
    def maskless(q, k, v, features):
        if features.mask is not None:
            raise UnsupportedError("no word for mask")
        return sound(q, k, v, features)

    result = gate.gate_encoder(encoder, OneCall(maskless), SCOPE)
    assert [check.verdict for check in result.checks] == ["declined"] * 2 + ["ok"] * 2
    assert result.ok
    assert {check.why for check in result.checks if check.figure is None} == {"no word for mask"}


def test_a_target_that_declines_everything_does_not_pass(encoder) -> None:
    def unwilling(q, k, v, features):
        raise UnsupportedError("not today")

    assert not gate.gate_encoder(encoder, OneCall(unwilling), SCOPE).ok


def test_an_answer_that_changes_is_refused_though_all_logits_are_near(language) -> None:
    """The text is a check of its own: an attention that fails only late in a long answer."""
    short = max(len(language.question(question)) for question in texts.QUESTIONS[:2])

    def lost_when_long(q, k, v, features):
        O = sound(q, k, v, features)
        return -30 * O if k.shape[1] > short + 1 else O

    scope = replace(SCOPE, answer_tokens=8)
    result = gate.gate_language(language, OneCall(lost_when_long), scope)
    assert refused(result) == {("text", "answers_that_differ")}
    changed = [answer for answer in result.answers if not answer.same]
    assert changed
    assert all(answer.least_margin > 0 for answer in result.answers)


def test_the_limit_of_the_likelihood_grows_for_texts_of_fewer_tokens_only() -> None:
    assert checks.nll_limit(200) == checks.nll_limit(1000) == checks.NLL
    assert checks.nll_limit(50).most == pytest.approx(2e-3)


def test_no_number_is_a_failure_and_null_in_json() -> None:
    check = Check("prefill", checks.LOGIT, float("nan"))
    assert (check.ok, check.verdict, check.as_json()["value"]) == (False, "FAILED", None)
    report = GateReport("x", {}, [ModelResult("smollm2", {}, [check])])
    assert not report.ok
    assert report.as_json()["schema"] == "attnprobe.gate/1"
