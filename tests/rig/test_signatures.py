"""Every signature says what is asked, or names what it cannot say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe.errors import UsageError
from attnprobe.numerics.calls import dense
from attnprobe.numerics.cases import CASES, Case
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.memory import LAYOUTS
from attnprobe.numerics.plain import Plain
from attnprobe.numerics.reference import PLAIN, Features, heads
from attnprobe.rig.libraries import LIBRARIES
from attnprobe.rig.signatures import SIGNATURES, Written, entry_of, signature, taken_by
from attnprobe.rig.target import Declined
from attnprobe.rig.targets import find
from tests.rig import faulty

SIZES = Sizes(20, 30, 4, 2, 16)


def call_of(features=PLAIN, sizes=SIZES, layout="contiguous"):
    return dense(FILLS["normal"](sizes, np.float16), features, (), LAYOUTS[layout], np.nan)


def words(name, call):
    return SIGNATURES[name].arguments(call, np.asarray)


# --- SDPA -----------------------------------------------------------------------------------------

MASKED = {
    "causal": Features(causal=True),
    "window": Features(window_size=(3, 2)),
    "mask": Features(mask=np.arange(20 * 30).reshape(1, 1, 20, 30) % 3 > 0, causal=True),
    "offset": Features(causal=True, q_offset=4),
}


@pytest.mark.parametrize("name", MASKED)
def test_sdpa_gets_a_mask_of_what_each_query_sees(name):
    call = call_of(MASKED[name])
    mask = words("sdpa", call)["attn_mask"]
    for head in heads(*(call.arrays[each] for each in "qkv")):
        seen = np.broadcast_to(mask, (1, 4, 20, 30))[head.batch, head.head]
        np.testing.assert_array_equal(seen, MASKED[name].seen(head))


def test_sdpa_gets_a_bias_with_what_is_hidden_in_it():
    bias = np.linspace(-1, 1, 600).reshape(1, 1, 20, 30).astype(np.float16)
    call = call_of(Features(bias=bias, causal=True))
    mask = words("sdpa", call)["attn_mask"]
    (head, *_) = heads(*(call.arrays[each] for each in "qkv"))
    seen = Features(causal=True).seen(head)
    np.testing.assert_array_equal(mask[0, 0], np.where(seen, bias[0, 0], np.float16(-np.inf)))


def test_sdpa_is_causal_means_the_top_left_and_is_said_for_that_alone():
    square = Sizes(20, 20, 4, 4, 16)
    assert words("sdpa", call_of(Features(causal=True), square)) == {"is_causal": True}
    top_left = Features(causal=True, causal_alignment="top-left")
    assert words("sdpa", call_of(top_left)) == {"is_causal": True, "enable_gqa": True}
    assert "is_causal" not in words("sdpa", call_of(Features(causal=True)))
    windowed = Features(causal=True, window_size=(4, 0))
    assert set(words("sdpa", call_of(windowed, square))) == {"attn_mask"}


DENSE = [
    row
    for row in CASES
    if row.entry == "attention" and row.sizes.head_dim <= 128 and row.sizes.num_heads < 9
]


@pytest.mark.parametrize("case", DENSE[::6], ids=lambda row: row.name)
def test_sdpa_of_a_sound_callable_gives_what_was_asked(case):
    target = find("tests.rig.faulty:heads_first", "sdpa").open("numpy")
    call = case.call(FILLS[case.fills[0]])
    try:
        O, LSE = target.run(call)
    except Declined as declined:
        assert "no word" in str(declined)  # noqa: PT017
        return
    assert LSE is None
    assert call.judge(O).ok


# --- what cannot be said --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features", "reason"),
    [
        ("flash", Features(sinks=np.zeros(4)), "sinks: the flash signature has no word for it"),
        ("flash", Features(softmax_scale=np.ones(4)), "one for all heads"),
        ("sdpa", Features(softcap=3.0), "softcap: the sdpa signature has no word for it"),
        ("sdpa", Features(bias=np.zeros((20, 30), np.float32)), "in q's dtype only"),
    ],
)
def test_what_a_signature_cannot_say_is_named(name, features, reason):
    assert reason in SIGNATURES[name].refusal(call_of(features), frozenset({"**"}))


def test_what_a_callable_does_not_take_is_named():
    taken = taken_by(faulty.sound)
    assert signature("flash").refusal(call_of(Features(causal=True)), taken) == ""
    refusal = signature("flash").refusal(call_of(Features(window_size=(1, 1))), taken)
    assert refusal == "the target takes no argument 'window_size'"


def test_a_packed_call_is_no_call_of_sdpa():
    packed = Case("packed", Sizes(0, 0, 2, 2, 16), lengths=((3, 4), (5, 6)))
    call = packed.call(FILLS["normal"])
    assert "attention_varlen" in SIGNATURES["sdpa"].refusal(call, frozenset({"**"}))


def test_ours_can_say_every_feature():
    assert set(Features.__dataclass_fields__) <= SIGNATURES["ours"].can_say


def test_an_unknown_signature_is_answered_with_those_that_there_are():
    with pytest.raises(UsageError, match="flash, sdpa"):
        signature("triton")


# --- calls ----------------------------------------------------------------------------------------


def test_the_entry_is_read_off_the_arguments():
    def paged(q, k, v, block_table=None, cache_seqlens=None): ...
    def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k): ...

    assert entry_of(taken_by(paged)) == "attention_paged"
    assert entry_of(taken_by(varlen)) == "attention_varlen"
    assert entry_of(taken_by(faulty.sound)) == "attention"


def test_the_longest_sequence_is_told_to_who_asks_for_it():
    told = {}

    def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_k):
        told.update(q=max_seqlen_q, k=max_seqlen_k)
        return q

    case = Case("packed", Sizes(0, 0, 2, 2, 16), lengths=((3, 4), (5, 6)))
    call = case.call(FILLS["normal"])
    numpy = LIBRARIES["numpy"]
    SIGNATURES["flash"].call(varlen, call, numpy.put, numpy.get, taken_by(varlen))
    assert told["q"] == 5
    assert told["k"] >= 6


def test_a_packed_call_loses_its_room_where_the_target_cannot_be_told_of_it():
    """The target sees the keys that count and no other, and the answer is that of the call."""
    plain, seen = Plain(), []

    def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, *, causal=False):
        seen.append(k)
        return plain.attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal)

    case = Case("packed", Sizes(0, 0, 2, 2, 16), features=Features(causal=True),
                lengths=((3, 4), (5, 6)))  # fmt: skip
    call = case.call(FILLS["normal"])
    target = replace(find("yardstick"), load=lambda: {"attention_varlen": varlen})
    O, LSE = target.open().run(call)
    assert call.judge(O, LSE).ok
    assert len(seen[0]) == 10 < len(call.arrays["k"])


@pytest.mark.parametrize("word", ["return_lse", "return_softmax_lse", "return_attn_probs"])
def test_lse_is_asked_for_by_the_word_that_the_callable_takes(word):
    scope = {}
    exec(
        f"def attend(q, k, v, {word}=False):\n    assert {word}\n    return q, q[..., 0], 0", scope
    )
    attend, numpy = scope["attend"], LIBRARIES["numpy"]
    _, lse = SIGNATURES["flash"].call(attend, call_of(), numpy.put, numpy.get, taken_by(attend))
    assert lse is not None


def test_a_target_that_writes_to_its_arguments_is_found():
    target = find("tests.rig.faulty:writes_to_q").open("numpy")
    with pytest.raises(Written, match="its argument q"):
        target.run(call_of(sizes=Sizes(20, 20)))


def test_what_a_target_leaves_unwritten_is_not_right_by_chance():
    """Memory of O's size has NaN in it before the call; a sound result lay there a moment ago."""
    target = find("tests.rig.faulty:unwritten").open("numpy")
    call = call_of(sizes=Sizes(200, 200, 2, 2))
    right = faulty.sound(*(call.arrays[each] for each in "qkv"))
    del right
    assert not call.judge(target.run(call)[0], diagnose=False).ok
