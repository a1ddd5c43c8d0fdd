"""Array arguments beside q, k and v: slopes, scales, sinks, bias, mask, lengths, block table.

Small ones (a number per head or per sequence) may be anything that NumPy can read and are brought
to q's place. Bias and mask are taken as they lie, broadcast without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from attnprobe.engine.arrays import Operand, library_of, take
from attnprobe.engine.capture import refuse_in_capture
from attnprobe.engine.lengths import check_lengths
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import ProblemError
from attnprobe.formats import FORMATS


class Sizes(NamedTuple):
    """What q and k say about the sizes of the others; ``batch`` is of a padded q."""

    batch: int
    num_heads: int
    seqlen_q: int
    seqlen_k: int
    num_kv_heads: int


# Field of AttentionParams -> names of its stride fields, outermost axis first.
STRIDES: Mapping[str, tuple[str, ...]] = {
    "head_scales": (),
    "sinks": (),
    "alibi_slopes": ("batch", "head"),
    "q_descale": ("batch", "head"),
    "k_descale": ("batch", "head"),
    "v_descale": ("batch", "head"),
    "bias": ("batch", "head", "row", "col"),
    "mask": ("batch", "head", "row", "col"),
    "cu_seqlens_q": (),
    "cu_seqlens_k": (),
    "seqused_k": (),
    "leftpad_k": (),
    "block_table": ("batch",),
}
PLANES = ("bias", "mask")
INTEGERS = ("cu_seqlens_q", "cu_seqlens_k", "seqused_k", "leftpad_k", "block_table")
BATCHED = (
    "alibi_slopes",
    "q_descale",
    "k_descale",
    "v_descale",
)  # may have a batch axis before the heads


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
    sizes : of q and k; K's keys in pages are those of one page.
    given : ``head_scales``, ``sinks`` (num_heads,); ``alibi_slopes`` (num_heads,) or (batch,
        num_heads); ``q_descale``, ``k_descale``, ``v_descale`` a number, (num_kv_heads,) or (batch,
        num_kv_heads); ``bias`` and ``mask`` broadcastable to (batch, num_heads, seqlen_q,
        seqlen_k); ``cu_seqlens_q``, ``cu_seqlens_k`` (batch + 1,), ``seqused_k``, ``leftpad_k``
        (batch,), ``block_table`` (batch, max_pages), whole numbers; None where not given.

    Raises
    ------
    ProblemError
        For another shape or dtype, or an array in another place than q.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    found = {name: _integers(name, wanted[name], query) for name in INTEGERS if name in wanted}
    batch = _batch(sizes, found)
    check_lengths(found, sizes, batch)
    for name, value in wanted.items():
        if name in PLANES:
            shape = tuple(getattr(value, "shape", ()))
            plane = _plane_sizes(shape, sizes, found)
            found[name] = _plane(name, value, query, (batch, sizes.num_heads, *plane))
        elif name not in INTEGERS:
            heads = sizes.num_kv_heads if name.endswith("descale") else sizes.num_heads
            shapes: list[tuple[int, ...]] = [(heads,)]
            if name in BATCHED:
                shapes.append((batch, heads))
            if name.endswith("descale"):
                shapes.append(())
            array = _per_head(name, value, query, shapes)
            if name in BATCHED:
                array = library_of(query).broadcast_to(array, (batch, heads))
            found[name] = array
    return found


def _batch(sizes: Sizes, found: Mapping[str, Any]) -> int:
    if "cu_seqlens_q" in found:
        return max(0, int(found["cu_seqlens_q"].shape[0]) - 1)
    return sizes.batch


def _most_keys(sizes: Sizes, found: Mapping[str, Any]) -> int:
    """Return the keys that a sequence can have."""
    if "block_table" in found:
        return int(found["block_table"].shape[1]) * sizes.seqlen_k
    return sizes.seqlen_k


def extra_specs(arrays: Mapping[str, Any]) -> dict[str, ArraySpec]:
    """Return what the problem must know of the arrays of ``take_extras``."""
    return {
        name: Operand(array, not isinstance(array, np.ndarray), array).spec(name)
        for name, array in arrays.items()
    }


def extra_strides(arrays: Mapping[str, Any]) -> dict[str, int]:
    """Return the stride fields of ``AttentionParams`` of these arrays, in elements."""
    return {
        f"{name}_{axis}_stride": array.strides[number] // array.dtype.itemsize
        for name, array in arrays.items()
        for number, axis in enumerate(STRIDES[name])
    }


def _plane_sizes(shape: tuple[int, ...], sizes: Sizes, found: Mapping[str, Any]) -> tuple[int, int]:
    """Return the queries and keys of a plane: where lengths vary, as many as it has itself."""
    rows, keys = sizes.seqlen_q, _most_keys(sizes, found)
    if "cu_seqlens_q" in found and len(shape) > 1 and shape[-2] != 1:
        rows = shape[-2]
    if len(found.keys() & {"cu_seqlens_k", "seqused_k"}) and shape and shape[-1] != 1:
        keys = shape[-1]
    return rows, keys


def bring(name: str, value: Any, query: Operand, dtype: Any) -> Any:
    """Return a small array in q's place as ``dtype``, C-contiguous; NumPy's come to the GPU."""
    library = library_of(query)
    taken = take(name, value) if hasattr(value, "__dlpack__") else None
    source = taken.array if taken is not None else np.asarray(value)
    if taken is not None and taken.on_gpu and not query.on_gpu:
        raise ProblemError(f"{name} is in GPU memory and q is not; move it to q's place")
    if query.on_gpu and (taken is None or not taken.on_gpu):
        refuse_in_capture(f"bringing {name} to the GPU")
    return library.asarray(source, dtype, order="C")


def _integers(name: str, value: Any, query: Operand) -> Any:
    kind = getattr(getattr(value, "dtype", None), "name", None) or str(getattr(value, "dtype", ""))
    if kind.rpartition(".")[2] not in ("", "int32", "int64"):
        raise ProblemError(f"{name} has dtype {kind}; int32 is wanted")
    try:
        return bring(name, value, query, np.int32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProblemError(f"{name}: whole numbers (int32) are wanted: {error}") from error


def _per_head(name: str, value: Any, query: Operand, shapes: list[tuple[int, ...]]) -> Any:
    try:
        array = bring(name, value, query, np.float32)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name}: a number per head is wanted: {error}") from error
    on_cpu = isinstance(value, (np.ndarray, list, tuple))
    if on_cpu and name == "head_scales" and not np.isfinite(np.asarray(value, np.float64)).all():
        raise ProblemError("softmax_scale holds a number that is not finite")
    if array.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ProblemError(f"{name} has shape {array.shape}; {wanted} is wanted: a number per head")
    return array


def _plane(name: str, value: Any, query: Operand, sizes: tuple[int, ...]) -> Any:
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
        full = library_of(query).broadcast_to(array, sizes)
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
