"""The CUDA driver's own library, for what CuPy does not call."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from attnprobe.errors import DeviceError


@cache
def library() -> Any:
    """Return libcuda as ctypes has it.

    Raises
    ------
    DeviceError
        If there is none.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise DeviceError(f"no CUDA driver here: {error}") from error
