"""Array arguments of any library as NumPy or CuPy arrays, without a copy, and results in kind."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import ml_dtypes
import numpy as np

from attnprobe import formats
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import DeviceError, ProblemError
from attnprobe.formats import FORMATS, Format
from attnprobe.frozen import dataclass

_E4M3 = FORMATS["e4m3"]
_CPU_DEVICE_TYPES = (1, 3)  # kDLCPU, kDLCUDAHost; Source: dlpack.h


@dataclass(frozen=True)
class Operand:
    """One array argument, taken in.

    Attributes
    ----------
    array : numpy.ndarray or cupy.ndarray over the caller's memory.
    on_gpu : which of the two.
    original : what the caller gave; results are returned in its kind.
    format : number format of bytes whose dtype does not say it: CuPy has no 8-bit floats; or None.
    """

    array: Any
    on_gpu: bool
    original: Any
    format: Format | None = None

    def spec(self, name: str) -> ArraySpec:
        """Return the array without its contents."""
        array = self.array
        size = array.dtype.itemsize
        strides = tuple(step // size if step % size == 0 else step for step in array.strides)
        if any(step % size for step in array.strides):
            raise ProblemError(
                f"{name} has byte strides {array.strides}, not multiples of its {size}-byte "
                "elements: copy it"
            )
        address = array.data.ptr if self.on_gpu else array.__array_interface__["data"][0]
        format_ = self.format or formats.of_dtype(array.dtype)
        dtype = str(array.dtype if self.format is None else self.format.dtype)
        return ArraySpec(name, tuple(array.shape), strides, format_, dtype, int(address))


def take(name: str, given: Any) -> Operand:
    """Return ``given`` as a NumPy or CuPy array over the same memory.

    Takes NumPy and CuPy arrays, objects with ``__cuda_array_interface__``, and objects with
    ``__dlpack__`` (torch and JAX among them) on the CPU or on an NVIDIA GPU.

    Raises
    ------
    ProblemError
        For anything else, or where the object refuses to be exported.
    DeviceError
        For memory of a GPU on a machine where CuPy finds none, or while torch captures a graph.
    """
    if isinstance(given, np.ndarray):
        return Operand(given, False, given)
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(given, cupy.ndarray):
        return Operand(given, True, given)
    try:
        if hasattr(given, "__dlpack__") and hasattr(given, "__dlpack_device__"):
            if int(given.__dlpack_device__()[0]) in _CPU_DEVICE_TYPES:
                return Operand(_from_cpu(given), False, given)
            _refuse_in_capture_by_torch(name, given)
            if _is_e4m3(given):
                return Operand(_cupy().from_dlpack(_bytes_of(given)), True, given, _E4M3)
            return Operand(_cupy().from_dlpack(given), True, given)
        if hasattr(given, "__cuda_array_interface__"):
            return Operand(_cupy().asarray(given), True, given)
    except (DeviceError, ProblemError):
        raise
    except Exception as error:  # whatever the exporting library raises
        raise ProblemError(
            f"{name}: {type(given).__name__} could not be taken in: {error}"
        ) from error
    raise ProblemError(
        f"{name} is a {type(given).__name__}; a NumPy or CuPy array, or an object with __dlpack__ "
        "or __cuda_array_interface__, is wanted"
    )


def in_kind(result: Any, like: Operand) -> Any:
    """Return ``result`` (an array of ``like``'s backend) as the kind that the caller gave."""
    if isinstance(like.original, type(result)):
        return result
    namespace = _namespace(like.original)
    if namespace is None or not hasattr(namespace, "from_dlpack"):
        return result  # only __cuda_array_interface__: a CuPy array offers that as well
    if not like.on_gpu and result.dtype == ml_dtypes.bfloat16:
        # NumPy exports no bfloat16: hand over the bits, and let the library see what they are.
        return namespace.from_dlpack(result.view(np.uint16)).view(namespace.bfloat16)
    return namespace.from_dlpack(result)


def stream_of(like: Operand) -> Any:
    """Return a context in which CuPy's current stream is the one that ``like``'s library works on.

    DLPack hands over no stream with ``out``, so torch is asked for its current stream where the
    arrays are torch's; elsewhere CuPy's current stream stays.
    """
    namespace = _namespace(like.original)
    if not like.on_gpu or getattr(namespace, "__name__", "") != "torch":
        return nullcontext()
    current = namespace.cuda.current_stream(like.array.device.id)
    return _cupy().cuda.Stream.from_external(current)


def _refuse_in_capture_by_torch(name: str, given: Any) -> None:
    """Raise where torch captures a graph: what taking a tensor in waits for would break it off.

    Calls that are known take nothing in.
    """
    torch = _namespace(given)
    if getattr(torch, "__name__", "") == "torch" and torch.cuda.is_current_stream_capturing():
        raise DeviceError(
            f"{name}: a call of these shapes and arguments is not known yet, and torch captures a "
            "CUDA graph; make the same call once before the capture"
        )


def library_of(operand: Operand) -> Any:
    """Return the module whose arrays the engine works on: NumPy or CuPy."""
    return _cupy() if operand.on_gpu else np


def _is_e4m3(given: Any) -> bool:
    return str(getattr(given, "dtype", "")).rpartition(".")[2] == _E4M3.dtype.name


def _bytes_of(given: Any) -> Any:
    """Return an array of 8-bit floats as bytes: few exporters and importers know more of them."""
    namespace = _namespace(given)
    return given.view(namespace.uint8) if namespace is not None else given


def _from_cpu(given: Any) -> Any:
    if _is_e4m3(given):
        return np.from_dlpack(_bytes_of(given)).view(_E4M3.dtype)
    if "bfloat16" not in str(given.dtype):
        return np.from_dlpack(given)
    namespace = _namespace(given)
    bits = given.view(namespace.uint16) if namespace is not None else given
    return np.from_dlpack(bits).view(ml_dtypes.bfloat16)


def _namespace(given: Any) -> Any:
    """Return the module that makes arrays of ``given``'s kind, or None. Imports nothing."""
    if hasattr(given, "__array_namespace__"):
        return given.__array_namespace__()
    return sys.modules.get(type(given).__module__.split(".")[0])


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            "the arrays are in GPU memory and CuPy is not installed: "
            "pip install 'attnprobe[cuda12]' (or [cuda13])"
        ) from error
    return cupy
