"""How register values are kept: NumPy arrays over (warps, 32 lanes), and the codes of their dtypes.

A value is an array that broadcasts to (warps, 32): (1, 1) where all lanes agree, (1, 32) where all
warps do, (warps, 1) where all lanes of a warp do. Values are never written in place, so a move is
an alias. Predicates are bool.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LANES = 32

# Code -> dtype. The codes are what the generator reasons with.
DTYPES: dict[str, np.dtype[Any]] = {
    "p": np.dtype(bool),
    "u1": np.dtype(np.uint8), "i1": np.dtype(np.int8),
    "u2": np.dtype(np.uint16), "i2": np.dtype(np.int16), "f2": np.dtype(np.float16),
    "u4": np.dtype(np.uint32), "i4": np.dtype(np.int32), "f4": np.dtype(np.float32),
    "u8": np.dtype(np.uint64), "i8": np.dtype(np.int64), "f8": np.dtype(np.float64),
}  # fmt: skip

# PTX type -> code. Packed and 16-bit float types are kept as raw bits.
TYPE_CODES: dict[str, str] = {
    "pred": "p",
    "b8": "u1", "u8": "u1", "s8": "i1",
    "b16": "u2", "u16": "u2", "s16": "i2", "f16": "u2", "bf16": "u2",
    "b32": "u4", "u32": "u4", "s32": "i4", "f32": "f4", "f16x2": "u4", "bf16x2": "u4",
    "tf32": "u4",
    "b64": "u8", "u64": "u8", "s64": "i8", "f64": "f8",
}  # fmt: skip

TYPE_BITS: dict[str, int] = {
    name: (1 if code == "p" else 8 * DTYPES[code].itemsize) for name, code in TYPE_CODES.items()
}

RAW_CODES: dict[int, str] = {1: "p", 8: "u1", 16: "u2", 32: "u4", 64: "u8"}

# What a register, or memory that nothing wrote, holds: a NaN in every float format.
POISON_BYTE = 0xFF


def bits_of(code: str) -> int:
    """Return the width of ``code`` in bits (8 for a predicate, which is stored in a byte)."""
    return 8 * DTYPES[code].itemsize


def is_float(code: str) -> bool:
    """Whether ``code`` is a floating-point dtype."""
    return code[0] == "f"


def constant(value: int, code: str) -> Array:
    """Return the raw bits ``value`` as a (1, 1) array of ``code``."""
    if code == "p":
        return frozen(np.full((1, 1), bool(value)))
    size = DTYPES[code].itemsize
    raw = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return frozen(np.frombuffer(raw, DTYPES[code]).reshape(1, 1))


@cache
def poison(code: str) -> Array:
    """Return the (1, 1) value of a register that nothing wrote."""
    if code == "p":
        return constant(0, "p")
    return constant(int.from_bytes(bytes([POISON_BYTE]) * DTYPES[code].itemsize, "little"), code)


def frozen(array: Array) -> Array:
    """Return ``array``, made read-only."""
    array.setflags(write=False)
    return array


def spread(value: Array, warps: int) -> Array:
    """Return ``value`` as a (warps, 32) view."""
    if value.shape == (warps, LANES):
        return value
    return np.broadcast_to(value, (warps, LANES))


def pick(condition: Array, yes: Array, no: Array) -> Array:
    """Return ``yes`` where ``condition`` holds and ``no`` elsewhere."""
    if condition.shape == (1, 1):
        return yes if condition[0, 0] else no
    return np.where(condition, yes, no)
