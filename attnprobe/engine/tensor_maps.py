"""Tensor maps of the attention arrays: what the kernels with TMA read Q, K and V through."""

from __future__ import annotations

import ctypes
import sys
from functools import cache, lru_cache
from typing import Any

from attnprobe.engine.prepared import Encoded
from attnprobe.errors import DeviceError
from attnprobe.formats import Format
from attnprobe.layouts.tensor_map import BYTES, ELEMENTS, FILLS, PROMOTIONS, TensorMap

PANEL = 64  # elements of a box along head_dim: 128 bytes, the span of the swizzle
_ALIGNMENT = 64  # bytes, of an encoded map


def tensor_map(array: Any, address: int, format_: Format, rows: int) -> TensorMap:
    """Return the map of an array ``(batch, seqlen, heads, head_dim)``, in boxes of ``rows`` rows.

    Axes are head_dim, seqlen, heads, batch, so that a box is a panel of one head.
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
    row_bytes = width * format_.bits // 8
    axes = ((seqlen, row_step), (heads, head_step), (batch, batch_step))
    return TensorMap(
        address,
        format_.name,
        (width, *(extent for extent, _ in axes)),
        # A step along an axis of one element means nothing, and may be any number.
        tuple(step if extent > 1 else row_bytes for extent, step in axes),
        (PANEL, rows, 1, 1),
        swizzle="128B",
        promotion="128B",
    )


def encoded(tensor: TensorMap) -> bytes:
    """Return the 128 bytes of ``tensor`` as the driver encodes them.

    Raises
    ------
    DeviceError
        If there is no driver, or it refuses the map.
    """
    buffer = ctypes.create_string_buffer(BYTES + _ALIGNMENT)
    start = ctypes.addressof(buffer)
    start += -start % _ALIGNMENT
    rank = tensor.rank
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(start),
        ELEMENTS[tensor.element].code,
        rank,
        ctypes.c_void_p(tensor.address),
        (ctypes.c_uint64 * rank)(*tensor.shape),
        (ctypes.c_uint64 * (rank - 1))(*tensor.strides),
        (ctypes.c_uint32 * rank)(*tensor.box),
        (ctypes.c_uint32 * rank)(*tensor.element_strides),
        0,  # not interleaved
        tensor.mode.tensor_map_code,
        PROMOTIONS.index(tensor.promotion),
        FILLS.index(tensor.fill),
    )
    if status != 0:
        raise DeviceError(f"the driver refuses a tensor map (CUresult {status}): {tensor}")
    return ctypes.string_at(start, BYTES)


@cache
def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise DeviceError(f"no CUDA driver: {error}") from error
