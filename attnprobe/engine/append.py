"""New keys and values behind those in a cache, and the rotary embedding of keys and queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnprobe.engine.arrays import Operand, library_of
from attnprobe.engine.extras import Sizes, bring, take_extras
from attnprobe.engine.launch import Launched
from attnprobe.engine.one_kernel import OneKernel, strides
from attnprobe.errors import ProblemError
from attnprobe.formats import FORMATS, Format

FILE, ENTRY = "attention/append_kv.cu", "attention_append_kv"
THREADS = 128
_AXES = ("batch", "row", "head")


def append_defines(element: str, cache: str) -> dict[str, object]:
    """Return the macros of the kernel text, for the number formats of new rows and of the cache."""
    return {
        "ATTN_ELEMENT": FORMATS[element].c_type,
        "ATTN_CACHE": FORMATS[cache].c_type,
        "ATTN_THREADS": THREADS,
    }


@dataclass(frozen=True)
class Append:
    """What is appended to which cache; arrays of one library, taken in.

    Attributes
    ----------
    q : queries, (batch, seqlen_q, num_heads, head_dim).
    k, v : new rows, (batch, seqlen_new, num_kv_heads, head_dim) and likewise, q's dtype.
    k_cache, v_cache : pages or (batch, seqlen_cache, num_kv_heads, ...).
    cache_format : number format of the cache.
    extras : ``seqused_k``, ``leftpad_k``, ``block_table``, ``k_descale``, ``v_descale``,
        ``rotary_cos``, ``rotary_sin`` as given, None where not.
    rotary_interleaved : pairs (2i, 2i + 1); else (i, i + rotary_dim / 2).
    q_advances : query i stands at the first new position + i; else all stand at that position.
    """

    q: Operand
    k: Operand
    v: Operand
    k_cache: Operand
    v_cache: Operand
    cache_format: Format
    extras: Mapping[str, Any]
    rotary_interleaved: bool = False
    q_advances: bool = True


@dataclass(frozen=True)
class Appended:
    """What ``append_kv`` left.

    Attributes
    ----------
    q : the queries, rotated if so.
    seqused_k : the keys now in use.
    launched : on a GPU; None where nothing was.
    """

    q: Operand
    seqused_k: Any
    launched: Launched | None

    @property
    def renamed(self) -> dict[str, str]:
        """What the attention that follows reads under another name than ``launched`` has it."""
        names = {"seqused_k": "seqused_after"}
        if self.launched is not None and "Q_rotated" in self.launched.arrays:
            names["Q"] = "Q_rotated"
        return names


def append_kv(job: Append) -> Appended:
    """Write the new rows, and rotate the queries where the job says so.

    Raises
    ------
    ProblemError
        For shapes or dtypes that do not fit; on the CPU also where the cache has no room.
    """
    _check_rows(job)
    batch, seqlen_q, num_heads, _ = job.q.array.shape
    kv_heads, page = job.k_cache.array.shape[2], job.k_cache.array.shape[1]
    rotary = {name: job.extras.get(name) for name in ("rotary_cos", "rotary_sin")}
    given = {name: value for name, value in job.extras.items() if name not in rotary}
    sizes = Sizes(batch, num_heads, seqlen_q, page, kv_heads)
    arrays = take_extras(job.q, sizes, given)
    tables = _rotary_tables(job, rotary)
    paged = "block_table" in arrays
    capacity = arrays["block_table"].shape[1] * page if paged else page
    if isinstance(job.q.array, np.ndarray):
        _check_room(job, arrays, capacity, tables)
    library = library_of(job.q)
    after = library.empty((batch,), np.int32)
    rotated = library.empty(job.q.array.shape, job.q.array.dtype) if tables else None
    made = {"seqused_after": after}
    if rotated is not None:
        made["Q_rotated"] = rotated
    launched = _launch(job, {**arrays, **tables}, made, capacity, page if paged else 0)
    q = job.q if rotated is None else replace(job.q, array=rotated)
    return Appended(q, after, launched)


def _launch(
    job: Append, extras: Mapping[str, Any], made: Mapping[str, Any], capacity: int, page: int
) -> Launched | None:
    """Launch; ``made`` are the arrays that it writes beside the cache."""
    rotated = made.get("Q_rotated")
    q, k, v = job.q.array, job.k.array, job.v.array
    batch, new = q.shape[0], k.shape[1]
    rows = max(new, q.shape[1] if rotated is not None else 0)
    if batch * rows == 0:
        made["seqused_after"][...] = extras["seqused_k"]
        return None
    arrays = {"Q": q, "K_new": k, "V_new": v, "K": job.k_cache.array, "V": job.v_cache.array}
    values: dict[str, Any] = {}
    for field, name in zip(("q", "k_new", "v_new", "k", "v"), arrays, strict=True):
        values.update(strides(field, arrays[name], _AXES))
    arrays.update(extras)
    arrays.update(made)
    for name, axes in (("block_table", 1), ("k_descale", 2), ("v_descale", 2)):
        if name in extras:
            values.update(strides(name, extras[name], ("batch", "head")[:axes]))
    values.update(
        batch=batch,
        seqlen_q=q.shape[1],
        seqlen_new=new,
        num_heads=q.shape[2],
        num_kv_heads=k.shape[2],
        head_dim=k.shape[3],
        v_head_dim=v.shape[3],
        capacity=capacity,
        page_size=page,
        num_pages=job.k_cache.array.shape[0],
        positions=extras["rotary_cos"].shape[0] if rotated is not None else 0,
        rotary_dim=2 * extras["rotary_cos"].shape[1] if rotated is not None else 0,
        interleaved=job.rotary_interleaved,
        q_advances=job.q_advances,
    )
    format_ = job.q.spec("q").format
    defines = append_defines(format_.name if format_ else "", job.cache_format.name)
    kernel = OneKernel(FILE, ENTRY, "AppendParams", defines, batch * rows, THREADS)
    launch = kernel.run(arrays, values, {"K", "V", *made})
    return None if launch is None else Launched((launch,), arrays, made, int(q.device.id))


def _check_rows(job: Append) -> None:
    q, k, v = job.q.array, job.k.array, job.v.array
    wanted = (q.shape[0], k.shape[1] if k.ndim == 4 else 0, job.k_cache.array.shape[2])
    for name, array, cache in (("k", k, job.k_cache), ("v", v, job.v_cache)):
        if array.ndim != 4 or array.shape != (*wanted, cache.array.shape[3]):
            raise ProblemError(
                f"{name} has shape {array.shape}; (batch, seqlen_new, num_kv_heads, head_dim) = "
                f"{(wanted[0], 'any', wanted[2], cache.array.shape[3])} is wanted, as the cache has"
            )
        if array.dtype != q.dtype:
            raise ProblemError(f"{name} has dtype {array.dtype}; q's, {q.dtype}, is wanted")
        if array.shape[3] > 1 and array.strides[3] != array.dtype.itemsize:
            raise ProblemError(f"{name}: head_dim must be contiguous: copy it")
    for name, operand in (("k_cache", job.k_cache), ("v_cache", job.v_cache)):
        if isinstance(operand.array, np.ndarray) and not operand.array.flags.writeable:
            raise ProblemError(f"{name} is read-only and new rows are to be written to it")
    if job.extras.get("seqused_k") is None:
        raise ProblemError("cache_seqlens is None; where new keys go must be said")


def _rotary_tables(job: Append, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return cos and sin as float32 in q's place, or nothing."""
    if all(value is None for value in given.values()):
        return {}
    if any(value is None for value in given.values()):
        raise ProblemError("rotary_cos and rotary_sin go together; one of them is None")
    tables = {name: bring(name, value, job.q, np.float32) for name, value in given.items()}
    shapes = {table.shape for table in tables.values()}
    head_dim = job.q.array.shape[3]
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 2 or not 0 < 2 * shape[1] <= head_dim or not shape[0]:
        raise ProblemError(
            f"rotary_cos and rotary_sin have shapes {[t.shape for t in tables.values()]}; equal "
            f"ones, (positions, rotary_dim / 2) with rotary_dim up to {head_dim}, are wanted"
        )
    return tables


def _check_room(
    job: Append, arrays: Mapping[str, Any], capacity: int, tables: Mapping[str, Any]
) -> None:
    used, new = arrays["seqused_k"], job.k.array.shape[1]
    if used.size and used.max() + new > capacity:
        number = int(np.argmax(used))
        raise ProblemError(
            f"sequence {number} has {int(used[number])} keys and {new} are to be appended; its "
            f"part of the cache holds {capacity}: give it more pages"
        )
    rows = max(new, job.q.array.shape[1]) if job.q_advances else new
    if tables and used.size and used.max() + rows > tables["rotary_cos"].shape[0]:
        raise ProblemError(
            f"rotary_cos has {tables['rotary_cos'].shape[0]} positions and position "
            f"{int(used.max()) + rows - 1} is needed: make the table longer"
        )
