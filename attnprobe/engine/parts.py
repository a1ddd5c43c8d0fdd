"""Scratch memory of keys that are computed in parts: what the blocks leave, and what counts them.

The words that count need not be cleared before a call. Each is known by a random number in its
upper bits, which no other memory holds; kernels/attention/arrivals.cuh says how.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

import numpy as np

AT_ONCE = 64  # parts that one block combines (kParts of group_combine.cuh)
COUNT_BITS = 10  # of a word that counts arrivals (kCountBits of arrivals.cuh)
ARRIVAL_TAG = secrets.randbits(64 - COUNT_BITS) << COUNT_BITS

Shapes = Mapping[str, tuple[tuple[int, ...], type]]


def ranges(num_splits: int) -> int:
    """Return how many times up to ``AT_ONCE`` parts are combined at first."""
    return -(-num_splits // AT_ONCE)


def scratch(
    num_splits: int, lse_shape: tuple[int, ...], v_head_dim: int, tiles: int, v_parts: int
) -> Shapes:
    """Return the arrays that blocks of one launch share: field -> shape, dtype.

    Parameters
    ----------
    num_splits : parts of the keys; one needs no arrays.
    tiles : tiles of rows of all sequences and K/V heads.
    v_parts : blocks that share the columns of O.
    """
    if num_splits == 1:
        return {}
    elements = math.prod(lse_shape)
    further = ranges(num_splits) if num_splits > AT_ONCE else 0
    parts, counts = num_splits + further, further + 1
    return {
        "O_split": ((parts, elements, v_head_dim), np.float32),
        "LSE_split": ((parts, v_parts, elements), np.float32),
        "arrivals": ((tiles, v_parts, counts), np.uint64),
    }
