"""How far from the float64 reference a sound kernel may be, row by row, and the check of it.

A sound kernel computes scores and softmax in float32, rounds P to 16 bits before it meets V, sums
in float32 and rounds O to 16 bits. The bound on each element of O has a term for each of these,
worked out from the row's own P and V (docs/numerics.md derives them):

    |O - O_ref|  <=  2 rho_i noise_id  +  fp32_id  +  ulp(O_ref)_id

    noise_id = sqrt(sum_j (delta_ij v_jd)^2)    delta_ij: the most that rounding moves P_ij, u P_ij
    rho_i    = max(2, the worst element of row i of the yardstick, in units of noise)
    fp32_id    float32 scores, exponentials and sums, tensor-core truncation included

The yardstick's own error in one element may be zero by luck, in the worst element of a row it
hardly can, and in a row with few keys the floor of 2 is what counts. Where the roundings of a row
are not independent (many equal scores), the yardstick shows it and rho grows.

    |LSE - LSE_ref|  <=  1e-5 |LSE_ref|  +  error of the scores  +  error of the sum

NaN, infinities and rows with no key are exact: same places, same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.errors import ToleranceError
from attnprobe.numerics.reference import (
    PLAIN,
    Array,
    Attention,
    Features,
    Head,
    Mask,
    Softmax,
    heads,
    softmax,
    weighted_sum,
    yardstick,
)

F64 = npt.NDArray[np.float64]

EPS32 = 2.0**-23  # tensor cores truncate to float32, so a whole ulp and not half of one
LSE_RELATIVE = 1e-5
LEAST_RHO = 2.0
# The yardstick with all keys at once, and with a running maximum as kernels have it.
YARDSTICK_BLOCKS = (None, 64)


@dataclass(frozen=True)
class Expected:
    """What attention must give for one input, and how near.

    Attributes
    ----------
    exact : O (batch, seqlen_q, num_heads, head_dim) and LSE (batch, num_heads, seqlen_q), float64.
    o_bound, lse_bound : the greatest sound |error| of each element, float64, same shapes.
    nan_allowed : bool, shape of O: an infinity times a P that underflows, where NaN is sound too.
    yardstick_error : greatest |error| of the yardstick's O.
    dtype : of O.
    features : what was asked for.
    """

    exact: Attention
    o_bound: F64
    lse_bound: F64
    nan_allowed: Mask
    yardstick_error: float
    dtype: np.dtype[Any]
    features: Features


@dataclass(frozen=True)
class Comparison:
    """One array against its reference.

    Attributes
    ----------
    name : "O" or "LSE".
    worst : index of the element with the greatest error / bound.
    actual, expected, bound : what stands there, what should, and how near.
    max_abs : greatest |error| over the finite elements, wherever it is.
    share : the worst element's error / bound; above 1 is refused.
    refused, total : elements over their bound, and all.
    signal_to_error : rms of the reference over rms of the error; inf when there is no error.
    """

    name: str
    worst: tuple[int, ...]
    actual: float
    expected: float
    bound: float
    max_abs: float
    share: float
    refused: int
    total: int
    signal_to_error: float

    def __str__(self) -> str:
        axes = "batch, head, query" if self.name == "LSE" else "batch, query, head, d"
        return (
            f"{self.name}: {self.refused} of {self.total} elements over the bound; worst at "
            f"({axes}) = {self.worst}: got {self.actual:.9g}, expected {self.expected:.9g}, "
            f"bound {self.bound:.3g} ({self.share:.3g} of it used); "
            f"max |error| {self.max_abs:.3g}, signal to error {self.signal_to_error:.3g}"
        )


@dataclass(frozen=True)
class Report:
    """The comparison of O and, where it was given, LSE. ``ok`` when nothing is over its bound."""

    o: Comparison
    lse: Comparison | None
    yardstick_error: float
    features: Features

    @property
    def ok(self) -> bool:
        """Whether every element is within its bound."""
        return self.o.refused == 0 and (self.lse is None or self.lse.refused == 0)

    def __str__(self) -> str:
        parts = [str(self.o), *([] if self.lse is None else [str(self.lse)])]
        asked = ", ".join(
            f"{key}={value}" if np.ndim(value) == 0 else f"{key} {np.shape(value)}"
            for key, value in self.features.arguments().items()
        )
        asked = asked or "no features"
        return "\n".join([*parts, f"yardstick max |error| {self.yardstick_error:.3g}; {asked}"])


def check_attention(
    actual_o: Array, actual_lse: Array | None, q: Array, k: Array, v: Array, **features: Any
) -> Report:
    """Return the report of ``actual_o`` (and ``actual_lse``, unless None) if all is within bounds.

    Parameters
    ----------
    actual_o : (batch, seqlen_q, num_heads, head_dim), dtype of q.
    actual_lse : (batch, num_heads, seqlen_q) float32, natural logarithm.
    q, k, v : the inputs, NumPy arrays as ``attention`` takes them.
    features : fields of ``reference.Features``.

    Raises
    ------
    ToleranceError
        An AssertionError: with the worst index, both values and the bound.
    """
    report = compare(expect(q, k, v, Features(**features)), actual_o, actual_lse)
    if not report.ok:
        raise ToleranceError(str(report))
    return report


def expect(q: Array, k: Array, v: Array, features: Features = PLAIN) -> Expected:
    """Return the exact result for one input with the bound of every element."""
    O = np.zeros((*q.shape[:3], v.shape[3]), np.float64)
    LSE = np.zeros((q.shape[0], q.shape[2], q.shape[1]), np.float64)
    o_bound, lse_bound = np.zeros_like(O), np.zeros_like(LSE)
    nan_allowed = np.zeros(O.shape, bool)
    measured = [yardstick(q, k, v, features, block).o for block in YARDSTICK_BLOCKS]
    yardstick_error = 0.0
    for head in heads(q, k, v):
        b, h, v_head = head.batch, head.head, head.v
        seen = features.seen(head)
        rows = softmax(head, seen, features)
        O[b, :, h] = weighted_sum(rows.probabilities, seen, v_head)
        LSE[b, h] = rows.lse
        errors = _greatest_error([o[b, :, h] for o in measured], O[b, :, h])
        yardstick_error = max(yardstick_error, float(errors.max(initial=0.0)))
        of_scores = _score_error(head, seen, features)
        o_bound[b, :, h] = _o_bound(rows, O[b, :, h], v_head, seen, errors, of_scores, q.dtype)
        lse_bound[b, h] = _lse_bound(rows, seen, of_scores)
        underflows = _any_key(seen & (rows.weights <= _least(q.dtype) / 2))
        nan_allowed[b, :, h] = np.isinf(O[b, :, h]) & underflows[:, None]
    exact = Attention(O, LSE)
    return Expected(exact, o_bound, lse_bound, nan_allowed, yardstick_error, q.dtype, features)


def compare(expected: Expected, actual_o: Array, actual_lse: Array | None = None) -> Report:
    """Return how ``actual_o`` and ``actual_lse`` stand to ``expected``.

    Raises
    ------
    ToleranceError
        For another shape or dtype than attention must return.
    """
    exact = expected.exact
    _check_kind("O", actual_o, exact.o.shape, expected.dtype)
    o_error = _errors(actual_o, exact.o, expected.dtype)
    o_error[expected.nan_allowed & np.isnan(actual_o.astype(np.float64))] = 0.0
    o = _comparison("O", actual_o, exact.o, o_error, expected.o_bound)
    lse = None
    if actual_lse is not None:
        _check_kind("LSE", actual_lse, exact.lse.shape, np.dtype(np.float32))
        lse_error = _errors(actual_lse, exact.lse, np.dtype(np.float32))
        lse = _comparison("LSE", actual_lse, exact.lse, lse_error, expected.lse_bound)
    return Report(o, lse, expected.yardstick_error, expected.features)


def max_abs(actual: Array, exact: Array) -> float:
    """Return the greatest |actual - exact|, the only figure that a fixed tolerance looks at."""
    return float(np.abs(actual.astype(np.float64) - exact).max())


def _finfo(dtype: np.dtype[Any]) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Return the greatest relative error of rounding to ``dtype``: 2^-11 for f16, 2^-8 for bf16."""
    return float(_finfo(dtype).eps) / 2


def ulp(values: F64, dtype: np.dtype[Any]) -> F64:
    """Return the distance of neighbouring ``dtype`` numbers at ``values`` (0 where not finite)."""
    info = _finfo(dtype)
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    exponent = np.maximum(np.frexp(finite)[1] - 1, info.minexp)
    return np.where(np.isfinite(values), np.ldexp(1.0, exponent - info.nmant), 0.0)


def _least(dtype: np.dtype[Any]) -> float:
    return float(_finfo(dtype).smallest_subnormal)


def _greatest_error(measured: list[Array], exact: F64) -> F64:
    """|error| of the worst of several yardsticks, 0 where the exact value is not finite."""
    with np.errstate(invalid="ignore"):
        errors = np.stack([np.abs(o.astype(np.float64) - exact) for o in measured])
    finite: F64 = np.where(np.isfinite(exact) & np.isfinite(errors), errors, 0.0)
    return np.asarray(finite.max(axis=0))


def _score_error(head: Head, seen: Mask, features: Features) -> F64:
    """Greatest error of a visible score of each row, (seqlen_q,).

    A dot product is a chain of head_dim / 8 truncated additions (the shortest block of a tensor
    core) whose partial sums are about as large as the score and two steps of a random walk; scale,
    softcap, what is added and the subtraction of the maximum round a few times more.
    """
    q, k = head.q, head.k
    scale = abs(features.scale(q.shape[-1], head.head))
    with np.errstate(invalid="ignore", over="ignore"):
        walk = np.sqrt(np.square(q.astype(np.float64)) @ np.square(k.astype(np.float64)).T)
        uncapped = np.abs(q.astype(np.float64) @ k.astype(np.float64).T)
        added = np.abs(features.added(head))
        size = np.where(seen, scale * (uncapped + 2 * walk) + added, 0.0)
    greatest: F64 = np.where(np.isfinite(size), size, 0.0).max(axis=1, initial=0.0)
    roundings = -(-q.shape[-1] // 8) + 4
    return np.asarray(EPS32 * roundings * greatest)


def _any_key(seen: Mask) -> Mask:
    return np.asarray(seen.any(axis=1))


def _sum_error(seen: Mask) -> F64:
    """Relative error of a float32 sum over the visible keys, eight to a step, (seqlen_q,)."""
    keys: F64 = seen.sum(axis=1).astype(np.float64)
    return np.asarray(EPS32 * (keys / 8 + 8))


def _o_bound(
    rows: Softmax,
    exact: F64,
    v: Array,
    seen: Mask,
    yardstick_errors: F64,
    of_scores: F64,
    dtype: np.dtype[Any],
) -> F64:
    values = np.abs(v.astype(np.float64))
    values = np.where(np.isfinite(values), values, 0.0)
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    P = np.nan_to_num(rows.probabilities)
    weights = np.nan_to_num(rows.weights)
    total = np.maximum(np.nan_to_num(rows.row_sum), np.finfo(np.float64).tiny)[:, None]
    moved = np.maximum(unit_roundoff(dtype) * weights, _least(dtype) / 2)
    noise = np.sqrt(np.square(np.minimum(weights, moved) / total) @ np.square(values))
    of_sums = _sum_error(seen)[:, None] * (size + 2 * np.sqrt(np.square(P) @ np.square(values)))
    fp32 = 2 * of_scores[:, None] * (P @ values) + of_sums
    last = ulp(exact, dtype)
    excess = np.maximum(yardstick_errors - fp32 - last / 2, 0.0)
    in_noise = np.divide(excess, noise, out=np.zeros_like(noise), where=noise > 0)
    rho = np.maximum(LEAST_RHO, in_noise.max(axis=1, initial=0.0))[:, None]
    return np.where(_any_key(seen)[:, None], 2 * rho * noise + fp32 + last, 0.0)


def _lse_bound(rows: Softmax, seen: Mask, of_scores: F64) -> F64:
    exact = rows.lse
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    terms = np.where(np.isfinite(exact), np.abs(rows.row_max) + np.abs(exact - rows.row_max), 0.0)
    bound = LSE_RELATIVE * size + of_scores + _sum_error(seen) + 2 * EPS32 * terms
    return np.where(np.isfinite(exact), bound, 0.0)


def _check_kind(name: str, actual: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if actual.shape != shape or actual.dtype != dtype:
        raise ToleranceError(f"{name}: got {actual.dtype} {actual.shape}, expected {dtype} {shape}")


def _errors(actual: Array, exact: F64, dtype: np.dtype[Any]) -> F64:
    """|actual - exact|; where either is not finite, 0 if they are the same and inf if not.

    An infinity of the right sign stands for the least number that rounds to it: a finite O next to
    the greatest finite number may round up.
    """
    given = actual.astype(np.float64)
    greatest = float(_finfo(dtype).max)
    overflow = greatest + ulp(np.array(greatest), dtype) / 2
    with np.errstate(invalid="ignore"):
        rounded_up = np.isinf(given) & np.isfinite(exact)
        error = np.abs(np.where(rounded_up, np.copysign(overflow, given), given) - exact)
        same = (given == exact) | (np.isnan(given) & np.isnan(exact))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def _comparison(name: str, actual: Array, exact: F64, error: F64, bound: F64) -> Comparison:
    if error.size == 0:
        return Comparison(name, (), 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, np.inf)
    share = np.where(error > 0, np.inf, 0.0)
    np.divide(error, bound, out=share, where=bound > 0)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(share), share.shape))
    finite = np.isfinite(error) & np.isfinite(exact)
    noise, signal = (float(np.sqrt(np.square(a[finite]).sum())) for a in (error, exact))
    return Comparison(
        name=name,
        worst=worst,
        actual=float(actual[worst]),
        expected=float(exact[worst]),
        bound=float(bound[worst]),
        max_abs=float(error[finite].max(initial=0.0)),
        share=float(share[worst]),
        refused=int((share > 1).sum()),
        total=error.size,
        signal_to_error=signal / noise if noise else np.inf,
    )
