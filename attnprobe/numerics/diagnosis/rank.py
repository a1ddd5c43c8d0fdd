"""Ranks the faults by how much of the error each explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnprobe.numerics.diagnosis.evidence import F64, I64, Evidence, Where, gather
from attnprobe.numerics.diagnosis.faults import FAULTS
from attnprobe.numerics.diagnosis.models import Fault, Model
from attnprobe.numerics.reference import Array, Features
from attnprobe.numerics.verdict import Guess

BLOCK = 16
SCREENED = 3  # blocks of 16 rows that all faults are tried on
CANDIDATES = 20  # that are tried on more rows and heads
MOST_BLOCKS = 8  # of 16 rows, of one head
MOST_HEADS = 3
MOST_SCORES = 1 << 19  # of one head: fewer blocks where there are many keys
LEAST = 0.5  # of the error that a guess must explain
FITTED_LESS = 0.02  # by which a fitted guess must be better than one that is less so
KEPT = 3
SURE = 0.999  # what is explained so well is not looked for in packed rows
PACKED_QUERIES = 128  # decode kernels, which pack the heads of a group, serve few queries
PACKED = " (of the rows in which a group's heads are packed)"
FAR = 1e4  # bounds: an error beyond this counts as this, so that one element is not all


class _Scored(NamedTuple):
    fault: Fault
    model: Model
    explains: float
    rest: float


def guesses(
    inputs: tuple[Array, Array, Array],
    features: Features,
    result: tuple[Array, Array | None],
    share: F64,
) -> tuple[Guess, ...]:
    """Return what explains the error, the best first; () where nothing explains half of it.

    Parameters
    ----------
    inputs : q, k, v, (batch, seqlen, heads, head_dim).
    result : O and LSE as they were given.
    share : (batch, seqlen_q, num_heads), greatest error / bound of O and LSE in each row; 0 where
        a row was not judged.
    """
    if not all(array.size for array in inputs):
        return ()  # rows with no key are all that there is
    best = _ranked(inputs, features, result, share, packed=False)
    if not best or (best[0].explains < SURE and _packs(inputs, features)):
        packed = _ranked(inputs, features, result, share, packed=True)
        if packed and (not best or packed[0].explains > best[0].explains + FITTED_LESS):
            best = packed
    found: dict[str, Guess] = {}
    for each in best:
        if each.explains >= LEAST and each.fault.name not in found:
            guess = Guess(each.fault.name, each.model.text, each.explains, each.rest <= 1.0)
            found[each.fault.name] = guess
    return tuple(found.values())[:KEPT]


def _ranked(
    inputs: tuple[Array, Array, Array],
    features: Features,
    result: tuple[Array, Array | None],
    share: F64,
    *,
    packed: bool,
) -> list[_Scored]:
    """The faults that explain most, the best first."""
    seqlen_k, group = inputs[1].shape[1], inputs[0].shape[2] // inputs[1].shape[2]
    if packed:
        share = share.reshape(*share.shape[:2], -1, group).transpose(0, 1, 3, 2)
        share = share.reshape(len(share), -1, share.shape[3])
    places = _places(share, seqlen_k)
    if not places:
        return []
    step = group if packed else 1
    batch, head, _ = places[0]
    few = _rows(share[batch, :, head], SCREENED)
    with np.errstate(all="ignore"):
        screen = gather(inputs, features, result, Where(batch, head * step, few, packed))
        best = sorted(_all_scored(screen), key=_merit, reverse=True)[:CANDIDATES]
        for batch, head, rows in places:
            where = Where(batch, head * step, rows, packed)
            best = _in_both(best, gather(inputs, features, result, where))
    if packed:
        best = [
            each._replace(model=each.model._replace(text=each.model.text + PACKED)) for each in best
        ]
    return sorted(best, key=_merit, reverse=True)


def _packs(inputs: tuple[Array, Array, Array], features: Features) -> bool:
    """Whether a kernel may have packed the heads of a group, and one model holds for all."""
    q, k, _ = inputs
    of_heads = (
        np.ndim(features.softmax_scale),
        *(
            array is not None
            for array in (features.alibi_slopes, features.sinks, features.bias, features.mask)
        ),
    )
    return q.shape[2] > k.shape[2] and q.shape[1] <= PACKED_QUERIES and not any(of_heads)


def _merit(each: _Scored) -> tuple[float, bool, float]:
    """What explains more is better; of equals, what leaves no error."""
    explains = each.explains - FITTED_LESS * each.fault.fitted
    return round(explains, 3), each.rest <= 1.0, explains


def _all_scored(evidence: Evidence) -> list[_Scored]:
    whole = _size(evidence.misfit(evidence.exact))
    if not whole:
        return []
    return [
        _score(evidence, fault, model, whole)
        for fault in FAULTS
        for model in fault.models(evidence)
    ]


def _score(evidence: Evidence, fault: Fault, model: Model, whole: float) -> _Scored:
    misfit = evidence.misfit(model.answer)
    left = np.sort(misfit, axis=None)
    # All but one element in a thousand: P's rounding differs a little between a model and a kernel.
    rest = float(left[max(0, len(left) - 1 - len(left) // 1000)])
    return _Scored(fault, model, 1.0 - _size(misfit) / whole, rest)


def _size(misfit: F64) -> float:
    return float(np.square(np.minimum(misfit, FAR)).sum())


def _in_both(best: Sequence[_Scored], evidence: Evidence) -> list[_Scored]:
    """The same faults in another head: each as good as in the worse of both."""
    whole = _size(evidence.misfit(evidence.exact))
    found = []
    for fault in dict.fromkeys(each.fault for each in best):
        mine = {each.model.key: each for each in best if each.fault is fault}
        for model in fault.models(evidence):
            each = mine.pop(model.key, None)
            if each is not None:
                other = _score(evidence, fault, model, whole)
                explains, rest = min(each.explains, other.explains), max(each.rest, other.rest)
                found.append(each._replace(explains=explains, rest=rest))
            if not mine:
                break
        # Where the rule reads the right data in this head, the head would have no error.
        found += [each._replace(explains=0.0) for each in mine.values()]
    return found


def _places(share: F64, seqlen_k: int) -> Sequence[tuple[int, int, I64]]:
    """The worst heads, and in each the blocks of rows with the worst rows, and one that is best."""
    by_head = np.nan_to_num(share, posinf=FAR).max(axis=1, initial=0.0)
    order = np.argsort(-by_head, axis=None, kind="stable")
    most = max(2, min(MOST_BLOCKS, MOST_SCORES // (BLOCK * max(seqlen_k, 1))))
    places = []
    for number in order[:MOST_HEADS].tolist():
        batch, head = divmod(number, by_head.shape[1])
        if by_head[batch, head] > 1:
            places.append((batch, head, _rows(share[batch, :, head], most)))
    return places


def _rows(share: F64, most: int) -> I64:
    starts = np.arange(0, len(share), BLOCK)
    worst = np.maximum.reduceat(share, starts)
    order = np.argsort(-worst, kind="stable")
    chosen = np.concatenate([order[: most - 1], order[-1:]])
    rows = (np.unique(chosen)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    return rows[rows < len(share)]
