"""Models of faults in scores, softmax and LSE: scale, features, rescaling, sums, splits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from attnprobe.numerics.diagnosis.evidence import F64, Answer, Evidence, divided
from attnprobe.numerics.diagnosis.models import (
    Model,
    Models,
    Online,
    Walk,
    exchanged,
    online,
    walks,
    whole_blocks,
)

SPLITS = (2, 3, 4, 8)
LOG2E = 1 / math.log(2)


def scale_wrong(evidence: Evidence) -> Models:
    rows = evidence.rows
    scale = evidence.features.scale(evidence.q.shape[3], evidence.head)
    known = {
        "the scale is used twice": scale,
        "the scale is missing": 1 / scale if scale else 1.0,
        "a factor of log2(e) is missing in the scores": 1 / LOG2E,
        "a factor of log2(e) is twice in the scores": LOG2E,
        "the scale is of the V's width": math.sqrt(evidence.q.shape[3] / evidence.v.shape[3]),
        "the scale is 1 / head_dim": 1 / math.sqrt(evidence.q.shape[3]),
        "the scores have the other sign": -1.0,
    }
    for text, factor in known.items():
        if factor != 1.0:
            scores = evidence.scores_of(rows.q, rows.k, factor)
            yield Model(text, text, evidence.answer(scores))


def scale_off(evidence: Evidence) -> Models:
    """The factor that fits best, by golden section around the best of a coarse grid."""

    def misfit(change: float) -> float:
        scores = evidence.scores_of(evidence.rows.q, evidence.rows.k, 1 + change)
        return float(np.minimum(np.square(evidence.misfit(evidence.answer(scores))), 1e8).sum())

    grid = [sign * size for size in (0.002, 0.01, 0.03, 0.08, 0.2, 0.4) for sign in (1, -1)]
    best = min(grid, key=misfit)
    change = _golden(misfit, best - 0.75 * abs(best), best + 0.75 * abs(best))
    scores = evidence.scores_of(evidence.rows.q, evidence.rows.k, 1 + change)
    yield Model("", f"the scale is off by {100 * change:+.2g} %", evidence.answer(scores))


def _golden(misfit: Callable[[float], float], low: float, high: float) -> float:
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(24):
        third, fourth = high - ratio * (high - low), low + ratio * (high - low)
        if misfit(third) < misfit(fourth):
            high = fourth
        else:
            low = third
    return (low + high) / 2


def feature_ignored(evidence: Evidence) -> Models:
    features = evidence.features
    changes: dict[str, dict[str, Any]] = {}
    if features.softcap:
        changes["the softcap is missing"] = {"softcap": 0.0}
    if features.alibi_slopes is not None:
        changes["ALiBi is missing"] = {"alibi_slopes": None}
        slopes = -np.asarray(features.alibi_slopes)
        changes["ALiBi has the other sign"] = {"alibi_slopes": slopes}
    if features.bias is not None:
        changes["the bias is missing"] = {"bias": None}
        changes["the bias has the other sign"] = {"bias": -np.asarray(features.bias, np.float64)}
    if features.sinks is not None:
        changes["the sinks are missing"] = {"sinks": None}
    for text, change in changes.items():
        other = evidence.at(features=replace(features, **change))
        yield Model(text, text, other.exact)
    if features.softcap and not evidence.seen.all():
        capped = np.where(evidence.seen, evidence.scores, -features.softcap)
        text = "the softcap comes after the mask: hidden keys score minus the cap"
        yield Model(text, text, evidence.answer(capped, np.ones_like(evidence.seen)))


def rescale_missing(evidence: Evidence) -> Models:
    for walk in walks(evidence):
        yield from _rescale(evidence, walk)


def _rescale(evidence: Evidence, walk: Walk) -> Models:
    parts, v = online(evidence, walk), evidence.rows.v
    tiles, key = f"({walk})", repr(walk)
    text = f"O is not rescaled when the maximum rises {tiles}"
    o = divided(parts.weights @ v, parts.total)
    yield Model(f"O {key}", text, Answer(o, parts.lse))
    total = parts.weights.sum(axis=1)
    top = parts.lse - np.log(np.where(parts.total > 0, parts.total, 1.0))
    lse = top + np.log(total)
    text = f"neither O nor the sum is rescaled {tiles}"
    yield Model(f"both {key}", text, Answer(divided(parts.weights @ v, total), lse))
    o = divided((parts.weights * parts.later) @ v, total)
    yield Model(f"sum {key}", f"the sum is not rescaled {tiles}", Answer(o, lse))
    if whole_blocks(evidence):
        partner = exchanged(len(evidence.queries), 8)
        yield _by_other_factors(
            evidence,
            parts,
            parts.factors[partner],
            f"swapped {key}",
            f"O of row g is rescaled by the factor of row g + 8 {tiles}",
        )
        upper = (evidence.queries % 16 >= 8)[:, None]
        for name, kept in (("g + 8", upper), ("g", ~upper)):
            factors = np.where(kept, 1.0, parts.factors)
            text = f"O is not rescaled in rows {name} of every 16 {tiles}"
            yield _by_other_factors(evidence, parts, factors, f"{name} {key}", text)
    inverse = 1 / parts.factors
    text = f"O is rescaled by the inverse factor {tiles}"
    yield _by_other_factors(evidence, parts, inverse, f"inverse {key}", text)
    squared = np.square(parts.factors)
    text = f"O is rescaled twice {tiles}"
    yield _by_other_factors(evidence, parts, squared, f"twice {key}", text)


def _by_other_factors(
    evidence: Evidence, parts: Online, factors: F64, key: str, text: str
) -> Model:
    # What tile t's weights are multiplied with later: the factors of all later tiles of its stream,
    # and that of the stream.
    later = np.ones_like(factors)
    for column, number in enumerate(np.unique(parts.stream)):
        mine = np.flatnonzero(parts.stream == number)
        own = factors[:, mine]
        after = np.cumprod(own[:, :0:-1], axis=1)[:, ::-1]
        last = np.ones((len(own), 1))
        later[:, mine] = np.concatenate([after, last], axis=1) * parts.merge[:, [column]]
    o = divided((parts.weights * later[:, parts.tile]) @ evidence.rows.v, parts.total)
    return Model(key, text, Answer(o, parts.lse))


def normaliser(evidence: Evidence) -> Models:
    exact = evidence.exact
    parts = online(evidence, Walk(max(evidence.seqlen_k, 1)))
    total = np.where(parts.total > 0, parts.total, 1.0)[:, None]
    known = {
        "O is not divided by the sum": exact.o * total,
        "O is divided by the sum twice": exact.o / total,
        "O is divided by the number of keys": exact.o * total / max(evidence.seqlen_k, 1),
    }
    for text, o in known.items():
        yield Model(text, text, Answer(o, exact.lse))


def sum_of_some_lanes(evidence: Evidence) -> Models:
    """The sum of a row is reduced over two of the four lanes that share it.

    A lane holds columns 2 c and 2 c + 1 of every 8: it sums its own keys' weights and divides its
    own columns of O.
    """
    parts = online(evidence, Walk(max(evidence.seqlen_k, 1)))
    lane_of_key, lane_of_column = (
        np.arange(count) % 8 // 2 for count in (evidence.seqlen_k, evidence.v.shape[3])
    )
    numerator = parts.weights @ evidence.rows.v
    top = parts.lse - np.log(np.where(parts.total > 0, parts.total, 1.0))
    for step in (1, 2):
        sums = np.stack(
            [
                parts.weights[:, (lane_of_key == lane) | (lane_of_key == lane ^ step)].sum(axis=1)
                for lane in range(4)
            ],
            axis=1,
        )
        answer = Answer(numerator / sums[:, lane_of_column], top + np.log(sums[:, 0]))
        text = (
            f"the sum of a row lacks two of its four lanes: only lane and lane ^ {step} are added"
        )
        yield Model(f"{step}", text, answer)


def weights_of_splits(evidence: Evidence) -> Models:
    exact = evidence.exact
    for splits in SPLITS:
        bounds = np.linspace(0, evidence.seqlen_k, splits + 1).astype(int)
        parts = []
        for begin, end in pairwise(bounds.tolist()):
            seen = evidence.seen.copy()
            seen[:, :begin] = seen[:, end:] = False
            parts.append(evidence.answer(seen=seen))
        mean = np.mean([part.o for part in parts], axis=0)
        text = f"{splits} splits of the keys are averaged, not weighted by their LSE"
        yield Model(f"mean {splits}", text, Answer(mean, exact.lse))
        for name, part in (("first", parts[0]), ("last", parts[-1])):
            text = f"only the {name} of {splits} splits of the keys is there"
            yield Model(f"{name} {splits}", text, part)


def lse_wrong(evidence: Evidence) -> Models:
    exact = evidence.exact
    masked = np.where(evidence.seen, evidence.scores, -np.inf)
    top = masked.max(axis=1, initial=evidence.sink)
    shift = np.where(top == -np.inf, 0.0, top)
    without = exact.lse - shift
    with np.errstate(divide="ignore", invalid="ignore"):
        no_sink = evidence.answer(sink=-np.inf).lse
    changes: dict[str, F64] = {
        "LSE is in base 2": exact.lse * LOG2E,
        "LSE is a base-2 number that was converted twice": exact.lse / LOG2E,
        "LSE has base-2 maximum and natural sum": shift * LOG2E + without,
        "LSE lacks the maximum": without,
        "LSE is the maximum alone": shift,
        "LSE is the sum, not its logarithm": np.exp(np.minimum(without, 700.0)),
        "LSE is 0": np.zeros_like(shift),
        "LSE has the other sign": -exact.lse,
        "LSE lacks the sink": no_sink,
        "LSE is +inf in rows with no key": np.where(exact.lse == -np.inf, np.inf, exact.lse),
        "LSE is 0 in rows with no key": np.where(exact.lse == -np.inf, 0.0, exact.lse),
    }
    for text, lse in changes.items():
        yield Model(text, text, Answer(exact.o, lse))


def factor_of_all(evidence: Evidence) -> Models:
    """O times one number that fits."""
    exact = evidence.exact.o
    finite = np.isfinite(exact) & np.isfinite(evidence.given_o)
    wanted, given = exact[finite], evidence.given_o[finite]
    if wanted.size and (wanted**2).sum() > 0:
        factor = float((wanted * given).sum() / (wanted**2).sum())
        answer = Answer(exact * factor, evidence.exact.lse)
        yield Model("", f"O is {factor:.4g} times what it should be", answer)


def factor_of_rows(evidence: Evidence) -> Models:
    """O of each row times a number of its own; LSE as far off as that number says, or right."""
    exact = evidence.exact
    finite = np.isfinite(exact.o) & np.isfinite(evidence.given_o)
    wanted, given = (np.where(finite, a, 0.0) for a in (exact.o, evidence.given_o))
    size = np.square(wanted).sum(axis=1)
    factor = np.where(size > 0, (wanted * given).sum(axis=1) / np.where(size > 0, size, 1), 1.0)
    span = f"{factor.min():.4g} to {factor.max():.4g}"
    text = f"each row is off by a factor of its own ({span}): the sum that divides it is wrong"
    yield Model("O", text, Answer(exact.o * factor[:, None], exact.lse))
    with np.errstate(divide="ignore"):
        lse = exact.lse - np.log(np.abs(factor))
    text += ", and so is LSE"
    yield Model("both", text, Answer(exact.o * factor[:, None], lse))
