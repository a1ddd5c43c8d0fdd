"""Array arguments beside q, k and v: slopes, scales, sinks, bias and mask, checked and placed.

Small ones (a number per head) may be anything that NumPy can read and are brought to q's place as
float32. Bias and mask are taken as they lie, broadcast without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnprobe import formats
from attnprobe.engine.arrays import Operand, take
from attnprobe.engine.problem import ArraySpec
from attnprobe.errors import ProblemError
from attnprobe.formats import FORMATS

Sizes = tuple[int, int, int, int]  # batch, num_heads, seqlen_q, seqlen_k

# Field of AttentionParams -> names of its stride fields, outermost axis first.
STRIDES: Mapping[str, tuple[str, ...]] = {
    "head_scales": (),
    "sinks": (),
    "alibi_slopes": ("batch", "head"),
    "bias": ("batch", "head", "row", "col"),
    "mask": ("batch", "head", "row", "col"),
}


def is_per_head(softmax_scale: Any) -> bool:
    """Return whether ``softmax_scale`` is an array or a sequence, not a number."""
    if isinstance(softmax_scale, str):
        return False
    return bool(getattr(softmax_scale, "shape", ())) or isinstance(softmax_scale, (list, tuple))


def take_extras(query: Operand, sizes: Sizes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return field -> array, in q's place and of full shape, for the arguments that are not None.

    Parameters
    ----------
    query : q, taken in.
    sizes : batch, num_heads, seqlen_q, seqlen_k.
    given : ``head_scales``, ``sinks`` (num_heads,), ``alibi_slopes`` (num_heads,) or (batch,
        num_heads), ``bias`` and ``mask`` broadcastable to ``sizes``; None where not given.

    Raises
    ------
    ProblemError
        For another shape or dtype, or an array in another place than q.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in ("bias", "mask"):
            found[name] = _plane(name, value, query, sizes)
        else:
            shapes: list[tuple[int, ...]] = [(sizes[1],)]
            if name == "alibi_slopes":
                shapes.append((sizes[0], sizes[1]))
            array = _per_head(name, value, query, shapes)
            if name == "alibi_slopes":
                array = _library(query).broadcast_to(array, sizes[:2])
            found[name] = array
    return found


def extra_specs(arrays: Mapping[str, Any]) -> dict[str, ArraySpec]:
    """Return what the problem must know of the arrays of ``take_extras``."""
    return {
        name: ArraySpec(name, array.shape, (), formats.of_dtype(array.dtype), str(array.dtype), 0)
        for name, array in arrays.items()
    }


def extra_strides(arrays: Mapping[str, Any]) -> dict[str, int]:
    """Return the stride fields of ``AttentionParams`` of these arrays, in elements."""
    return {
        f"{name}_{axis}_stride": array.strides[number] // array.dtype.itemsize
        for name, array in arrays.items()
        for number, axis in enumerate(STRIDES[name])
    }


def _library(query: Operand) -> Any:
    if not query.on_gpu:
        return np
    import cupy

    return cupy


def _per_head(name: str, value: Any, query: Operand, shapes: list[tuple[int, ...]]) -> Any:
    library = _library(query)
    taken = take(name, value) if hasattr(value, "__dlpack__") else None
    try:
        source = taken.array if taken is not None else np.asarray(value, np.float32)
        if query.on_gpu or taken is None or not taken.on_gpu:
            array = library.ascontiguousarray(library.asarray(source, np.float32))
        else:
            raise ProblemError(f"{name} is in GPU memory and q is not; move it to q's place")
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name}: a number per head is wanted: {error}") from error
    if isinstance(source, np.ndarray) and name == "head_scales" and not np.isfinite(source).all():
        raise ProblemError("softmax_scale holds a number that is not finite")
    if array.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ProblemError(f"{name} has shape {array.shape}; {wanted} is wanted: a number per head")
    return array


def _plane(name: str, value: Any, query: Operand, sizes: Sizes) -> Any:
    taken = take(name, value)
    array = taken.array
    if taken.on_gpu != query.on_gpu or (query.on_gpu and array.device.id != query.array.device.id):
        raise ProblemError(f"{name} is in another place than q; move it to q's")
    _check_dtype(name, array.dtype, query.array.dtype)
    if name == "mask":
        array = array.view(np.uint8)
    if any(step % array.dtype.itemsize for step in array.strides):
        raise ProblemError(f"{name} has byte strides {array.strides}: copy it")
    try:
        full = _library(query).broadcast_to(array, sizes)
    except ValueError:
        raise ProblemError(
            f"{name} has shape {array.shape}; one that broadcasts to (batch, num_heads, seqlen_q, "
            f"seqlen_k) = {sizes} is wanted"
        ) from None
    return full


def _check_dtype(name: str, dtype: Any, query_dtype: Any) -> None:
    if name == "mask":
        if dtype != np.bool_:
            raise ProblemError(
                f"mask has dtype {dtype}; bool is wanted, True = may attend: compare it with 0"
            )
    elif dtype not in (query_dtype, FORMATS["f32"].dtype):
        raise ProblemError(f"bias has dtype {dtype}; {query_dtype} (q's) or float32 is wanted")
