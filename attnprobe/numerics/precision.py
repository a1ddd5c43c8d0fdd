"""Rounding points of a kernel by the dtype of its Q: what the yardstick and the bound suppose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)

EPS32 = 2.0**-23  # tensor cores truncate to float32, so a whole ulp and not half of one
# Products of 8 bits: every term of a sum, and the sum, is cut 13 bits below the greatest of them.
# Source: docs/product-numerics.md, wgmma, measured on an H200.
EPS8 = 2.0**-13
STEP8 = 32  # products that are added at once
# The most keys that the tensor core sums by itself before O goes on in float32, and the widest V of
# which it does (total_blocks and promoted of engine/wgmma8.py).
PROMOTED_KEYS, PROMOTED_WIDTH = 16 * 96, 128


@dataclass(frozen=True)
class Precision:
    """What a kernel rounds to.

    Attributes
    ----------
    weights : dtype of P when it meets V.
    offset : P is taken times 2^offset, so that it uses the range of its dtype.
    out : dtype of O where nobody says.
    short_sums : whether the tensor core adds with 14 bits.
    """

    weights: np.dtype[Any]
    offset: int
    out: np.dtype[Any]
    short_sums: bool

    def rounded(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return float32 ``weights``, at most 1, as they meet V."""
        scale = np.float32(2.0**self.offset)
        return (weights * scale).astype(self.weights).astype(np.float32) / scale


def precision(dtype: npt.DTypeLike) -> Precision:
    """Return the row of inputs of ``dtype``: f16, bf16 or e4m3."""
    given = np.dtype(dtype)
    if given == E4M3:
        return Precision(E4M3, 8, np.dtype(ml_dtypes.bfloat16), short_sums=True)
    return Precision(given, 0, given, short_sums=False)


def short_product(products: F64, walk: F64, imbalance: F64, terms: int) -> F64:
    """Return the greatest error of sums of ``terms`` products of 8 bits, made in one chain.

    A term loses up to 2^-13 of the greatest partial sum, about ``products + 2 * walk``. What terms
    of either sign lose cancels but for their ``imbalance``, half a unit each, and for what is
    random in it: four standard deviations of numbers that are spread over a unit. Each step cuts
    its sum once more.

    Parameters
    ----------
    products : size of the sum.
    walk : root of the sum of the squares of its terms.
    imbalance : how many more terms have one sign than the other.
    """
    units = imbalance / 2 + 4 * np.sqrt(terms / 12) + -(-terms // STEP8)
    found: F64 = EPS8 * units * (products + 2 * walk)
    return found


def short_sum(P: F64, v: F64, walk: F64) -> F64:
    """Return the error that the sums of P V have from being short, (queries, v_head_dim).

    The tensor core sums up to ``PROMOTED_KEYS`` keys, all of them where V is too wide for a second
    O. Partial sums are those of 64 keys, none cancelling another.
    """
    keys = P.shape[1]
    chain = min(keys, PROMOTED_KEYS) if v.shape[1] <= PROMOTED_WIDTH else keys
    parts = np.zeros((len(P), v.shape[1]))
    for first in range(0, keys, 64):
        parts += np.abs(P[:, first : first + 64] @ v[first : first + 64])
    units = 4 * np.sqrt(chain / 12) + -(-chain // STEP8)
    found: F64 = EPS8 * (chain / 2 * parts + units * (parts + 2 * walk))
    return found
