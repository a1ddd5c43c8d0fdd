"""Fills at the edges of the formats, and values that must not spread: NaN, infinity, garbage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from attnprobe.numerics.fill_row import QKV, Fill, Sizes, elementwise, normal

GREATEST_F16 = 65504.0
LEAST_F16 = 2.0**-24
SUBNORMALS = 1023  # of each sign in f16
EXTREMES = np.array([GREATEST_F16, 2.0**-14, LEAST_F16, 1.0, 0.0])


def _subnormals(sizes: Sizes, seed: int) -> QKV:
    rng = np.random.default_rng(seed)
    q, k = normal(rng, sizes.q_shape), normal(rng, sizes.k_shape)
    for array in (q, k):
        tiny = rng.integers(-SUBNORMALS, SUBNORMALS + 1, array.shape) * LEAST_F16
        array[...] = np.where(rng.random(array.shape) < 0.25, tiny, array)
    v = rng.integers(-SUBNORMALS, SUBNORMALS + 1, sizes.v_shape) * LEAST_F16
    return q, k, v


def _extremes(sizes: Sizes, seed: int) -> QKV:
    """The greatest numbers of Q meet the least of K: scores of a few units."""
    rng = np.random.default_rng(seed)
    q = GREATEST_F16 * (1.0 - 2.0 * rng.integers(0, 2, sizes.q_shape))
    k = rng.integers(-SUBNORMALS, SUBNORMALS + 1, sizes.k_shape) * LEAST_F16
    signs = 1.0 - 2.0 * rng.integers(0, 2, sizes.v_shape)
    return q, k, signs * EXTREMES[rng.integers(0, len(EXTREMES), sizes.v_shape)]


def _planted(name: str, value: float) -> Callable[[Sizes, int], QKV]:
    """N(0,1) with ``value`` in one element: of a query in the middle, or of the last key.

    The last key is seen by the last query alone where the mask is causal.
    """

    def values(sizes: Sizes, seed: int) -> QKV:
        rng = np.random.default_rng(seed)
        shapes = (sizes.q_shape, sizes.k_shape, sizes.v_shape)
        made = dict(zip("qkv", (normal(rng, shape) for shape in shapes), strict=True))
        row = sizes.seqlen_q // 2 if name == "q" else sizes.seqlen_k - 1
        channel = int(rng.integers(0, made[name].shape[3]))
        made[name][:1, max(row, 0) : max(row, 0) + 1, :1, channel] = value
        return made["q"], made["k"], made["v"]

    return values


def _garbage(name: str, value: float, why: str) -> Fill:
    shown = {math.inf: "infinity", GREATEST_F16: "65504"}.get(value, "NaN")
    return Fill(
        name,
        f"N(0,1); {shown} in all memory that no query sees: slack of views, rows past the length, "
        "unused pages",
        why,
        elementwise(normal),
        garbage=value,
    )


ROWS: tuple[Fill, ...] = (
    Fill(
        "subnormals",
        "V subnormal in f16, and a quarter of Q and K; the others N(0,1)",
        "subnormals flushed to zero, products below the least number",
        _subnormals,
        formats=("f16",),
    ),
    Fill(
        "extremes",
        "Q +-65504, K subnormal, V of 65504, 2^-14, 2^-24, 1 and 0",
        "sums that overflow 16 bits, ranges of a narrower format, infinities out of finite numbers",
        _extremes,
        formats=("f16",),
    ),
    Fill(
        "nan_in_q",
        "N(0,1), NaN in one element of one query",
        "NaN swallowed (a sum that is not above 0 taken for an empty row), or spread to other rows",
        _planted("q", math.nan),
        nonfinite=True,
    ),
    Fill(
        "nan_in_k",
        "N(0,1), NaN in one element of the last key of one head",
        "NaN swallowed by a maximum; NaN in rows that do not see the key: masking by a product",
        _planted("k", math.nan),
        nonfinite=True,
    ),
    Fill(
        "nan_in_v",
        "N(0,1), NaN in one element of the last key's V",
        "0 x NaN: rows and columns that do not see it get it all the same",
        _planted("v", math.nan),
        nonfinite=True,
    ),
    Fill(
        "inf_in_q",
        "N(0,1), infinity in one element of one query",
        "inf - inf: NaN stays in its row",
        _planted("q", math.inf),
        nonfinite=True,
    ),
    Fill(
        "inf_in_v",
        "N(0,1), infinity in one element of the last key's V",
        "0 x infinity: rows that do not see it get NaN",
        _planted("v", math.inf),
        nonfinite=True,
    ),
    _garbage(
        "garbage_nan", math.nan, "reads past the end: 0 x NaN, masks by product, unused pages"
    ),
    _garbage("garbage_inf", math.inf, "reads past the end that a NaN test would miss"),
    _garbage(
        "garbage_huge",
        GREATEST_F16,
        "finite garbage that enters a maximum or a sum, where NaN would be dropped by a comparison",
    ),
)
