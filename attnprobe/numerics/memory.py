"""How the arrays of a call lie in memory, and what stands around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attnprobe.numerics.fill_row import Array

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How a (batch, seqlen, heads, head_dim) array lies in memory.

    Attributes
    ----------
    name : what the case table calls it.
    buffer : shape of the array -> shape of the memory that holds it.
    view : that memory and the shape -> the array, a view.
    """

    name: str
    buffer: Callable[[Shape], Shape]
    view: Callable[[Array, Shape], Array]

    def place(self, array: Array, garbage: float = np.nan) -> Array:
        """Return ``array`` in this layout, with ``garbage`` in all memory around it."""
        buffer = np.full(self.buffer(array.shape), garbage, array.dtype)
        placed = self.view(buffer, array.shape)
        placed[...] = array
        return placed


LAYOUTS: dict[str, Layout] = {
    row.name: row
    for row in (
        Layout("contiguous", lambda s: s, lambda m, s: m),
        Layout(
            "heads_first",  # (batch, heads, seqlen, head_dim), as torch keeps it
            lambda s: (s[0], s[2], s[1], s[3]),
            lambda m, s: m.transpose(0, 2, 1, 3),
        ),
        Layout(
            "gaps",  # every second row of a taller array, every second head, half of wider rows
            lambda s: (s[0] + 1, 2 * s[1] + 1, 2 * s[2], 2 * s[3]),
            lambda m, s: m[1:, 1::2, ::2, s[3] :],
        ),
        Layout(
            "gated",  # rows of twice the width: a query beside its gate, K beside V
            lambda s: (*s[:3], 2 * s[3]),
            lambda m, s: m[..., : s[3]],
        ),
        Layout(
            "packed",  # one of three in a (batch, seqlen, 3, heads, head_dim) buffer
            lambda s: (*s[:2], 3, *s[2:]),
            lambda m, s: m[:, :, 1],
        ),
        Layout(
            "unaligned",  # rows start at odd elements: no 16-byte access fits
            lambda s: (s[0], s[1], s[2], s[3] + 3),
            lambda m, s: m[..., 1 : s[3] + 1],
        ),
        Layout(
            "backwards",  # negative steps along batch, seqlen and heads
            lambda s: s,
            lambda m, s: m[::-1, ::-1, ::-1],
        ),
    )
}

# Layouts that fill their memory.
WITHOUT_SLACK = frozenset(
    row.name for row in LAYOUTS.values() if np.prod(row.buffer((2, 3, 2, 16))) == 2 * 3 * 2 * 16
)
