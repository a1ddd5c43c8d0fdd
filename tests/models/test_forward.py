"""The forward passes, against the same models written out again token by token and head by head."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.models import attend, generate, minilm, smollm2
from tests.models import tiny

EXACT = attend.exact()


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return smollm2.load(tiny.write_smollm2(tmp_path_factory.mktemp("smollm2")))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return minilm.load(tiny.write_minilm(tmp_path_factory.mktemp("minilm")))


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def written_out_llama(tokens):
    """Logits of the tiny decoder in float64, one token and one head at a time."""
    w = {name: array.astype(np.float64) for name, array in tiny.llama_weights().items()}
    half = tiny.HEAD_DIM // 2
    turn = tiny.THETA ** -(np.arange(half) / half)

    def norm(x, name):
        return x / np.sqrt((x * x).mean() + tiny.EPSILON) * w[f"{name}.weight"]

    def rotated(x, position):
        pairs = x.reshape(half, 2)
        spun = (pairs[:, 0] + 1j * pairs[:, 1]) * np.exp(1j * position * turn)
        return np.stack([spun.real, spun.imag], axis=1).ravel()

    states = [w["token_embd.weight"][token] for token in tokens]
    for layer in range(tiny.LAYERS):
        block = f"blk.{layer}."
        keys, values = [], []
        for position, x in enumerate(states):
            h = norm(x, block + "attn_norm")
            keys.append(rotated(w[block + "attn_k.weight"] @ h, position))
            values.append(w[block + "attn_v.weight"] @ h)
            queries = (w[block + "attn_q.weight"] @ h).reshape(tiny.HEADS, tiny.HEAD_DIM)
            mixed = []
            for query in queries:
                q = rotated(query, position)
                p = softmax(np.array([q @ key for key in keys]) / np.sqrt(tiny.HEAD_DIM))
                mixed.append(sum(a * value for a, value in zip(p, values, strict=True)))
            x = x + w[block + "attn_output.weight"] @ np.concatenate(mixed)
            h = norm(x, block + "ffn_norm")
            gate = w[block + "ffn_gate.weight"] @ h
            inner = gate / (1 + np.exp(-gate)) * (w[block + "ffn_up.weight"] @ h)
            states[position] = x + w[block + "ffn_down.weight"] @ inner
    return np.stack([w["token_embd.weight"] @ norm(x, "output_norm") for x in states])


def test_logits_are_those_of_the_model_written_out(language) -> None:
    tokens = language.bpe.encode("the ferry leaves")
    given = language.model.logits(tokens, EXACT)
    np.testing.assert_allclose(given, written_out_llama(tokens), atol=1e-4)


def test_a_cache_gives_the_logits_of_all_tokens_at_once(language) -> None:
    tokens = language.bpe.encode("the tide turns")
    whole = language.model.logits(tokens, EXACT)
    stepwise = generate.decoded(language.model, tokens, (3, 5), EXACT)
    np.testing.assert_allclose(stepwise, whole, atol=1e-4)


def test_a_ragged_batch_says_what_each_prompt_says_alone(language) -> None:
    prompts = [language.bpe.encode(text) for text in ("a boat", "why does ice float", "x")]
    options = {"count": 5, "end": language.end}
    together = generate.continuations(language.model, prompts, EXACT, **options)
    alone = [generate.continuations(language.model, [p], EXACT, **options)[0] for p in prompts]
    assert [each.tokens for each in together] == [each.tokens for each in alone]
    assert [len(each.tokens) for each in together] == [5, 5, 5]


def test_an_answer_stops_with_the_end_token_and_the_others_go_on(language) -> None:
    prompts = [language.bpe.encode(text) for text in ("a boat", "why does ice float")]
    first, second = generate.continuations(language.model, prompts, EXACT, 4, end=-1)
    end = first.tokens[1]
    stopped, went_on = generate.continuations(language.model, prompts, EXACT, 4, end=end)
    assert stopped.tokens == first.tokens[: first.tokens.index(end)]
    assert went_on.tokens == second.tokens or end in second.tokens


def test_the_likelihood_of_equal_logits_is_the_logarithm_of_their_number() -> None:
    assert generate.mean_nll(np.zeros((4, 8), np.float32), [1, 2, 3, 4]) == pytest.approx(np.log(8))


def test_a_question_is_put_in_the_words_of_the_chat(language) -> None:
    told = language.bpe.decode(language.question("Why?"))
    assert told == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert language.question("Why?").count(language.end) == 2


def written_out_bert(tokens):
    """The embedding of one sentence in float64, one token and one head at a time."""
    from math import erf, sqrt

    w = {name: array.astype(np.float64) for name, array in tiny.bert_weights().items()}
    heads, width = tiny.BERT_HIDDEN // 32, 32

    def linear(x, name):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def norm(x, name):
        scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
        return scaled * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    tables = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
    states = [
        norm(w[tables[0]][token] + w[tables[1]][place] + w[tables[2]][0], "embeddings")
        for place, token in enumerate(tokens)
    ]
    for layer in range(tiny.BERT_LAYERS):
        block = f"encoder.layer.{layer}."
        q, k, v = (
            [linear(x, f"{block}attention.self.{name}").reshape(heads, width) for x in states]
            for name in ("query", "key", "value")
        )
        after = []
        for place, x in enumerate(states):
            mixed = []
            for head in range(heads):
                p = softmax(np.array([q[place][head] @ key[head] for key in k]) / sqrt(width))
                mixed.append(sum(a * value[head] for a, value in zip(p, v, strict=True)))
            y = linear(np.concatenate(mixed), block + "attention.output.dense")
            x = norm(x + y, block + "attention.output")
            inner = linear(x, block + "intermediate.dense")
            inner = np.array([value * (1 + erf(value / sqrt(2))) / 2 for value in inner])
            after.append(norm(x + linear(inner, block + "output.dense"), block + "output"))
        states = after
    mean = np.mean(states, axis=0)
    return mean / np.linalg.norm(mean)


def test_embeddings_are_those_of_the_model_written_out(encoder) -> None:
    sentences = encoder.tokens(["Rain.", "The ferry leaves at noon.", "Why does ice float?"])
    want = np.stack([written_out_bert(sentence) for sentence in sentences])
    packed = encoder.model.packed(sentences, EXACT)
    padded = encoder.model.padded(sentences, encoder.wordpiece.padding, EXACT)
    np.testing.assert_allclose(packed, want, atol=1e-5)
    np.testing.assert_allclose(padded, want, atol=1e-5)
