"""What a decoder says: likelihood of a given text, and the most likely continuation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attnprobe.models.attend import Attend
from attnprobe.models.smollm2 import Llama

Floats = npt.NDArray[np.float32]


def mean_nll(logits: Floats, tokens: Sequence[int]) -> float:
    """Return the mean negative log-likelihood, in nats, of ``tokens``.

    ``logits[i]``, (vocabulary,), are those that token i was to be guessed from.
    """
    shown = logits.astype(np.float64)
    top = shown.max(axis=-1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(shown - top).sum(axis=-1))
    return float(np.mean(log_sum - shown[np.arange(len(shown)), list(tokens)]))


def decoded(model: Llama, tokens: Sequence[int], chunks: Sequence[int], attend: Attend) -> Floats:
    """Return the logits after each token, fed through a cache: ``chunks`` first, then one by one.

    Parameters
    ----------
    chunks : how many tokens each of the first steps takes.

    Returns
    -------
    (len(tokens), vocabulary) logits.
    """
    cache = attend.cache(model.cache_spec(1, len(tokens)))
    sizes = [*chunks, *[1] * (len(tokens) - sum(chunks))]
    ends = np.cumsum(sizes).tolist()
    steps = [
        model.step([tokens[end - size : end]], cache, [0])[0]
        for size, end in zip(sizes, ends, strict=True)
    ]
    return np.concatenate(steps)


@dataclass(frozen=True)
class Continuation:
    """The most likely tokens after a prompt, without the one that ended them.

    ``least_margin`` is the smallest difference of the best and the second best logit on the way.
    """

    tokens: tuple[int, ...]
    least_margin: float


def continuations(
    model: Llama, prompts: Sequence[Sequence[int]], attend: Attend, count: int, end: int
) -> list[Continuation]:
    """Return up to ``count`` tokens after each prompt; all prompts are decoded as one batch.

    A prompt leaves the batch with its ``end`` token, so the batch is ragged and shrinks.
    """
    capacity = max(map(len, prompts)) + count
    cache = attend.cache(model.cache_spec(len(prompts), capacity))
    logits = {row: model.step([prompt], cache, [row])[0, -1] for row, prompt in enumerate(prompts)}
    said: list[list[int]] = [[] for _ in prompts]
    margins = [np.inf] * len(prompts)
    while logits:
        for row, values in logits.items():
            second, first = np.partition(values, -2)[-2:]
            margins[row] = min(margins[row], float(first - second))
            said[row].append(int(values.argmax()))
        rows = [row for row in logits if said[row][-1] != end and len(said[row]) < count]
        if not rows:
            break
        stepped = model.step([[said[row][-1]] for row in rows], cache, rows)
        logits = dict(zip(rows, stepped[:, -1], strict=True))
    return [
        Continuation(tuple(token for token in tokens if token != end), margin)
        for tokens, margin in zip(said, margins, strict=True)
    ]
