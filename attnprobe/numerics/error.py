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

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import ToleranceError
from attnprobe.numerics import bounds
from attnprobe.numerics.bounds import finfo, ulp, unit_roundoff
from attnprobe.numerics.reference import (
    PLAIN,
    Array,
    Attention,
    Features,
    Head,
    Mask,
    heads,
    online,
    softmax,
    weighted_sum,
)

__all__ = ["Comparison", "Expected", "Report", "check_attention", "compare", "expect", "max_abs"]
__all__ += ["error_of_lse", "error_of_o", "shares", "ulp", "unit_roundoff"]

F64 = npt.NDArray[np.float64]

PARALLEL = 1 << 22  # scores from which on the heads are worked on by several threads
# The yardstick with all keys at once, and with a running maximum as kernels have it.
YARDSTICK_BLOCKS = (None, 64)


@dataclass(frozen=True)
class Expected:
    """What attention must give for one input, and how near.

    Attributes
    ----------
    exact : O (batch, queries, num_heads, head_dim) and LSE (batch, num_heads, queries), float64.
    o_bound, lse_bound : the greatest sound |error| of each element, float64, same shapes.
    nan_allowed : bool, shape of O: an infinity times a P that underflows, where NaN is sound too.
    fp32 : the part of ``o_bound`` that float32 scores and sums make.
    yardstick : |error| of the worst yardstick's O, 0 where the exact value is not finite.
    top : (batch, queries, num_heads): the greatest score that each query sees, 0 if it sees none.
    dtype : of O.
    features : what was asked for.
    queries : the positions of the judged queries, the second axis of O; None is all ``seqlen_q``.
    """

    exact: Attention
    o_bound: F64
    lse_bound: F64
    nan_allowed: Mask
    fp32: F64
    yardstick: F64
    top: F64
    dtype: np.dtype[Any]
    features: Features
    queries: Array | None
    seqlen_q: int

    def of_queries(self, o: Array) -> Array:
        """Return the judged rows of O (batch, seqlen_q, num_heads, head_dim)."""
        return o if self.queries is None else o[:, self.queries]

    def index_in_whole(self, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
        """Return the index in "O" or "LSE" of an element of the judged rows."""
        if self.queries is None:
            return index
        axis = 1 if name == "O" else 2
        return (*index[:axis], int(self.queries[index[axis]]), *index[axis + 1 :])


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

    @property
    def asked(self) -> str:
        """The features, in words."""
        words = ", ".join(
            f"{key}={value}" if np.ndim(value) == 0 else f"{key} {np.shape(value)}"
            for key, value in self.features.arguments().items()
        )
        return words or "no features"

    def __str__(self) -> str:
        parts = [str(self.o), *([] if self.lse is None else [str(self.lse)])]
        last = f"yardstick max |error| {self.yardstick_error:.3g}; {self.asked}"
        return "\n".join([*parts, last])


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


def expect(
    q: Array,
    k: Array,
    v: Array,
    features: Features = PLAIN,
    *,
    queries: Array | None = None,
    out_dtype: npt.DTypeLike | None = None,
) -> Expected:
    """Return the exact result for one input with the bound of every element.

    Parameters
    ----------
    queries : positions of the queries that are judged, rising; None is all of them.
    out_dtype : of O; None is that of q.
    """
    dtypes = (q.dtype, np.dtype(out_dtype or q.dtype))
    every = list(heads(q, k, v, queries))
    count = q.shape[1] if queries is None else len(queries)
    shape = (q.shape[0], count, q.shape[2])
    found = Expected(
        exact=Attention(
            np.zeros((*shape, v.shape[3])), np.zeros((shape[0], shape[2], count), np.float64)
        ),
        o_bound=np.zeros((*shape, v.shape[3])),
        lse_bound=np.zeros((shape[0], shape[2], count)),
        nan_allowed=np.zeros((*shape, v.shape[3]), bool),
        fp32=np.zeros((*shape, v.shape[3])),
        yardstick=np.zeros((*shape, v.shape[3])),
        top=np.zeros(shape),
        dtype=dtypes[1],
        features=features,
        queries=None if queries is None else np.asarray(queries),
        seqlen_q=q.shape[1],
    )
    if len(every) * count * k.shape[1] < PARALLEL:
        for head in every:
            _expect_head(found, head, dtypes)
        return found
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda head: _expect_head(found, head, dtypes), every))
    return found


def _expect_head(found: Expected, head: Head, dtypes: tuple[np.dtype[Any], np.dtype[Any]]) -> None:
    """Fill in one head."""
    b, h, features = head.batch, head.head, found.features
    seen = features.seen(head)
    rows = softmax(head, seen, features)
    O, LSE = found.exact
    O[b, :, h] = weighted_sum(rows.probabilities, seen, head.v)
    LSE[b, h] = rows.lse
    found.top[b, :, h] = rows.row_max
    measured = [online(head, features, block)[0] for block in YARDSTICK_BLOCKS]
    errors = bounds.greatest_error(measured, O[b, :, h])
    found.yardstick[b, :, h] = errors
    of_scores = bounds.score_error(head, seen, features)
    found.o_bound[b, :, h], found.fp32[b, :, h] = bounds.o_bound(
        rows, O[b, :, h], head.v, seen, errors, of_scores, dtypes
    )
    found.lse_bound[b, h] = bounds.lse_bound(rows, seen, of_scores)
    underflows = bounds.any_key(seen & (rows.weights <= bounds.vanishing(dtypes[0])))
    found.nan_allowed[b, :, h] = np.isinf(O[b, :, h]) & underflows[:, None]


def compare(expected: Expected, actual_o: Array, actual_lse: Array | None = None) -> Report:
    """Return how ``actual_o`` and ``actual_lse`` stand to ``expected``.

    Raises
    ------
    ToleranceError
        For another shape or dtype than attention must return.
    """
    o_error = error_of_o(expected, actual_o)
    rows = expected.of_queries(actual_o)
    o = _comparison(expected, "O", rows, expected.exact.o, o_error, expected.o_bound)
    lse = None
    if actual_lse is not None:
        lse_error = error_of_lse(expected, actual_lse)
        given = actual_lse if expected.queries is None else actual_lse[..., expected.queries]
        exact = expected.exact.lse
        lse = _comparison(expected, "LSE", given, exact, lse_error, expected.lse_bound)
    return Report(o, lse, float(expected.yardstick.max(initial=0.0)), expected.features)


def error_of_o(expected: Expected, actual_o: Array) -> F64:
    """Return |error| of O at the judged queries; inf where NaN or infinity is wrong, or missing.

    Raises
    ------
    ToleranceError
        For another shape or dtype than attention must return.
    """
    exact = expected.exact.o
    shape = (exact.shape[0], expected.seqlen_q, *exact.shape[2:])
    _check_kind("O", actual_o, shape, expected.dtype)
    given = expected.of_queries(actual_o)
    error = _errors(given, exact, expected.dtype)
    with np.errstate(invalid="ignore"):
        error[expected.nan_allowed & np.isnan(given.astype(np.float64))] = 0.0
    return error


def error_of_lse(expected: Expected, actual_lse: Array) -> F64:
    """Return |error| of LSE at the judged queries, as ``error_of_o`` does.

    Raises
    ------
    ToleranceError
        For another shape or dtype than attention must return.
    """
    b, _, h = expected.exact.o.shape[:3]
    _check_kind("LSE", actual_lse, (b, h, expected.seqlen_q), np.dtype(np.float32))
    given = actual_lse if expected.queries is None else actual_lse[..., expected.queries]
    return _errors(given, expected.exact.lse, np.dtype(np.float32))


def shares(error: F64, bound: F64) -> F64:
    """Return error / bound; inf where the bound is 0 and the error is not."""
    share = np.where(error > 0, np.inf, 0.0)
    return np.asarray(np.divide(error, bound, out=share, where=bound > 0))


def max_abs(actual: Array, exact: Array) -> float:
    """Return the greatest |actual - exact|, the only figure that a fixed tolerance looks at."""
    return float(np.abs(actual.astype(np.float64) - exact).max())


def _check_kind(name: str, actual: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if actual.shape != shape or actual.dtype != dtype:
        raise ToleranceError(f"{name}: got {actual.dtype} {actual.shape}, expected {dtype} {shape}")


def _errors(actual: Array, exact: F64, dtype: np.dtype[Any]) -> F64:
    """|actual - exact|; where either is not finite, 0 if they are the same and inf if not.

    An infinity of the right sign stands for the least number that rounds to it: a finite O next to
    the greatest finite number may round up.
    """
    with np.errstate(invalid="ignore"):  # a NaN that signals may stand where nothing was written
        given = actual.astype(np.float64)
    greatest = float(finfo(dtype).max)
    overflow = greatest + ulp(np.array(greatest), dtype) / 2
    with np.errstate(invalid="ignore"):
        rounded_up = np.isinf(given) & np.isfinite(exact)
        error = np.abs(np.where(rounded_up, np.copysign(overflow, given), given) - exact)
        same = (given == exact) | (np.isnan(given) & np.isnan(exact))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def _comparison(
    expected: Expected, name: str, actual: Array, exact: F64, error: F64, bound: F64
) -> Comparison:
    if error.size == 0:
        return Comparison(name, (), 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, np.inf)
    share = shares(error, bound)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(share), share.shape))
    finite = np.isfinite(error) & np.isfinite(exact)
    noise, signal = (float(np.sqrt(np.square(a[finite]).sum())) for a in (error, exact))
    return Comparison(
        name=name,
        worst=expected.index_in_whole(name, worst),
        actual=float(actual[worst]),
        expected=float(exact[worst]),
        bound=float(bound[worst]),
        max_abs=float(error[finite].max(initial=0.0)),
        share=float(share[worst]),
        refused=int((share > 1).sum()),
        total=error.size,
        signal_to_error=signal / noise if noise else np.inf,
    )
