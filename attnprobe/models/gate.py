"""The gate: a model run with an attention under test and with float64, and how far they part.

Everything but attention is the same code on the same numbers, so what differs is attention alone.
"The text is the same" is not enough, for a small model says the same with a wrong attention: the
logits over a given text are compared first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UnsupportedError
from attnprobe.models import attend, checks, texts
from attnprobe.models.attend import Attend
from attnprobe.models.checks import Answer, Check, Limit, ModelResult
from attnprobe.models.generate import continuations, decoded, mean_nll
from attnprobe.models.minilm import Encoder
from attnprobe.models.smollm2 import Language

Floats = npt.NDArray[np.float32]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """How much is run.

    Attributes
    ----------
    tokens : of the given text; 0 is all of it.
    decoded : how many of its last tokens are fed one by one.
    questions : how many are asked, as one batch.
    answer_tokens : of each answer, at most.
    sentences : how many are embedded.
    """

    tokens: int
    decoded: int
    questions: int
    answer_tokens: int
    sentences: int


FULL = Scope(tokens=0, decoded=64, questions=len(texts.QUESTIONS), answer_tokens=48, sentences=12)
QUICK = Scope(tokens=48, decoded=4, questions=1, answer_tokens=6, sentences=5)


@dataclass
class _Run:
    """Checks and times, as they come."""

    tell: Tell
    checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str, limits: Sequence[Limit]) -> Iterator[None]:
        """Run one part of a model; what the attention declines is noted for all ``limits``."""
        self.tell(name)
        start = time.perf_counter()
        try:
            yield
        except UnsupportedError as error:
            self.checks += [Check(name, limit, None, str(error)) for limit in limits]
        self.seconds[name] = time.perf_counter() - start

    def add(self, part: str, limit: Limit, figure: float) -> None:
        """Note a figure."""
        self.checks.append(Check(part, limit, figure))


def gate_language(
    language: Language, tested: Attend, scope: Scope = FULL, tell: Tell = lambda part: None
) -> ModelResult:
    """Return how far a decoder with attention ``tested`` is from itself with float64 attention.

    Parameters
    ----------
    tell : is given the name of each part before it runs.
    """
    model, exact, run = language.model, attend.exact(), _Run(tell)
    tokens = language.bpe.encode(texts.PROSE)[: scope.tokens or None]
    logits = (checks.LOGIT, checks.NLL)
    with run.part("prefill", logits):
        expected, given = (model.logits(tokens, each) for each in (exact, tested))
        _compare(run, "prefill", expected, given, tokens)
    with run.part("decode", logits):
        chunks = _chunks(len(tokens) - scope.decoded)
        expected, given = (decoded(model, tokens, chunks, each) for each in (exact, tested))
        _compare(run, "decode", expected, given, tokens)
    answers: list[Answer] = []
    with run.part("text", (checks.TEXT,)):
        answers += _answers(language, tested, exact, scope)
        differ = sum(not answer.same for answer in answers)
        run.add("text", checks.TEXT, differ)
    sizes = {"tokens": len(tokens), "decoded_one_by_one": scope.decoded, "questions": len(answers)}
    return ModelResult("smollm2", sizes, run.checks, answers, run.seconds)


def gate_encoder(
    encoder: Encoder, tested: Attend, scope: Scope = FULL, tell: Tell = lambda part: None
) -> ModelResult:
    """Return how far an encoder with attention ``tested`` is from itself with float64 attention.

    Parameters
    ----------
    tell : is given the name of each part before it runs.
    """
    run, model = _Run(tell), encoder.model
    sentences = encoder.tokens(texts.SENTENCES[: scope.sentences])
    expected = model.packed(sentences, attend.exact())
    limits = (checks.EMBEDDING, checks.COSINE)
    with run.part("padded", limits):
        given = model.padded(sentences, encoder.wordpiece.padding, tested)
        _compare_vectors(run, "padded", expected, given)
    with run.part("packed", limits):
        _compare_vectors(run, "packed", expected, model.packed(sentences, tested))
    lengths = [len(sentence) for sentence in sentences]
    sizes = {"sentences": len(lengths), "tokens": sum(lengths), "longest": max(lengths)}
    return ModelResult("minilm", sizes, run.checks, seconds=run.seconds)


def _chunks(count: int) -> tuple[int, ...]:
    """Return the first steps into a cache: two, so that the second meets what the first left."""
    return (count // 3, count - count // 3)


def _compare(run: _Run, part: str, expected: Floats, given: Floats, tokens: Sequence[int]) -> None:
    with np.errstate(invalid="ignore"):  # a NaN or an infinity of the attention under test
        run.add(part, checks.LOGIT, float(np.abs(given - expected).max()))
        given_nll, nll = (mean_nll(each[:-1], tokens[1:]) for each in (given, expected))
        run.add(part, checks.nll_limit(len(tokens)), abs(given_nll - nll))


def _compare_vectors(run: _Run, part: str, expected: Floats, given: Floats) -> None:
    run.add(part, checks.EMBEDDING, float(np.abs(given - expected).max()))
    cosines = np.sum(given.astype(np.float64) * expected, axis=-1)
    run.add(part, checks.COSINE, float((1 - cosines).max()))


def _answers(language: Language, tested: Attend, exact: Attend, scope: Scope) -> list[Answer]:
    questions = texts.QUESTIONS[: scope.questions]
    prompts = [language.question(question) for question in questions]
    expected, given = (
        continuations(language.model, prompts, each, scope.answer_tokens, language.end)
        for each in (exact, tested)
    )
    return [
        Answer(
            question,
            language.bpe.decode(mine.tokens),
            language.bpe.decode(wanted.tokens),
            mine.tokens == wanted.tokens,
            wanted.least_margin,
        )
        for question, mine, wanted in zip(questions, given, expected, strict=True)
    ]
