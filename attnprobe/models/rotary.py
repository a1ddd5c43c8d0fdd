"""Rotary position embedding on neighbouring pairs: (x0, x1), (x2, x3), ..."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Rotary:
    """The angles of every position below ``limit``.

    Attributes
    ----------
    cos, sin : float32 (limit, head_dim / 2): of position * theta ** (-2 i / head_dim).

    Source
    ------
    Su et al., RoFormer (arXiv 2104.09864), section 3.2.
    """

    def __init__(self, head_dim: int, theta: float, limit: int) -> None:
        steps = np.arange(0, head_dim, 2) / head_dim
        angles = np.arange(limit)[:, None] * theta**-steps
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def turned(self, x: Floats, first: Any = 0) -> Floats:
        """Return (batch, seqlen, heads, head_dim) turned by its positions.

        ``first`` is the position of token 0: a number, or one for each of the batch.
        """
        positions = np.reshape(first, (-1, 1)) + np.arange(x.shape[1])
        cos, sin = self.cos[positions][:, :, None], self.sin[positions][:, :, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)
