"""Array libraries that a target may want its arguments from: one row each.

A row brings a NumPy array to its library with the strides that it has, gaps and what lies in them
included, and brings a result back. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.errors import DeviceError, UnsupportedError, UsageError

Array = npt.NDArray[Any]

_POISONED = 2  # freed blocks of a result's size that hold NaN before a launch: O's, and one more


class Memory(NamedTuple):
    """An array as a view of its memory: 1-D contiguous, first element, and steps in elements."""

    flat: Array
    first: int
    steps: tuple[int, ...]


def memory_of(array: Array) -> Memory:
    """Return the memory that ``array`` is a view of, all of it, and how it views it."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    if not base.flags.c_contiguous:
        base = array = np.ascontiguousarray(array)
    size = array.dtype.itemsize
    offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    steps = tuple(step // size for step in array.strides)
    return Memory(base.reshape(-1).view(array.dtype), offset // size, steps)


@dataclass(frozen=True)
class Library:
    """One library.

    Attributes
    ----------
    name : what the command line calls it.
    missing : () -> "" where it can be used, else why not.
    put : NumPy array -> its array, with the same strides.
    get : its array -> NumPy array, once all work on it is done.
    poison : shape, dtype -> leave NaN in memory that the next array of this size will get.
    environment : () -> versions and device, for a record.
    """

    name: str
    missing: Callable[[], str]
    put: Callable[[Array], Any]
    get: Callable[[Any], Array]
    poison: Callable[[tuple[int, ...], np.dtype[Any]], None]
    environment: Callable[[], dict[str, str]]


# --- NumPy ----------------------------------------------------------------------------------------


def _numpy_poison(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    blocks = [np.full(shape, np.nan, dtype) for _ in range(_POISONED)]
    del blocks  # the allocator hands a freed block of this size to whoever asks next


def _numpy_environment() -> dict[str, str]:
    return {"device": "CPU", "numpy": np.__version__}


# --- CuPy -----------------------------------------------------------------------------------------


def _cupy_missing() -> str:
    from attnprobe.backends.gpu import usable

    return usable()


def _cupy_put(array: Array) -> Any:
    import cupy

    if array.dtype == ml_dtypes.float8_e4m3fn:  # CuPy has no such dtype: its bytes
        array = array.view(np.uint8)
    memory = memory_of(array)
    flat = cupy.asarray(memory.flat)
    if array.size == 0:
        return cupy.empty(array.shape, array.dtype)
    offset = flat.data.ptr - flat.data.mem.ptr + memory.first * array.dtype.itemsize
    first = cupy.cuda.MemoryPointer(flat.data.mem, offset)
    strides = tuple(step * array.dtype.itemsize for step in memory.steps)
    return cupy.ndarray(array.shape, array.dtype, first, strides=strides)


def _cupy_get(array: Any) -> Array:
    import cupy

    return np.asarray(cupy.asnumpy(array))


def _cupy_poison(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    import cupy

    blocks = [cupy.empty(shape, dtype) for _ in range(_POISONED)]
    for block in blocks:
        block.view(np.uint8)[...] = 0xFF  # NaN in every float format
    del blocks


def _cupy_environment() -> dict[str, str]:
    from attnprobe.backends.gpu import GpuBackend

    return dict(GpuBackend().environment())


# --- torch ----------------------------------------------------------------------------------------


def _torch_missing(device: str) -> str:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
    return ""


def _torch_put(array: Array, device: str) -> Any:
    import torch

    if any(step < 0 for step in array.strides):
        raise UnsupportedError("torch has no negative strides")
    memory = memory_of(array)
    flat = np.ascontiguousarray(memory.flat)
    if array.dtype == ml_dtypes.bfloat16:
        tensor = torch.from_numpy(flat.view(np.int16).copy()).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(flat.copy())
    return torch.as_strided(tensor.to(device), array.shape, memory.steps, memory.first)


def _torch_get(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def _torch_poison(shape: tuple[int, ...], dtype: np.dtype[Any], device: str) -> None:
    import torch

    size = int(np.prod(shape)) * dtype.itemsize
    blocks = [torch.full((size,), 0xFF, dtype=torch.uint8, device=device) for _ in range(_POISONED)]
    del blocks


def _torch_environment(device: str) -> dict[str, str]:
    import torch

    found = {"device": "CPU", "torch": str(torch.__version__)}
    if device == "cuda":
        cudnn = torch.backends.cudnn.version()
        if not _cupy_missing():
            found |= _cupy_environment()
        found |= {"device": torch.cuda.get_device_name(), "cudnn": str(cudnn)}
    return found


def _torch(name: str, device: str) -> Library:
    return Library(
        name,
        lambda: _torch_missing(device),
        lambda array: _torch_put(array, device),
        _torch_get,
        lambda shape, dtype: _torch_poison(shape, dtype, device),
        lambda: _torch_environment(device),
    )


# --- JAX ------------------------------------------------------------------------------------------


def _jax_missing() -> str:
    return "" if importlib.util.find_spec("jax") else "jax is not installed"


def _jax_put(array: Array) -> Any:
    import jax.numpy

    if not array.flags.c_contiguous:
        raise UnsupportedError("JAX arrays have no strides")
    return jax.numpy.asarray(array)


def _jax_environment() -> dict[str, str]:
    import jax

    return {"device": str(jax.devices()[0]), "jax": str(jax.__version__)}


LIBRARIES: dict[str, Library] = {
    row.name: row
    for row in (
        Library(
            "numpy", lambda: "", lambda array: array, np.asarray, _numpy_poison, _numpy_environment
        ),
        Library("cupy", _cupy_missing, _cupy_put, _cupy_get, _cupy_poison, _cupy_environment),
        _torch("torch", "cuda"),
        _torch("torch-cpu", "cpu"),
        Library("jax", _jax_missing, _jax_put, np.asarray, _numpy_poison, _jax_environment),
    )
}


def library(name: str) -> Library:
    """Return the library called ``name``, which can be used here.

    Raises
    ------
    UsageError
        If there is none of this name; lists those that there are.
    DeviceError
        If it is not installed, or sees no device.
    """
    if name not in LIBRARIES:
        raise UsageError(f"no array library {name!r}; there are: {', '.join(LIBRARIES)}")
    reason = LIBRARIES[name].missing()
    if reason:
        raise DeviceError(f"arrays of {name} cannot be made here: {reason}")
    return LIBRARIES[name]


def first_usable(names: tuple[str, ...]) -> Library:
    """Return the first of ``names`` that can be used here.

    Raises
    ------
    DeviceError
        If none can; says why for each.
    """
    reasons = {name: LIBRARIES[name].missing() for name in names}
    for name, reason in reasons.items():
        if not reason:
            return LIBRARIES[name]
    raise DeviceError("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
