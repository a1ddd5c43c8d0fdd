"""From the call of a case to what a scene calls, and what must come of it.

That is the call as it is, one with bytes for K and V, one with rows that are appended to the cache,
or two results that are merged. What must come back is worked out here once more and by other means
than the kernels': a cache of bytes by NumPy's casts, a rotation by quarter turns (so that it is
exact in every format), the two sides of a merge in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.engine.api import attention
from attnprobe.engine.merge import merge_states
from attnprobe.engine.paged import attention_paged
from attnprobe.engine.varlen import attention_varlen
from attnprobe.numerics.calls import Call, Part
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Array, Features
from attnprobe.numerics.reference import attention as exact_attention

# By the name that a Call gives.
ENTRIES: Mapping[str, Callable[..., Any]] = {
    call.__name__: call for call in (attention, attention_varlen, attention_paged)
}
# What a byte of the cache is worth, by K/V head: a power of two, so that values stay exact.
SCALES = {"e4m3": (0.5, 1.0, 0.25, 2.0), "int8": (0.0625, 0.03125, 0.125, 0.0625)}
V_SCALES = {"e4m3": (1.0, 0.25, 2.0, 0.5), "int8": (0.03125, 0.0625, 0.0625, 0.125)}
POSITIONS = 200  # rows of the rotary tables


@dataclass(frozen=True, eq=False)
class Staged:
    """What is called, and what must come of it.

    Attributes
    ----------
    call : judges O and LSE.
    entry : the callable; takes ``arguments``, and ``out`` and ``return_lse`` where ``takes_out``.
    arguments : NumPy arrays among them.
    kept : argument -> what it must hold after the call.
    takes_out : whether O is written to an array that is handed over.
    """

    call: Call
    entry: Callable[..., Any]
    arguments: Mapping[str, Any]
    kept: Mapping[str, Array] = field(default_factory=dict)
    takes_out: bool = True


def as_it_is(call: Call) -> Staged:
    """The case's own call."""
    return Staged(call, ENTRIES[call.entry], call.arguments())


# --- bytes ----------------------------------------------------------------------------------------


def of_bytes(kv_format: str) -> Callable[[Call], Staged]:
    """K and V as bytes of ``kv_format``, with another descale for each head and batch entry."""

    def staged(call: Call) -> Staged:
        part = call.parts[0]
        arguments: dict[str, Any] = {**call.arguments(), "kv_format": kv_format}
        question = replace(part.question, checks=())
        for name, values in (("k", part.question.k), ("v", part.question.v)):
            scales = _scales(kv_format, name, values.shape[0], values.shape[2])
            each = scales[:, None, :, None]
            stored = _bytes(np.ascontiguousarray(values), each, kv_format)
            arguments |= {name: stored, f"{name}_descale": scales}
            question = _with(question, name, _worth(stored, each, kv_format, values.dtype))
        return Staged(replace(call, parts=(Part(question),)), ENTRIES[call.entry], arguments)

    return staged


def _with(question: Question, name: str, array: Array) -> Question:
    """Return the question with another K or V."""
    return replace(question, k=array) if name == "k" else replace(question, v=array)


def _scales(kv_format: str, name: str, batch: int, heads: int) -> npt.NDArray[np.float32]:
    """Return descales (batch, heads): those of the next entry begin one further on."""
    row = np.array((SCALES if name == "k" else V_SCALES)[kv_format], np.float32)
    return np.stack([np.roll(row, -i)[:heads] for i in range(batch)])


def _bytes(values: Array, scales: Array, kv_format: str) -> npt.NDArray[np.uint8]:
    """Return the nearest byte of values / scales: e4m3 is cut to +-448, int8 to -128 ... 127."""
    exact = values.astype(np.float32) / scales
    if kv_format == "e4m3":
        stored = np.clip(exact, -448.0, 448.0).astype(ml_dtypes.float8_e4m3fn)
    else:
        stored = np.clip(np.rint(np.nan_to_num(exact, nan=0.0)), -128, 127).astype(np.int8)
    return stored.view(np.uint8)


def _worth(stored: npt.NDArray[np.uint8], scales: Array, kv_format: str, dtype: Any) -> Array:
    """Return what bytes are worth, in a format that has every such value."""
    plain = stored.view(ml_dtypes.float8_e4m3fn if kv_format == "e4m3" else np.int8)
    worth: Array = (plain.astype(np.float32) * scales).astype(dtype)
    return worth


# --- rows that are appended -----------------------------------------------------------------------


def appended(
    rows: int, rotary_dim: int, *, interleaved: bool = False, kv_format: str = ""
) -> Callable[[Call], Staged]:
    """The last ``rows`` keys and values of each sequence are appended; they and Q are rotated.

    The rotation of pair i at position p is by a quarter of a turn, 3 p + 5 i times.
    """

    def staged(call: Call) -> Staged:
        turns = np.add.outer(3 * np.arange(POSITIONS), 5 * np.arange(rotary_dim // 2)) % 4
        tables = {
            "rotary_cos": np.array([1, 0, -1, 0], np.float32)[turns],
            "rotary_sin": np.array([0, 1, 0, -1], np.float32)[turns],
        }
        lengths = call.arrays["cache_seqlens"]
        before = (lengths - rows).astype(np.int32)
        arguments: dict[str, Any] = {**call.arguments(), **tables, "cache_seqlens": before}
        arguments["rotary_interleaved"] = interleaved
        parts: list[Part] = []
        new: dict[str, list[Array]] = {"k": [], "v": []}
        for part, first in zip(call.parts, before, strict=True):
            question = part.question
            positions = first + np.arange(rows)
            for name, values in (("k", question.k), ("v", question.v)):
                new[name].append(np.ascontiguousarray(values[0, -rows:]))
            turn = _Rotation(tables["rotary_cos"], tables["rotary_sin"], interleaved)
            k = question.k.copy()
            k[0, -rows:] = turn(k[0, -rows:], positions)
            q = turn(question.q[0], first + np.arange(question.q.shape[1]))[None]
            parts.append(replace(part, question=replace(question, q=q, k=k, checks=())))
        arguments |= {name: np.stack(each) for name, each in new.items()}
        caches, kept, parts = _caches(call, parts, rows, kv_format)
        arguments |= caches
        if kv_format:
            arguments["kv_format"] = kv_format
        whole = replace(call, parts=tuple(parts))
        return Staged(whole, attention_paged, arguments, kept)

    return staged


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The rotary embedding of rows (rows, heads, width) at their positions, in float32."""

    cos: Array
    sin: Array
    interleaved: bool

    def __call__(self, rows: Array, positions: Array) -> Array:
        dim = 2 * self.cos.shape[1]
        halves = slice(0, dim, 2), slice(1, dim, 2)
        if not self.interleaved:
            halves = slice(0, dim // 2), slice(dim // 2, dim)
        first, second = (rows[..., half].astype(np.float32) for half in halves)
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        turned = rows.copy()
        with np.errstate(invalid="ignore"):  # infinity times 0
            turned[..., halves[0]] = (first * cos - second * sin).astype(rows.dtype)
            turned[..., halves[1]] = (second * cos + first * sin).astype(rows.dtype)
        return turned


def _caches(
    call: Call, parts: list[Part], rows: int, kv_format: str
) -> tuple[dict[str, Any], dict[str, Array], list[Part]]:
    """Return the arguments of the caches, what they must hold afterwards, and the judged parts.

    Every page but those of the new rows holds what it held; the new rows hold garbage before.
    """
    table = call.arrays.get("block_table")
    arguments: dict[str, Any] = {}
    kept: dict[str, Array] = {}
    for name in ("k", "v"):
        cache = call.arrays[f"{name}_cache"].copy()
        batch, heads = len(parts), cache.shape[2]
        scales = np.ones((batch, heads), np.float32)
        if kv_format:
            scales = _scales(kv_format, name, batch, heads)
            arguments[f"{name}_descale"] = scales
            cache = _bytes(cache, np.ones(1, np.float32), kv_format)
        after, size = cache.copy(), cache.shape[1]
        for i, part in enumerate(parts):
            values = getattr(part.question, name)
            if kv_format:
                stored = _bytes(values[0], scales[i][:, None], kv_format)
                worth = _worth(stored, scales[i][:, None], kv_format, values.dtype)
                parts[i] = replace(part, question=_with(part.question, name, worth[None]))
            else:
                stored = values[0]
            for key, row in enumerate(stored):
                entry = i if table is None else table[i, key // size]
                after[entry, key if table is None else key % size] = row
                if key < len(stored) - rows:
                    cache[entry, key if table is None else key % size] = row
        arguments[f"{name}_cache"], kept[f"{name}_cache"] = cache, after
    return arguments, kept, parts


# --- two results that are merged ------------------------------------------------------------------


def halves(cut: int, out_dtype: Any = None) -> Callable[[Call], Staged]:
    """The keys before ``cut`` and the others are attended to apart, in float64, and merged.

    Rows that see none of a side's keys have NaN there, which must not be looked at.
    """

    def staged(call: Call) -> Staged:
        part = call.parts[0]
        question = replace(part.question, checks=(), out_dtype=out_dtype)
        dtype = out_dtype or question.q.dtype
        arguments: dict[str, Any] = {}
        for side, keys in (("a", slice(0, cut)), ("b", slice(cut, None))):
            features = _of_keys(question.features, cut if side == "b" else 0)
            k, v = question.k[:, keys], question.v[:, keys]
            O, LSE = exact_attention(question.q, k, v, features)
            O = np.where(np.isneginf(LSE).transpose(0, 2, 1)[..., None], np.nan, O)
            arguments[f"o_{side}"] = O.astype(dtype)
            arguments[f"lse_{side}"] = LSE.astype(np.float32)
        # The second side has its heads outside, and its LSE the rows.
        arguments["o_b"] = _moved(arguments["o_b"], (0, 2, 1, 3))
        arguments["lse_b"] = _moved(arguments["lse_b"], (0, 2, 1))
        whole = replace(call, parts=(Part(question),))
        return Staged(whole, merge_states, arguments, takes_out=False)

    return staged


def _of_keys(features: Features, first: int) -> Features:
    if features.q_offset is None:
        return features
    return replace(features, q_offset=features.q_offset - first)


def _moved(array: Array, order: tuple[int, ...]) -> Array:
    """Return the same array with its memory in another order of axes."""
    return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
