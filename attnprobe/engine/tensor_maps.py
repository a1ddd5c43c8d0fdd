"""Tensor maps of the attention arrays: what the kernels with TMA read Q, K and V through."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from attnprobe.engine.prepared import Encoded
from attnprobe.formats import Format
from attnprobe.layouts.tensor_map import BYTES, TensorMap
from attnprobe.tensor_maps import encoded

STEP = 16  # bytes: a tensor map's steps are multiples of it
PANEL_BYTES = 128  # of a box along head_dim: the span of the swizzle


def tensor_map(array: Any, address: int, format_: Format, rows: int) -> TensorMap:
    """Return the map of an array ``(batch, seqlen, heads, head_dim)``, in boxes of ``rows`` rows.

    Axes are head_dim, seqlen, heads, batch, so that a box is a panel of one head. Along an axis
    that the array is broadcast over (of step 0) the map has one element.
    """
    return _map(tuple(array.shape), tuple(array.strides), address, format_, rows)


def mapped(name: str, array: Any, format_: Format, rows: int) -> Encoded:
    """Return the argument of a launch that is the map of an array like ``array``."""
    shape, strides = tuple(array.shape), tuple(array.strides)

    # Allocators give the same addresses again and again.
    @lru_cache(maxsize=4096)
    def encode(address: int) -> bytes:
        return encoded(_map(shape, strides, address, format_, rows))

    return Encoded(name, encode, BYTES)


def _map(
    shape: tuple[int, ...], strides: tuple[int, ...], address: int, format_: Format, rows: int
) -> TensorMap:
    batch, seqlen, heads, width = shape
    batch_step, row_step, head_step, _ = strides
    # A step along an axis of one element means nothing, and may be any number.
    any_step = -(-width * format_.bits // 8 // STEP) * STEP
    axes = ((seqlen, row_step), (heads, head_step), (batch, batch_step))
    return TensorMap(
        address,
        format_.name if format_.bits > 8 else "u8",
        (width, *(extent if step else 1 for extent, step in axes)),
        tuple(step if extent > 1 and step else any_step for extent, step in axes),
        (PANEL_BYTES * 8 // format_.bits, rows, 1, 1),
        swizzle="128B",
        promotion="128B",
    )
