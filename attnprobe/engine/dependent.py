"""Launches that begin while the launch before them in the stream is under way.

Blocks are put on multiprocessors as the launch before gives them free, and wait there
(``griddepcontrol.wait``) until it is over and what it wrote can be read. That hides the time from
one launch to the next. The driver is told by an attribute that only ``cuLaunchKernelEx`` takes, and
that CuPy has no call for.

Source: CUDA driver API, cuLaunchKernelEx, CUlaunchConfig, CUlaunchAttribute; cuda.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from attnprobe import driver

LEAST_CC = 90  # that griddepcontrol is for; Source: PTX ISA, griddepcontrol
# The driver from which on a captured graph can have such a launch. Source: CUDA C++ Programming
# Guide, Programmatic Dependent Launch and Synchronization, Use in CUDA Graphs.
LEAST_DRIVER = 12030
_PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_...
_MOST_CONFIGS = 64  # streams that a launch keeps its shape for

Triple = tuple[int, int, int]
Launch = Callable[[int, int, int], None]  # stream, pointers to the arguments, 0


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: a number, and a union of 64 bytes from byte 8 on."""

    _fields_ = (
        ("id", ctypes.c_int),
        ("pad", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_byte * 60),
    )


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    )


def launcher(
    function: int, grid: Triple, block: Triple, shared_bytes: int, refused: Callable[[int], Any]
) -> Launch:
    """Return what queues a kernel so on a stream, with the signature of CuPy's own launch.

    Parameters
    ----------
    function : CUfunction, a kernel that waits for the launch before itself.
    refused : makes the error of a CUresult.

    Raises
    ------
    DeviceError
        If there is no driver.
    """
    attribute = _Attribute(_PROGRAMMATIC_STREAM_SERIALIZATION, 0, 1)
    call = driver.library().cuLaunchKernelEx
    call.argtypes = [ctypes.c_void_p] * 4  # plain numbers are the quickest to pass
    configs: dict[int, tuple[int, Any]] = {}  # by stream; nothing in them is ever changed
    get_config = configs.get

    def config_of(stream: int) -> tuple[int, Any]:
        shape = ((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), shared_bytes)
        config = _Config(*shape, stream, ctypes.pointer(attribute), 1)
        if len(configs) >= _MOST_CONFIGS:
            configs.clear()
        configs[stream] = found = (ctypes.addressof(config), config)
        return found

    def launch(stream: int, arguments: int, _extra: int) -> None:
        config = get_config(stream) or config_of(stream)
        status = call(config[0], function, arguments, None)
        if status:
            raise refused(status)

    return launch
