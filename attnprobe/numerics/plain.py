"""The public calls in NumPy, with a kernel's rounding points: a sound target without a kernel.

Slow and plain. What judges kernels can be tried on it, and a fault can be put into it by handing
over another ``dense``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from attnprobe.numerics.reference import Array, Attention, Features, yardstick

# (q, k, v, features) -> O, LSE of (batch, seqlen, heads, head_dim) arrays.
Dense = Callable[[Array, Array, Array, Features], Attention]

BLOCK = 64  # keys to a step of the online softmax


def sound(q: Array, k: Array, v: Array, features: Features) -> Attention:
    """Return the yardstick's O and LSE."""
    return yardstick(q, k, v, features, BLOCK)


class Plain:
    """``attention``, ``attention_varlen`` and ``attention_paged`` around one dense attention."""

    def __init__(self, dense: Dense = sound) -> None:
        self._dense = dense

    def run(self, entry: str, arguments: dict[str, Any]) -> tuple[Array, Array]:
        """Return O and LSE of the call ``entry`` with its keyword arguments."""
        call: Callable[..., tuple[Array, Array]] = getattr(self, entry)
        return call(**arguments)

    def attention(self, q: Array, k: Array, v: Array, **features: Any) -> tuple[Array, Array]:
        """Return O (batch, seqlen_q, num_heads, head_dim) and LSE (batch, num_heads, seqlen_q)."""
        return self._dense(q, k, v, Features(**features))

    def attention_varlen(
        self,
        q: Array,
        k: Array,
        v: Array,
        cu_seqlens_q: Array,
        cu_seqlens_k: Array,
        *,
        seqused_k: Array | None = None,
        **features: Any,
    ) -> tuple[Array, Array]:
        """Return O (total_q, num_heads, head_dim) and LSE (num_heads, total_q)."""
        used = np.diff(cu_seqlens_k) if seqused_k is None else seqused_k
        firsts = zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], used, strict=True)
        parts = [
            self._dense(
                q[None, first:stop],
                k[None, begin : begin + count],
                v[None, begin : begin + count],
                Features(**features),
            )
            for first, stop, begin, count in firsts
        ]
        o = np.concatenate([part.o[0] for part in parts])
        return o, np.concatenate([part.lse[0] for part in parts], axis=-1)

    def attention_paged(
        self,
        q: Array,
        k_cache: Array,
        v_cache: Array,
        block_table: Array | None,
        cache_seqlens: Array,
        *,
        cu_seqlens_q: Array | None = None,
        **features: Any,
    ) -> tuple[Array, Array]:
        """Return O and LSE, batched, or packed where there is ``cu_seqlens_q``."""
        batch = len(cache_seqlens)
        if cu_seqlens_q is None:
            queries = [q[b : b + 1] for b in range(batch)]
        else:
            queries = [q[None, first:stop] for first, stop in pairwise(cu_seqlens_q)]
        parts = []
        for b, length in enumerate(cache_seqlens):
            used = slice(0, -(-int(length) // k_cache.shape[1]))
            pages = [b] if block_table is None else block_table[b, used]
            k, v = (
                cache[pages].reshape(1, -1, *cache.shape[2:])[:, :length]
                for cache in (k_cache, v_cache)
            )
            parts.append(self._dense(queries[b], k, v, Features(**features)))
        if cu_seqlens_q is None:
            batched = [part.o for part in parts], [part.lse for part in parts]
            return np.concatenate(batched[0]), np.concatenate(batched[1])
        o = np.concatenate([part.o[0] for part in parts])
        return o, np.concatenate([part.lse[0] for part in parts], axis=-1)
