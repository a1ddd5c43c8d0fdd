"""Our own engine under a model: dense, masked, packed and paged calls, each by its own name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.engine import attention, attention_paged, attention_varlen
from attnprobe.errors import UsageError
from attnprobe.models.attend import Cache, CacheSpec, OneCall
from attnprobe.numerics.reference import Features

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

PAGE_SIZE = 16
_NO_PAGE = np.iinfo(np.int32).max  # an entry of the block table that must never be followed


class Place(NamedTuple):
    """Where the engine's arrays are: how a NumPy array gets there, and back."""

    put: Callable[[Array], Any]
    get: Callable[[Any], Array]


def place(backend: str) -> Place:
    """Return the place of backend "gpu" (CuPy arrays) or "emulator" (NumPy arrays)."""
    if backend == "emulator":
        return Place(np.asarray, np.asarray)
    if backend != "gpu":
        raise UsageError(f"no backend {backend!r} for a model; there are gpu and emulator")
    import cupy

    return Place(cupy.asarray, cupy.asnumpy)


class EngineAttend(OneCall):
    """The engine's public calls on fp16 arrays of ``backend``, with pages for the cache."""

    def __init__(self, backend: str) -> None:
        self._place = place(backend)
        super().__init__(self._dense)

    def packed(self, q: Floats, k: Floats, v: Floats, cu_seqlens: Array) -> Floats:
        bounds = self._place.put(cu_seqlens)
        Q, K, V = (self._place.put(array.astype(np.float16)) for array in (q, k, v))
        O = attention_varlen(Q, K, V, bounds, bounds)
        return np.asarray(self._place.get(O), np.float32)

    def cache(self, spec: CacheSpec) -> Cache:
        return PagedCache(spec, self._place)

    def _dense(self, q: Array, k: Array, v: Array, features: Features) -> Array:
        put = self._place.put
        words = {
            name: put(value) if isinstance(value, np.ndarray) else value
            for name, value in features.arguments().items()
        }
        return self._place.get(attention(put(q), put(k), put(v), **words))


class PagedCache:
    """A cache of pages in no order, which ``attention_paged`` writes and reads.

    A sequence is given pages as it grows. What lies in the rest of its last page, and in pages that
    are nobody's, is NaN; entries of the block table past its pages name no page that there is.
    Rotary embedding is left to the engine, too.
    """

    def __init__(self, spec: CacheSpec, place: Place) -> None:
        self._place = place
        pages_each = -(-spec.capacity // PAGE_SIZE)
        pages = 1 + spec.batch * pages_each
        shape = (pages, PAGE_SIZE, spec.num_kv_heads, spec.head_dim)
        empty = np.full(shape, np.nan, np.float16)
        self._k, self._v = ([place.put(empty.copy()) for _ in range(spec.layers)] for _ in "kv")
        self._cos, self._sin = place.put(spec.rotary.cos), place.put(spec.rotary.sin)
        self._table = np.full((spec.batch, pages_each), _NO_PAGE, np.int32)
        self._free = np.random.default_rng(0).permutation(pages).tolist()
        self._lengths = np.zeros(spec.batch, np.int32)

    def attend(self, layer: int, rows: Sequence[int], q: Floats, k: Floats, v: Floats) -> Floats:
        chosen = list(rows)
        self._take_pages(chosen, q.shape[1])
        put = self._place.put
        Q, K, V = (put(array.astype(np.float16)) for array in (q, k, v))
        O = attention_paged(
            Q,
            self._k[layer],
            self._v[layer],
            put(self._table[chosen]),
            put(self._lengths[chosen]),
            k=K,
            v=V,
            rotary_cos=self._cos,
            rotary_sin=self._sin,
            rotary_interleaved=True,
            causal=True,
        )
        return np.asarray(self._place.get(O), np.float32)

    def grow(self, rows: Sequence[int], count: int) -> None:
        self._lengths[list(rows)] += count

    def _take_pages(self, rows: list[int], count: int) -> None:
        for row in rows:
            for number in range(-(-(int(self._lengths[row]) + count) // PAGE_SIZE)):
                if self._table[row, number] == _NO_PAGE:
                    self._table[row, number] = self._free.pop()
