"""The bound on each element of O and LSE, worked out from the row's own P and V.

docs/numerics.md derives every line.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.numerics.precision import EPS32, Precision, precision, short_product, short_sum
from attnprobe.numerics.reference import Array, Features, Head, Mask, Softmax

F64 = npt.NDArray[np.float64]

LSE_RELATIVE = 1e-5
FLUSHED = 2.0**-126  # kernels may take smaller float32 numbers for 0; bf16 has as small ones
LEAST_RHO = 2.0


def finfo(dtype: np.dtype[Any]) -> Any:
    """Return what NumPy's finfo tells, for the formats of ml_dtypes too."""
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Return the greatest relative error of rounding to ``dtype``: 2^-11 for f16, 2^-8 for bf16."""
    return float(finfo(dtype).eps) / 2


def ulp(values: Any, dtype: np.dtype[Any]) -> F64:
    """Return the distance of neighbouring ``dtype`` numbers at ``values`` (0 where not finite)."""
    info = finfo(dtype)
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    exponent = np.where(finite > 0, np.frexp(finite)[1] - 1, info.minexp)  # frexp(0) is 0 * 2^0
    exponent = np.maximum(exponent, info.minexp)
    return np.where(np.isfinite(values), np.ldexp(1.0, exponent - info.nmant), 0.0)


def least(dtype: np.dtype[Any]) -> float:
    """Return the least number above 0."""
    return float(finfo(dtype).smallest_subnormal)


def vanishing(points: Precision) -> float:
    """Return the weight of a key up to which a sound kernel may take it for 0."""
    return max(least(points.weights) / 2 / 2.0**points.offset, FLUSHED)


def greatest_error(measured: list[Array], exact: F64) -> F64:
    """|error| of the worst of several yardsticks, 0 where the exact value is not finite."""
    with np.errstate(invalid="ignore"):
        errors = np.stack([np.abs(o.astype(np.float64) - exact) for o in measured])
    finite: F64 = np.where(np.isfinite(exact) & np.isfinite(errors), errors, 0.0)
    return np.asarray(finite.max(axis=0))


def score_error(head: Head, seen: Mask, features: Features) -> F64:
    """Greatest error of a visible score of each row, (queries,).

    A dot product is a chain of head_dim / 8 truncated additions (the shortest block of a tensor
    core) whose partial sums are about as large as the score and two steps of a random walk; scale,
    softcap, what is added and the subtraction of the maximum round a few times more. Products of 8
    bits are summed with 14 (precision.py).
    """
    q, k, width = head.q, head.k, head.q.shape[-1]
    scale = abs(features.scale(width, head.head))
    with np.errstate(invalid="ignore", over="ignore"):
        walk = np.sqrt(np.square(q.astype(np.float64)) @ np.square(k.astype(np.float64)).T)
        uncapped = np.abs(q.astype(np.float64) @ k.astype(np.float64).T)
        added = np.abs(features.added(head))
        size = scale * (uncapped + 2 * walk) + added
        error = EPS32 * (-(-width // 8) + 4) * size
        if precision(q.dtype).short_sums:
            signs = [np.sign(x.astype(np.float64)) for x in (q, k)]
            imbalance = np.abs(signs[0] @ signs[1].T)
            error = error + scale * short_product(uncapped, walk, imbalance, width)
    error = np.where(seen & np.isfinite(error), error, 0.0)
    return np.asarray(error.max(axis=1, initial=0.0))


def any_key(seen: Mask) -> Mask:
    """Return which rows see a key, (queries,)."""
    return np.asarray(seen.any(axis=1))


def _sum_error(seen: Mask) -> F64:
    """Relative error of a float32 sum over the visible keys, eight to a step, (queries,)."""
    keys: F64 = seen.sum(axis=1).astype(np.float64)
    return np.asarray(EPS32 * (keys / 8 + 8))


def o_bound(
    rows: Softmax,
    exact: F64,
    v: Array,
    seen: Mask,
    yardstick_errors: F64,
    of_scores: F64,
    points: Precision,
    out_dtype: np.dtype[Any],
) -> tuple[F64, F64]:
    """Return the bound of O (queries, v_head_dim), and the part of it that scores and sums make.

    ``points`` says what P is rounded to.
    """
    values = np.abs(v.astype(np.float64))
    values = np.where(np.isfinite(values), values, 0.0)
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    P = np.nan_to_num(rows.probabilities)
    weights = np.nan_to_num(rows.weights)
    total = np.maximum(np.nan_to_num(rows.row_sum), np.finfo(np.float64).tiny)[:, None]
    moved = np.maximum(unit_roundoff(points.weights) * weights, vanishing(points))
    noise = np.sqrt(np.square(np.minimum(weights, moved) / total) @ np.square(values))
    walk = np.sqrt(np.square(P) @ np.square(values))
    of_sums = _sum_error(seen)[:, None] * (size + 2 * walk)
    if points.short_sums:
        of_sums = of_sums + short_sum(P, np.copysign(values, v.astype(np.float64)), walk)
    # A factor of O that is flushed takes all that it multiplies with it.
    flushed = FLUSHED * (1 + seen.sum(axis=1)[:, None] * values.max(axis=0, initial=0.0))
    fp32 = 2 * of_scores[:, None] * (P @ values) + of_sums + flushed
    last = ulp(exact, out_dtype)
    excess = np.maximum(yardstick_errors - fp32 - last / 2, 0.0)
    in_noise = np.divide(excess, noise, out=np.zeros_like(noise), where=noise > 0)
    rho = np.maximum(LEAST_RHO, in_noise.max(axis=1, initial=0.0))[:, None]
    return np.where(any_key(seen)[:, None], 2 * rho * noise + fp32 + last, 0.0), fp32


def lse_bound(rows: Softmax, seen: Mask, of_scores: F64) -> F64:
    """Return the bound of LSE, (queries,)."""
    exact = rows.lse
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    terms = np.where(np.isfinite(exact), np.abs(rows.row_max) + np.abs(exact - rows.row_max), 0.0)
    bound = LSE_RELATIVE * size + of_scores + _sum_error(seen) + 2 * EPS32 * terms
    return np.where(np.isfinite(exact), bound, 0.0)
