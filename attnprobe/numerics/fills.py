"""Named ways to fill Q, K and V: one row each, and the same numbers for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.numerics import real

Array = npt.NDArray[Any]
QKV = tuple[Array, Array, Array]


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


@dataclass(frozen=True)
class Fill:
    """One fill.

    Attributes
    ----------
    name : what tests and the command line call it.
    summary : what it is, and what it is good or bad at.
    values : (sizes, seed) -> q, k, v in any float dtype.
    """

    name: str
    summary: str
    values: Callable[[Sizes, int], QKV]

    def __call__(self, sizes: Sizes, dtype: npt.DTypeLike, seed: int = 0) -> QKV:
        """Return q, k, v of ``sizes``, rounded to ``dtype``."""
        q, k, v = self.values(sizes, seed)
        return q.astype(dtype), k.astype(dtype), v.astype(dtype)


def _elementwise(
    make: Callable[[np.random.Generator, tuple[int, ...]], Array],
) -> Callable[[Sizes, int], QKV]:
    """Return a ``values`` function that draws every element in the same way."""

    def values(sizes: Sizes, seed: int) -> QKV:
        rng = np.random.default_rng(seed)
        return make(rng, sizes.q_shape), make(rng, sizes.k_shape), make(rng, sizes.v_shape)

    return values


def _near_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.5 + 0.01 * rng.standard_normal(shape)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    rare = rng.random(shape) < 0.001
    return rng.standard_normal(shape) + 10.0 * rng.standard_normal(shape) * rare


def _real(sizes: Sizes, seed: int) -> QKV:
    """Layers of the model, one per batch; axes that are too short repeat, too long are cut.

    Beyond 64 channels a head goes on with those of the next head.
    """
    layers = real.layers()
    chosen = [layers[real.LAYERS[(seed + b) % len(real.LAYERS)]] for b in range(sizes.batch)]
    shapes = (sizes.q_shape, sizes.k_shape, sizes.v_shape)
    q, k, v = (
        np.stack([_fitted(layer[i][0], shape[1:]) for layer in chosen])
        for i, shape in enumerate(shapes)
    )
    return q, k, v


def _fitted(array: Array, shape: tuple[int, ...]) -> Array:
    """Return ``array`` (seqlen, heads, head_dim) repeated and cut to ``shape``."""
    seqlen, heads, head_dim = array.shape
    position, head, channel = np.ogrid[tuple(slice(extent) for extent in shape)]
    chosen = (position % seqlen, (head + channel // head_dim) % heads, channel % head_dim)
    return np.asarray(array[chosen])


FILLS: dict[str, Fill] = {
    row.name: row
    for row in (
        Fill(
            "near_uniform",
            "0.5 + 0.01 N(0,1): every row looks like every other, so exchanged rows and "
            "fragments do not show; kept as the bad example",
            _elementwise(_near_uniform),
        ),
        Fill("normal", "N(0,1): scores of a few units, every row different", _elementwise(_normal)),
        Fill(
            "outliers",
            "N(0,1) + N(0,100) Bernoulli(0.001): a few elements ten times the rest, as activations "
            "have; the row maximum jumps between key blocks",
            _elementwise(_outliers),
        ),
        Fill(
            "real",
            "layers of SmolLM2-135M-Instruct on real text: scores up to 28, most of a row's mass "
            "on few keys",
            _real,
        ),
    )
}


def fill(name: str) -> Fill:
    """Return the fill called ``name``.

    Raises
    ------
    UsageError
        If there is none; lists those that there are.
    """
    if name not in FILLS:
        raise UsageError(f"no fill is called {name!r}; there are: {', '.join(FILLS)}")
    return FILLS[name]
