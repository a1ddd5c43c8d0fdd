"""Number formats of matrix operands: one row each, with how its bits become float64 and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    """One operand type as PTX names it.

    Attributes
    ----------
    name : PTX type without the dot: ``f16``, ``bf16``, ``f32``, ...
    bits : width of one element in a register.
    dtype : the NumPy dtype whose bytes are the format's bytes.
    c_type : the type that kernels use for it in memory.
    """

    name: str
    bits: int
    dtype: np.dtype[Any]
    c_type: str

    @property
    def storage(self) -> np.dtype[Any]:
        """Unsigned integer dtype of the same width: raw bits."""
        return np.dtype(f"u{self.bits // 8}")

    @property
    def per_register(self) -> int:
        """Elements in one 32-bit register (1 for 32-bit formats)."""
        return max(1, 32 // self.bits)

    def decode(self, bits: Array) -> npt.NDArray[np.float64]:
        """Return the values of raw ``bits`` (any unsigned dtype wide enough) as float64."""
        raw = np.ascontiguousarray(bits.astype(self.storage, copy=False))
        return raw.view(self.dtype).astype(np.float64)

    def encode(self, values: Array) -> Array:
        """Return raw bits (``storage`` dtype) of ``values`` rounded to the nearest even."""
        rounded = np.ascontiguousarray(np.asarray(values).astype(self.dtype))
        return rounded.view(self.storage)


def _row(name: str, bits: int, dtype: npt.DTypeLike, c_type: str) -> Format:
    return Format(name, bits, np.dtype(dtype), c_type)


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        _row("f16", 16, np.float16, "f16_t"),
        _row("bf16", 16, ml_dtypes.bfloat16, "bf16_t"),
        _row("f32", 32, np.float32, "float"),
        _row("b16", 16, np.uint16, "u16_t"),
    )
}


def of_dtype(dtype: npt.DTypeLike) -> Format | None:
    """Return the format whose bytes ``dtype`` has, or None."""
    wanted = np.dtype(dtype)
    return next((row for row in FORMATS.values() if row.dtype == wanted), None)
