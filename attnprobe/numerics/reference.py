"""Attention in float64, straight from its definition: what every kernel is measured against.

    S = softmax_scale * Q K^T          softcap: S = cap * tanh(S / cap), before the mask
    P = softmax(S over visible keys)   O = P V        LSE = ln sum exp(S over visible keys)

Arrays are (batch, seqlen, heads, head_dim) in any dtype, V and O with a width of their own; LSE is
(batch, num_heads, seqlen_q).
A key that a query does not see is left out by selection, never by a product with zero, so
whatever stands there (NaN too) cannot matter. Masks are bottom-right aligned: the last query is
aligned with the last key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.numerics.precision import precision

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """The keyword arguments of ``attention`` that change what it computes.

    Attributes
    ----------
    softmax_scale : factor of Q K^T; None is 1 / sqrt(head_dim).
    causal : a query sees no key after the one that it is aligned with.
    window_size : keys before and after the aligned one that a query sees, inclusive; -1 is open.
    softcap : scores become softcap * tanh(score / softcap); 0 is off.
    causal_alignment, q_offset : which key query 0 is aligned with.
    alibi_slopes : (num_heads,) or (batch, num_heads); -slope * distance is added to scores.
    bias : added to scores, broadcastable to (batch, num_heads, seqlen_q, seqlen_k).
    mask : bool, likewise; False hides a key, as a bias of -inf does.
    sinks : (num_heads,) logits in the sum of the softmax, with no value.
    """

    softmax_scale: Any = None
    causal: bool = False
    window_size: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    causal_alignment: str = "bottom-right"
    q_offset: int | None = None
    alibi_slopes: Any = None
    bias: Any = None
    mask: Any = None
    sinks: Any = None

    def scale(self, head_dim: int, head: int = 0) -> float:
        """Return the factor of Q K^T for ``head_dim`` in head ``head``."""
        if self.softmax_scale is None:
            return float(head_dim**-0.5)
        if np.ndim(self.softmax_scale) == 0:
            return float(self.softmax_scale)
        return float(np.float32(self.softmax_scale[head]))

    def arguments(self) -> dict[str, Any]:
        """Return what is not the default as keyword arguments of ``attnprobe.attention``."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {item.name: item.default for item in fields(self)}
        return {name: value for name, value in values.items() if not _same(value, plain[name])}

    def diagonal(self, seqlen_q: int, seqlen_k: int) -> int:
        """Return the key that query 0 is aligned with."""
        if self.q_offset is not None:
            return self.q_offset
        return seqlen_k - seqlen_q if self.causal_alignment == "bottom-right" else 0

    def added(self, head: Head) -> Any:
        """Return what is added to the scores of one head: 0 or float64 (queries, seqlen_k)."""
        total: Any = 0.0
        seqlen_k = len(head.k)
        if self.alibi_slopes is not None:
            slopes = np.asarray(self.alibi_slopes, np.float32).astype(np.float64)
            slope = slopes[head.head] if slopes.ndim == 1 else slopes[head.batch, head.head]
            aligned = head.queries[:, None] + self.diagonal(head.seqlen_q, seqlen_k)
            total = total - slope * np.abs(aligned - np.arange(seqlen_k))
        if self.bias is not None:
            total = total + self._plane(self.bias, head).astype(np.float64)
        return total

    def seen(self, head: Head) -> Mask:
        """Return which keys each query of one head sees, bool (queries, seqlen_k)."""
        seqlen_k = len(head.k)
        result = visible_keys(
            head.seqlen_q,
            seqlen_k,
            causal=self.causal,
            window_size=self.window_size,
            diagonal=self.diagonal(head.seqlen_q, seqlen_k),
            queries=head.queries,
        )
        if self.mask is not None:
            result = result & self._plane(self.mask, head)
        if self.bias is not None:
            result = result & (self._plane(self.bias, head).astype(np.float64) != -np.inf)
        return result

    def sink(self, head: Head) -> float:
        """Return the sink's logit of one head, -inf where there is none."""
        return -np.inf if self.sinks is None else float(np.float32(self.sinks[head.head]))

    @staticmethod
    def _plane(array: Any, head: Head) -> Array:
        array = np.asarray(array)
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
        batch = head.batch if array.shape[0] > 1 else 0
        number = head.head if array.shape[1] > 1 else 0
        plane = np.broadcast_to(array[batch, number], (head.seqlen_q, len(head.k)))
        return np.asarray(plane[head.queries])


def _same(value: Any, default: Any) -> bool:
    """Whether a feature is at its default; an array never is."""
    return value is default or (not isinstance(value, np.ndarray) and bool(value == default))


PLAIN = Features()


class Attention(NamedTuple):
    """O (batch, seqlen_q, num_heads, head_dim) and LSE (batch, num_heads, seqlen_q)."""

    o: Array
    lse: Array


class Head(NamedTuple):
    """One query head of one batch and the key/value head that it reads, (seqlen, head_dim) each.

    ``q`` may hold some of the queries only: ``queries`` are their positions among ``seqlen_q``.
    """

    batch: int
    head: int
    q: Array
    k: Array
    v: Array
    queries: npt.NDArray[np.int64]
    seqlen_q: int


class Softmax(NamedTuple):
    """The softmax of one head, float64.

    Attributes
    ----------
    scores : (seqlen_q, seqlen_k), before the mask.
    weights : (seqlen_q, seqlen_k), exp(S - row_max) at visible keys and 0 elsewhere.
    row_max : (seqlen_q,), the greatest visible score or the sink; 0 in a row that has none above
        -inf.
    row_sum : (seqlen_q,), sum of the weights and the sink's.
    """

    scores: F64
    weights: F64
    row_max: F64
    row_sum: F64

    @property
    def lse(self) -> F64:
        """ln sum exp of the visible scores, -inf in a row without any."""
        with np.errstate(divide="ignore"):
            return self.row_max + np.log(self.row_sum)

    @property
    def probabilities(self) -> F64:
        """P, (seqlen_q, seqlen_k): 0 throughout a row with no key."""
        return self.weights / np.where(self.row_sum == 0, 1.0, self.row_sum)[:, None]


def visible_keys(
    seqlen_q: int,
    seqlen_k: int,
    *,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    diagonal: int | None = None,
    queries: Array | None = None,
) -> Mask:
    """Return which keys each query sees, bool (seqlen_q, seqlen_k); of ``queries`` where given.

    Query i is aligned with key i + diagonal, by default seqlen_k - seqlen_q. It sees ``left`` keys
    before that one and ``right`` keys after it, both inclusive; -1 is open. ``causal`` is
    right = 0.
    """
    left, right = window_size
    if diagonal is None:
        diagonal = seqlen_k - seqlen_q
    positions = np.arange(seqlen_q) if queries is None else queries
    distance = np.arange(seqlen_k)[None, :] - positions[:, None] - diagonal
    seen = np.ones(distance.shape, dtype=bool)
    if left >= 0:
        seen &= distance >= -left
    if right >= 0:
        seen &= distance <= right
    if causal:
        seen &= distance <= 0
    return seen


def heads(q: Array, k: Array, v: Array, queries: Array | None = None) -> Iterator[Head]:
    """Yield every query head with its key/value head: num_heads / num_kv_heads share one.

    ``queries`` are the positions of those that are wanted; None is all.

    Raises
    ------
    ValueError
        If the shapes do not belong together, with the shapes.
    """
    batch, seqlen_q, num_heads, head_dim = q.shape
    num_kv_heads = k.shape[2]
    matching = k.shape[:3] == v.shape[:3] and k.shape[::3] == (batch, head_dim)
    if not matching or num_kv_heads == 0 or num_heads % num_kv_heads:
        raise ValueError(f"q, k, v do not belong together: {q.shape}, {k.shape}, {v.shape}")
    chosen = np.arange(seqlen_q) if queries is None else np.asarray(queries)
    for b in range(batch):
        for h in range(num_heads):
            kv = h // (num_heads // num_kv_heads)
            rows = q[b, :, h] if queries is None else q[b, chosen, h]
            yield Head(b, h, rows, k[b, :, kv], v[b, :, kv], chosen, seqlen_q)


def softmax(head: Head, seen: Mask, features: Features) -> Softmax:
    """Return the softmax of one head over the keys that each query sees.

    A row with a NaN among its visible scores, or with +inf, has NaN weights, as the quotient has.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scale = features.scale(head.q.shape[-1], head.head)
        scores = head.q.astype(np.float64) @ head.k.astype(np.float64).T * scale
        if features.softcap:
            scores = features.softcap * np.tanh(scores / features.softcap)
        scores = scores + features.added(head)
        masked = np.where(seen, scores, -np.inf)
        row_max = masked.max(axis=1, initial=features.sink(head))
        row_max = np.where(row_max == -np.inf, 0.0, row_max)
        weights = np.where(seen, np.exp(masked - row_max[:, None]), 0.0)
        row_sum = weights.sum(axis=1) + np.exp(features.sink(head) - row_max)
        return Softmax(scores, weights, row_max, row_sum)


def weighted_sum(weights: Array, seen: Mask, v: Array) -> Array:
    """Return ``weights @ v`` over the visible keys, (seqlen_q, head_dim), dtype of ``weights``.

    NaN and infinity in V reach the rows that see their key, and no other row.
    """
    v = v.astype(weights.dtype)
    finite = np.isfinite(v)
    with np.errstate(invalid="ignore"):
        total: Array = weights @ np.where(finite, v, 0)
    if finite.all():
        return total
    reach = seen.astype(np.float64)
    plus, minus, nan = ((reach @ kind) > 0 for kind in (v == np.inf, v == -np.inf, np.isnan(v)))
    undefined = nan | (plus & minus) | np.isnan(total)
    return np.select([undefined, plus, minus], [np.nan, np.inf, -np.inf], total)


def attention(q: Array, k: Array, v: Array, features: Features = PLAIN) -> Attention:
    """Return O and LSE in float64.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), any dtype that converts to float64.
    k, v : (batch, seqlen_k, num_kv_heads, head_dim); num_kv_heads divides num_heads. V, and O with
        it, may have a width of its own.

    A row with no key has O = 0 and LSE = -inf. NaN stays NaN in the rows that see it.
    """
    O = np.zeros((*q.shape[:3], v.shape[3]), np.float64)
    LSE = np.zeros((q.shape[0], q.shape[2], q.shape[1]), np.float64)
    for head in heads(q, k, v):
        seen = features.seen(head)
        rows = softmax(head, seen, features)
        O[head.batch, :, head.head] = weighted_sum(rows.probabilities, seen, head.v)
        LSE[head.batch, head.head] = rows.lse
    return Attention(O, LSE)


def yardstick(
    q: Array,
    k: Array,
    v: Array,
    features: Features = PLAIN,
    block: int | None = None,
) -> Attention:
    """Return O and LSE computed with a kernel's own rounding points, in NumPy float32.

    Scores and softmax in float32; exp(S - running maximum) rounded to the dtype of q (of e4m3 times
    2^8) before it meets V; sums in float32; O divided by the sum of the unrounded exponentials,
    then rounded to the dtype of q, of e4m3 to bfloat16. It is a sound kernel with another order of
    summation.

    Parameters
    ----------
    block : keys per step of the online softmax; None takes all keys at once.
    """
    O = np.zeros((*q.shape[:3], v.shape[3]), precision(q.dtype).out)
    LSE = np.zeros((q.shape[0], q.shape[2], q.shape[1]), np.float32)
    for head in heads(q, k, v):
        o, lse = online(head, features, block)
        O[head.batch, :, head.head], LSE[head.batch, head.head] = o, lse
    return Attention(O, LSE)


def online(head: Head, features: Features, block: int | None) -> tuple[Array, Array]:
    """Return the yardstick's O and LSE of one head."""
    v, points, seqlen_q, seqlen_k = head.v, precision(head.q.dtype), len(head.q), len(head.k)
    seen = features.seen(head)
    row_max = np.full(seqlen_q, -np.inf, np.float32)
    row_sum = np.zeros(seqlen_q, np.float32)
    O = np.zeros((seqlen_q, v.shape[1]), np.float32)
    step = block or max(seqlen_k, 1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scores = _scores32(head, features)
        for first in range(0, seqlen_k, step):
            keys = slice(first, first + step)
            masked = np.where(seen[:, keys], scores[:, keys], np.float32(-np.inf))
            new_max = np.maximum(row_max, masked.max(axis=1))
            shift = np.where(new_max == -np.inf, np.float32(0), new_max)
            P = np.where(seen[:, keys], np.exp(masked - shift[:, None]), np.float32(0))
            rescale = np.exp(row_max - shift)
            rounded = points.rounded(P)
            row_sum = row_sum * rescale + P.sum(axis=1)
            O = O * rescale[:, None] + weighted_sum(rounded, seen[:, keys], v[keys])
            row_max = new_max
        sink = np.float32(features.sink(head))
        if sink != -np.inf:
            new_max = np.maximum(row_max, sink)
            rescale = np.exp(row_max - new_max)
            row_sum = row_sum * rescale + np.exp(sink - new_max)
            O, row_max = O * rescale[:, None], new_max
        empty = row_sum == 0
        O = np.where(empty[:, None], 0, O / np.where(empty, 1, row_sum)[:, None])
        lse = np.where(empty, -np.inf, row_max + np.log(row_sum))
        return O.astype(points.out), lse


def _scores32(head: Head, features: Features) -> Array:
    scale = np.float32(features.scale(head.q.shape[-1], head.head))
    scores: Array = head.q.astype(np.float32) @ head.k.astype(np.float32).T * scale
    if features.softcap:
        cap = np.float32(features.softcap)
        scores = cap * np.tanh(scores / cap)
    return np.asarray(scores + np.asarray(features.added(head), np.float32))
