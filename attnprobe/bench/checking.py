"""Whether a result is right before it is timed: some rows of O against float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnprobe.bench.features import FEATURES
from attnprobe.bench.inputs import Inputs, Patch, patches, to_numpy
from attnprobe.numerics.error import Expected, error_of_o, expect, shares
from attnprobe.numerics.reference import Features


@dataclass(frozen=True)
class Error:
    """How far a result is from float64.

    Attributes
    ----------
    max_abs : the greatest |error|.
    share : the greatest share of an element's derived bound (docs/numerics.md); above 1 is wrong.
    """

    max_abs: float
    share: float


def expected(inputs: Inputs, out_dtype: Any) -> tuple[tuple[Patch, Expected], ...]:
    """Return what the checked rows must be."""
    return tuple((patch, _expected(inputs, patch, out_dtype)) for patch in patches(inputs.case))


def _expected(inputs: Inputs, patch: Patch, out_dtype: Any) -> Expected:
    case = inputs.case
    k, v = inputs.keys_of(patch.batch, patch.head * case.kv_heads // case.heads)
    if case.causal and patch.first == 0 and patch.rows < case.seqlen_q:
        seen = case.seqlen_k - case.seqlen_q + patch.rows
        k, v = k[:, :seen], v[:, :seen]
    stop = patch.first + patch.rows
    q = inputs.named(to_numpy(inputs.q[patch.batch, patch.first : stop, patch.head]))
    return expect(q[None, :, None], k, v, _features(inputs, patch), out_dtype=out_dtype)


def _features(inputs: Inputs, patch: Patch) -> Features:
    """Return the features of a case, cut to the rows and the head of a patch."""
    case = inputs.case
    values: dict[str, Any] = {"causal": case.causal}
    if case.feature:
        row = FEATURES[case.feature]
        known = Features.__dataclass_fields__
        values |= {name: value for name, value in row.options if name in known}
        for name, make in row.arrays:
            values[name] = _cut(make(inputs), patch)
    return Features(**values)


def _cut(array: Any, patch: Patch) -> Any:
    if array.ndim == 1:
        return to_numpy(array[patch.head : patch.head + 1])
    return to_numpy(array[:, :, patch.first : patch.first + patch.rows])


def error_of(O: Any, wanted: tuple[tuple[Patch, Expected], ...]) -> Error:
    """Return the error of O, a CuPy or NumPy array (batch, seqlen_q, heads, head_dim)."""
    greatest = share = 0.0
    for patch, exact in wanted:
        stop = patch.first + patch.rows
        rows = to_numpy(O[patch.batch, patch.first : stop, patch.head])[None, :, None]
        error = error_of_o(exact, rows)
        greatest = max(greatest, float(error.max(initial=0.0)))
        share = max(share, float(shares(error, exact.o_bound).max(initial=0.0)))
    return Error(greatest, share if np.isfinite(share) else float("inf"))
