"""Some rows of one head in float64: what a fault's model starts from, and is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.numerics import bounds
from attnprobe.numerics.reference import Array, Features, Head, Mask

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Answer(NamedTuple):
    """O (rows, v_head_dim) and LSE (rows,), float64."""

    o: F64
    lse: F64


@dataclass(frozen=True, eq=False)
class Evidence:
    """Rows of one head of one result.

    Attributes
    ----------
    q, k, v : the whole inputs, (batch, seqlen, heads, head_dim).
    features : what was asked for.
    batch, head : which head; of packed rows the first of the group.
    queries : numbers of the rows: whole blocks of 16 where there are as many, rising.
    given_o : (rows, v_head_dim) float64, what the kernel gave.
    given_lse : (rows,) float64 or None.
    o_bound, lse_bound : greatest sound |error|, same shapes.
    packed : row r is query r // group of the group's head r % group, as decode kernels pack them.
    """

    q: Array
    k: Array
    v: Array
    features: Features
    batch: int
    head: int
    queries: I64
    given_o: F64
    given_lse: F64 | None
    o_bound: F64
    lse_bound: F64
    packed: bool = False

    @property
    def positions(self) -> I64:
        """The query of each row."""
        return self.queries // self.group if self.packed else self.queries

    @property
    def count(self) -> int:
        """Rows that there are in all."""
        return self.seqlen_q * self.group if self.packed else self.seqlen_q

    @property
    def all_q(self) -> F64:
        """Q of all rows, (count, head_dim)."""
        return self.q_of(np.arange(self.count))

    def q_of(self, rows: I64) -> F64:
        """Q of some rows, (rows, head_dim)."""
        return of_rows(self.q[self.batch], self.head, rows, self.group if self.packed else 1)

    @property
    def kv_head(self) -> int:
        """The K/V head that the head must read."""
        return self.head // self.group

    @property
    def group(self) -> int:
        """Query heads to a K/V head."""
        return int(self.q.shape[2] // self.k.shape[2])

    @property
    def seqlen_q(self) -> int:
        """Queries of the whole problem."""
        return int(self.q.shape[1])

    @property
    def seqlen_k(self) -> int:
        """Keys of the whole problem."""
        return int(self.k.shape[1])

    def at(
        self,
        queries: I64 | None = None,
        *,
        head: int | None = None,
        batch: int | None = None,
        features: Features | None = None,
    ) -> Evidence:
        """Return other rows, another head or other features; what was given stays."""
        return replace(
            self,
            queries=self.queries if queries is None else queries,
            head=self.head if head is None else head,
            batch=self.batch if batch is None else batch,
            features=features or self.features,
        )

    @cached_property
    def rows(self) -> Head:
        """The rows as the reference takes them, float64."""
        return Head(
            self.batch,
            self.head,
            self.q_of(self.queries),
            self.k[self.batch, :, self.kv_head].astype(np.float64),
            self.v[self.batch, :, self.kv_head].astype(np.float64),
            self.positions,
            self.seqlen_q,
        )

    @cached_property
    def seen(self) -> Mask:
        """Which keys each row sees, (rows, seqlen_k)."""
        return self.features.seen(self.rows)

    @cached_property
    def sink(self) -> float:
        """The sink's logit, -inf where there is none."""
        return self.features.sink(self.rows)

    def scores_of(self, q: F64, k: F64, factor: float = 1.0) -> F64:
        """Return the scores of other Q or K, (rows, keys), as the features make them."""
        scale = factor * self.features.scale(self.q.shape[3], self.head)
        scores = q @ k.T * scale
        if self.features.softcap:
            scores = self.features.softcap * np.tanh(scores / self.features.softcap)
        return np.asarray(scores + self.features.added(self.rows))

    @cached_property
    def scores(self) -> F64:
        """The scores before the mask, (rows, keys)."""
        return self.scores_of(self.rows.q, self.rows.k)

    @cached_property
    def exact(self) -> Answer:
        """The right answer."""
        return self.answer()

    def answer(
        self,
        scores: F64 | None = None,
        seen: Mask | None = None,
        v: F64 | None = None,
        sink: float | None = None,
    ) -> Answer:
        """Return the answer with some of its parts exchanged."""
        scores = self.scores if scores is None else scores
        seen = self.seen if seen is None else seen
        sink = self.sink if sink is None else sink
        masked = np.where(seen, scores, -np.inf)
        top = masked.max(axis=1, initial=sink)
        shift = np.where(top == -np.inf, 0.0, top)
        weights = np.where(seen, np.exp(masked - shift[:, None]), 0.0)
        total = weights.sum(axis=1) + np.exp(sink - shift)
        v = self.rows.v if v is None else v
        return Answer(divided(weights @ v, total), shift + np.log(total))

    def misfit(self, answer: Answer) -> F64:
        """Return how far what was given is from ``answer``, in bounds: (rows, v_head_dim + 1).

        The last column is LSE, 0 where none was given. NaN against NaN, and the same infinity, are
        no distance; NaN against a number is infinitely far.
        """
        parts = [_apart(self.given_o, answer.o, self.o_bound)]
        if self.given_lse is None:
            parts.append(np.zeros((len(self.queries), 1)))
        else:
            parts.append(_apart(self.given_lse, answer.lse, self.lse_bound)[:, None])
        return np.concatenate(parts, axis=1)


def divided(numerator: F64, total: F64) -> F64:
    """Return numerator / total, 0 in rows whose total is 0."""
    safe = np.where(total == 0, 1.0, total)[:, None]
    return np.asarray(np.where(total[:, None] == 0, 0.0, numerator / safe))


def _apart(given: F64, wanted: F64, bound: F64) -> F64:
    least = np.maximum(bound, np.finfo(np.float64).tiny)
    apart = np.abs(given - wanted) / least
    same = (given == wanted) | (np.isnan(given) & np.isnan(wanted))
    return np.asarray(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart)))


class Where(NamedTuple):
    """Rows of one result: batch, head (of packed rows the group's first), rows, packed or not."""

    batch: int
    head: int
    rows: I64
    packed: bool = False


def of_rows(array: Array, head: int, rows: I64, group: int) -> F64:
    """Return rows of (seqlen, heads, ...): of ``head``, or of its group's heads packed."""
    return np.asarray(array[rows // group, head + rows % group].astype(np.float64))


def gather(
    inputs: tuple[Array, Array, Array],
    features: Features,
    result: tuple[Array, Array | None],
    where: Where,
) -> Evidence:
    """Return the evidence of some rows of ``result`` = (O, LSE)."""
    q, k, v = inputs
    o, lse = result
    batch, head, rows, packed = where
    group = q.shape[2] // k.shape[2] if packed else 1
    given = of_rows(o[batch], head, rows, group)
    given_lse = None if lse is None else of_rows(lse[batch].T, head, rows, group)
    none: Any = np.zeros(0)
    plain = Evidence(q, k, v, features, batch, head, rows, given, given_lse, none, none, packed)
    # Wide enough for a sound kernel's rounding in any of the models, narrow beside any fault.
    exact = plain.exact
    size = np.where(np.isfinite(exact.o), np.abs(exact.o), 0.0)
    greatest = np.abs(np.where(np.isfinite(plain.rows.v), plain.rows.v, 0.0)).max(initial=0.0)
    roundoff = bounds.unit_roundoff(q.dtype)
    o_bound = 4 * roundoff * (size + 0.25 * greatest) + bounds.ulp(exact.o, o.dtype)
    of_lse = np.where(np.isfinite(exact.lse), np.abs(exact.lse), 0.0)
    top = np.where(plain.seen, np.abs(plain.scores), 0.0).max(axis=1, initial=0.0)
    return replace(plain, o_bound=o_bound, lse_bound=1e-5 * (1 + of_lse + np.nan_to_num(top)))
