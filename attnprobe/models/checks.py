"""How far a model may be from itself with float64 attention: the limits, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, sqrt
from typing import Any

SCHEMA = "attnprobe.gate/1"


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes
    ----------
    name : of the figure, with its unit.
    most : the greatest figure that passes.
    why : what it is set by.
    """

    name: str
    most: float
    why: str


LOGIT = Limit(
    "max_abs_delta_logit",
    0.15,
    "a sound fp16 attention gives 0.02, a softmax scale that is 5 % off more than 0.8",
)
NLL = Limit(
    "abs_delta_mean_nll_nats",
    1e-3,
    "over 200 tokens or more; a sound fp16 attention gives 1e-4",
)
_NLL_TOKENS = 200
TEXT = Limit("answers_that_differ", 0, "the most likely tokens are the same ones")
EMBEDDING = Limit(
    "max_abs_delta_embedding", 2e-3, "of a vector of length 1; a sound fp16 attention gives 1e-4"
)
COSINE = Limit("max_1_minus_cosine", 1e-4, "the vectors point the same way")


def nll_limit(tokens: int) -> Limit:
    """Return the limit of the mean over ``tokens`` tokens.

    Rounding moves each token's likelihood up or down, so the mean of fewer wanders further: by the
    square root of their number.
    """
    return replace(NLL, most=NLL.most * max(1.0, sqrt(_NLL_TOKENS / tokens)))


@dataclass(frozen=True)
class Check:
    """One figure and its limit; ``part`` is what of the model was run.

    A figure that is NaN fails, and is null in JSON. ``figure`` is None where the attention says
    that it does not serve this part, and ``why`` what it says: no verdict.
    """

    part: str
    limit: Limit
    figure: float | None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return self.figure is None or self.figure <= self.limit.most

    @property
    def verdict(self) -> str:
        """One word: ok, FAILED, or declined."""
        if self.figure is None:
            return "declined"
        return "ok" if self.ok else "FAILED"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "part": self.part,
            "figure": self.limit.name,
            "value": None if self.figure is None or isnan(self.figure) else self.figure,
            "limit": self.limit.most,
            "verdict": self.verdict,
            **({"why": self.why} if self.why else {}),
        }


@dataclass(frozen=True)
class Answer:
    """What the model said to a question, with the attention under test and with float64.

    ``same`` is whether the tokens are the same: bytes that are no text look alike when printed.
    ``least_margin`` is the smallest lead of the best logit over the second, with float64: where it
    is small, little is needed to change the text.
    """

    question: str
    given: str
    expected: str
    same: bool
    least_margin: float

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "question": self.question,
            "text": self.given,
            "text_with_float64": self.expected,
            "same": self.same,
            "least_margin": round(self.least_margin, 4),
        }


@dataclass(frozen=True)
class ModelResult:
    """One model's part of the gate.

    Attributes
    ----------
    model : its name.
    sizes : what was run: tokens, sentences, ...
    checks, answers : what came out.
    seconds : wall time by part, of both attentions together.
    """

    model: str
    sizes: Mapping[str, float]
    checks: Sequence[Check]
    answers: Sequence[Answer] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every check passes, and at least one was made."""
        made = any(check.figure is not None for check in self.checks)
        return made and all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "model": self.model,
            "ok": self.ok,
            "sizes": dict(self.sizes),
            "checks": [check.as_json() for check in self.checks],
            "answers": [answer.as_json() for answer in self.answers],
            "seconds": {part: round(value, 2) for part, value in self.seconds.items()},
        }


@dataclass(frozen=True)
class GateReport:
    """All that the gate found.

    Attributes
    ----------
    target : whose attention was judged.
    environment : device, versions, command, date.
    results : one per model.
    """

    target: str
    environment: Mapping[str, str]
    results: Sequence[ModelResult]

    @property
    def ok(self) -> bool:
        """Whether every model passes."""
        return all(result.ok for result in self.results)

    def as_json(self) -> dict[str, Any]:
        """Return one object with the schema, the environment and all figures."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "target": self.target,
            "environment": dict(self.environment),
            "models": [result.as_json() for result in self.results],
        }
