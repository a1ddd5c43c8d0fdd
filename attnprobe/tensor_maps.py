"""Tensor maps in the 128 bytes that a GPU takes: the driver encodes them (libcuda, no toolkit)."""

from __future__ import annotations

import ctypes

from attnprobe import driver
from attnprobe.errors import DeviceError
from attnprobe.layouts.tensor_map import BYTES, ELEMENTS, FILLS, PROMOTIONS, TensorMap

_ALIGNMENT = 64  # bytes, of an encoded map


def encoded(tensor: TensorMap) -> bytes:
    """Return the 128 bytes of ``tensor`` as the driver encodes them.

    Raises
    ------
    DeviceError
        If there is no driver, or it refuses the map.

    Source: CUDA driver API, cuTensorMapEncodeTiled.
    """
    space = ctypes.create_string_buffer(BYTES + _ALIGNMENT)
    place = ctypes.addressof(space)
    place += -place % _ALIGNMENT
    rank = tensor.rank
    status = driver.library().cuTensorMapEncodeTiled(
        ctypes.c_void_p(place),
        ctypes.c_int(ELEMENTS[tensor.element].code),
        ctypes.c_uint32(rank),
        ctypes.c_void_p(tensor.address),
        (ctypes.c_uint64 * rank)(*tensor.shape),
        (ctypes.c_uint64 * max(rank - 1, 1))(*tensor.strides),
        (ctypes.c_uint32 * rank)(*tensor.box),
        (ctypes.c_uint32 * rank)(*tensor.element_strides),
        ctypes.c_int(0),  # not interleaved
        ctypes.c_int(tensor.mode.tensor_map_code),
        ctypes.c_int(PROMOTIONS.index(tensor.promotion)),
        ctypes.c_int(FILLS.index(tensor.fill)),
    )
    if status:
        raise DeviceError(f"the driver refuses a tensor map (CUresult {status}): {tensor}")
    return ctypes.string_at(place, BYTES)
