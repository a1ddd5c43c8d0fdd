"""What a fill is: a named way to make Q, K and V, the sizes that it is asked for, its checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import FORMATS

Array = npt.NDArray[Any]
QKV = tuple[Array, Array, Array]

_E4M3 = FORMATS["e4m3"]
BOTH_FORMATS = ("f16", "bf16")
# What a fill lets the judge ask beyond the bound (oracle.py).
EXACT = "exact"  # where the exact answer is a number of O's format, O is that number
EQUAL_COLUMNS = "equal columns"  # all columns of V are alike: so are those of O, bit for bit


@dataclass(frozen=True)
class Sizes:
    """The sizes of one attention problem; a ``v_head_dim`` of 0 is that of q and k."""

    seqlen_q: int
    seqlen_k: int
    num_heads: int = 1
    num_kv_heads: int = 1
    head_dim: int = 64
    batch: int = 1
    v_head_dim: int = 0

    @property
    def q_shape(self) -> tuple[int, int, int, int]:
        """(batch, seqlen_q, num_heads, head_dim)."""
        return (self.batch, self.seqlen_q, self.num_heads, self.head_dim)

    @property
    def k_shape(self) -> tuple[int, int, int, int]:
        """(batch, seqlen_k, num_kv_heads, head_dim)."""
        return (self.batch, self.seqlen_k, self.num_kv_heads, self.head_dim)

    @property
    def v_shape(self) -> tuple[int, int, int, int]:
        """(batch, seqlen_k, num_kv_heads, v_head_dim)."""
        return (*self.k_shape[:3], self.v_head_dim or self.head_dim)

    @property
    def group(self) -> int:
        """Query heads to one K/V head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True)
class Fill:
    """One fill.

    Attributes
    ----------
    name : what tests and the command line call it.
    what : what the numbers are.
    why : the faults that it shows, or what it is blind to.
    values : (sizes, seed) -> q, k, v in any float dtype; the same numbers for the same seed.
    checks : what may be asked of O beyond the bound: EXACT, EQUAL_COLUMNS.
    garbage : what stands in memory that no query sees; None leaves the choice to the caller. O and
        LSE must have the same bits whatever it is.
    nonfinite : NaN or infinities are planted in the inputs.
    formats : names of the number formats that it is made for.
    """

    name: str
    what: str
    why: str
    values: Callable[[Sizes, int], QKV]
    checks: tuple[str, ...] = ()
    garbage: float | None = None
    nonfinite: bool = False
    formats: tuple[str, ...] = BOTH_FORMATS

    def __call__(self, sizes: Sizes, dtype: npt.DTypeLike, seed: int = 0) -> QKV:
        """Return q, k, v of ``sizes``, rounded to ``dtype``; what e4m3 cannot hold becomes 448."""
        m, n = sizes.seqlen_q, sizes.seqlen_k
        # Numbers are made for one row at least, so that no fill has to think of none.
        q, k, v = self.values(replace(sizes, seqlen_q=max(1, m), seqlen_k=max(1, n)), seed)
        if np.dtype(dtype) == _E4M3.dtype:
            limit = 448.0
            clipped = (np.clip(x.astype(np.float32), -limit, limit) for x in (q, k, v))
            q, k, v = (np.ascontiguousarray(x) for x in clipped)
        return q[:, :m].astype(dtype), k[:, :n].astype(dtype), v[:, :n].astype(dtype)


def elementwise(
    make: Callable[[np.random.Generator, tuple[int, ...]], Array],
) -> Callable[[Sizes, int], QKV]:
    """Return a ``values`` function that draws every element in the same way."""

    def values(sizes: Sizes, seed: int) -> QKV:
        rng = np.random.default_rng(seed)
        return make(rng, sizes.q_shape), make(rng, sizes.k_shape), make(rng, sizes.v_shape)

    return values


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0,1)."""
    return rng.standard_normal(shape)
