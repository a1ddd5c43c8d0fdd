"""What a model asks of its attention, and how one dense callable answers all of it.

A model hands over Q, K, V as float32 NumPy arrays and takes O back as one. What lies between is the
attention's own affair: another dtype, a GPU, pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from attnprobe.models.rotary import Rotary
from attnprobe.numerics import reference
from attnprobe.numerics.reference import Features

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# (q, k, v, features) -> O, all (batch, seqlen, heads, head_dim): ``causal`` and ``mask`` are used.
Dense = Callable[[Array, Array, Array, Features], Array]

CAUSAL = Features(causal=True)


@dataclass(frozen=True)
class CacheSpec:
    """What a cache has to hold.

    Attributes
    ----------
    layers, batch, num_kv_heads, head_dim : sizes; every layer and every sequence has its own part.
    capacity : tokens of each sequence.
    rotary : what turns Q and K by their positions.
    """

    layers: int
    batch: int
    capacity: int
    num_kv_heads: int
    head_dim: int
    rotary: Rotary


class Cache(Protocol):
    """K and V of the tokens so far, by layer and sequence."""

    def attend(self, layer: int, rows: Sequence[int], q: Floats, k: Floats, v: Floats) -> Floats:
        """Append k and v behind what sequences ``rows`` hold, and return the attention of q.

        q is (len(rows), count, num_heads, head_dim), not turned yet; k and v likewise with
        num_kv_heads. Query i sees what was there and the new tokens up to its own.
        """
        ...

    def grow(self, rows: Sequence[int], count: int) -> None:
        """Count the ``count`` tokens in that every layer has appended to ``rows``."""
        ...


class Attend(Protocol):
    """An attention that a model can run with. Scale 1 / sqrt(head_dim) throughout."""

    def causal(self, q: Floats, k: Floats, v: Floats) -> Floats:
        """Return causal O of (batch, seqlen, heads, head_dim) arrays."""
        ...

    def padded(self, q: Floats, k: Floats, v: Floats, kept: Array) -> Floats:
        """Return O over the keys that ``kept``, bool (batch, seqlen), marks in each sequence."""
        ...

    def packed(self, q: Floats, k: Floats, v: Floats, cu_seqlens: Array) -> Floats:
        """Return O of (total, heads, head_dim) arrays of sequences one behind the other.

        ``cu_seqlens`` is int32 (sequences + 1,): where each begins, and the total.
        """
        ...

    def cache(self, spec: CacheSpec) -> Cache:
        """Return an empty cache."""
        ...


class OneCall:
    """All that a model asks, as calls of one dense attention.

    Packed sequences are called one by one, and the cache is an array that is cut to the length of
    each sequence.

    Parameters
    ----------
    call : the attention, on NumPy arrays of ``dtype``.
    dtype : what Q, K, V are rounded to on their way, and the cache is kept in.
    """

    def __init__(self, call: Dense, dtype: Any = np.float16) -> None:
        self._call, self._dtype = call, np.dtype(dtype)

    def causal(self, q: Floats, k: Floats, v: Floats) -> Floats:
        return self._run(q, k, v, CAUSAL)

    def padded(self, q: Floats, k: Floats, v: Floats, kept: Array) -> Floats:
        return self._run(q, k, v, Features(mask=kept[:, None, None, :]))

    def packed(self, q: Floats, k: Floats, v: Floats, cu_seqlens: Array) -> Floats:
        parts = [
            self._run(q[None, begin:end], k[None, begin:end], v[None, begin:end], reference.PLAIN)[
                0
            ]
            for begin, end in pairwise(cu_seqlens.tolist())
        ]
        return np.concatenate(parts)

    def cache(self, spec: CacheSpec) -> Cache:
        return DenseCache(spec, self._call, self._dtype)

    def _run(self, q: Array, k: Array, v: Array, features: Features) -> Floats:
        q, k, v = (array.astype(self._dtype) for array in (q, k, v))
        return np.asarray(self._call(q, k, v, features), np.float32)


class DenseCache:
    """A cache as one array of K and one of V: (layers, batch, capacity, num_kv_heads, head_dim)."""

    def __init__(self, spec: CacheSpec, call: Dense, dtype: Any) -> None:
        self._call, self._rotary = call, spec.rotary
        shape = (spec.layers, spec.batch, spec.capacity, spec.num_kv_heads, spec.head_dim)
        # NaN: what was never appended must never matter.
        self._k, self._v = (np.full(shape, np.nan, dtype) for _ in "kv")
        self._lengths = np.zeros(spec.batch, np.int64)

    def attend(self, layer: int, rows: Sequence[int], q: Floats, k: Floats, v: Floats) -> Floats:
        first = self._lengths[list(rows)]
        q, k = self._rotary.turned(q, first), self._rotary.turned(k, first)
        # A single query sees all keys: causal would ask no more, and not all agree where its
        # diagonal lies when there are fewer queries than keys.
        features = CAUSAL if q.shape[1] > 1 else reference.PLAIN
        out = np.empty_like(q)
        for place, (row, begin) in enumerate(zip(rows, first.tolist(), strict=True)):
            end = begin + q.shape[1]
            self._k[layer, row, begin:end], self._v[layer, row, begin:end] = k[place], v[place]
            keys, values = (array[layer, row : row + 1, :end] for array in (self._k, self._v))
            out[place] = self._call(q[place : place + 1].astype(keys.dtype), keys, values, features)
        return out

    def grow(self, rows: Sequence[int], count: int) -> None:
        self._lengths[list(rows)] += count


def exact() -> Attend:
    """Return the attention that all others are measured against: float64, nothing rounded."""

    def call(q: Array, k: Array, v: Array, features: Features) -> Array:
        return reference.attention(q, k, v, features).o

    return OneCall(call, np.float32)
