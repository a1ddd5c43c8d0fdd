"""Number formats of matrix operands: one row each, with how its bits become float64 and back.

An element lies in a *slot*: the stretch of a register that is its own. Most formats fill their
slot. Three kinds do not: tf32 is the upper 19 bits of 32; the 6-bit formats are the lower 6 bits of
a byte and e2m1 its bits 2 to 5 where an instruction takes them in 8-bit containers
(``.kind::f8f6f4``, ``.kind::mxf8f6f4``); and the same e2m1 fills a slot of 4 bits elsewhere. So a
format is a PTX type *in a kind of slot*, and two rows may share a ``ptx`` name.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.frozen import dataclass

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    """One operand type as PTX names it, in one kind of slot.

    Attributes
    ----------
    name : the PTX type, with ``_c8`` behind it for 8-bit containers: ``f16``, ``e2m1_c8``. Unique.
    bits : width of the slot of one element in a register.
    dtype : the NumPy dtype of the value.
    c_type : the type that kernels use for it in memory; "" where they hold whole registers only.
    value_bits : width of the value in the slot; 0 stands for ``bits``.
    shift : bit of the slot at which the value begins. Other bits are ignored and written as 0.
    kind : "float", "int", or "bits" for what is moved or looked up but is no number.
    ptx : the PTX type without the dot; "" stands for ``name``.
    """

    name: str
    bits: int
    dtype: np.dtype[Any]
    c_type: str
    value_bits: int = 0
    shift: int = 0
    kind: str = "float"
    ptx: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value_bits", self.value_bits or self.bits)
        object.__setattr__(self, "ptx", self.ptx or self.name)

    @cached_property
    def storage(self) -> np.dtype[Any]:
        """Smallest unsigned integer dtype that holds a slot: raw bits."""
        return np.dtype(f"u{max(1, self.bits // 8)}")

    @property
    def per_register(self) -> int:
        """Elements in one register: of 32 bits, or of one element where it is wider (f64)."""
        return max(1, 32 // self.bits)

    @property
    def words(self) -> int:
        """32-bit words in one register: 1, or 2 for f64."""
        return max(1, self.bits // 32)

    @property
    def constraint(self) -> str:
        """The letter of an asm operand that passes one register as raw bits: ``r``; f64: ``d``."""
        return "d" if self.bits == 64 else "r"

    @property
    def fills_slot(self) -> bool:
        """Whether the value is the whole slot."""
        return self.value_bits == self.bits

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers, added without rounding."""
        return self.kind == "int"

    def decode(self, bits: Array) -> npt.NDArray[np.float64]:
        """Return the values of raw slots (any unsigned dtype wide enough) as float64."""
        raw = np.ascontiguousarray(bits.astype(self.storage, copy=False))
        with np.errstate(invalid="ignore"):  # a signalling NaN is a value like any other here
            return self._value(raw).astype(np.float64)

    def encode(self, values: Array) -> Array:
        """Return raw slots (``storage`` dtype) of ``values`` rounded to the nearest even.

        What an integer format cannot hold becomes the nearest value that it can.
        """
        if self.kind != "float":
            return self._encode_integers(np.asarray(values))
        rounded = np.ascontiguousarray(np.asarray(values).astype(self.dtype))
        raw: Array = rounded.view(self.storage)
        if self.fills_slot:
            return raw
        if self.bits == 32:
            return _round_to_upper(raw, self.shift)
        placed: Array = raw << self._shift
        return placed

    def pack(self, slots: Array) -> npt.NDArray[np.uint32]:
        """Return raw slots (..., n) as words: uint32, (..., n * bits / 32), slot 0 the lowest."""
        raw = np.ascontiguousarray(slots.astype(self.storage, copy=False))
        if self.bits >= 8:
            return raw.view("<u4").astype(np.uint32, copy=False)
        parts = raw.reshape(*raw.shape[:-1], -1, self.per_register).astype(np.uint32)
        packed: npt.NDArray[np.uint32] = np.bitwise_or.reduce(parts << self._places, axis=-1)
        return packed

    def unpack(self, words: npt.NDArray[np.uint32]) -> Array:
        """Return words (..., w) as raw slots (..., w * 32 / bits): ``pack`` undone."""
        raw = np.ascontiguousarray(words.astype("<u4", copy=False))
        if self.bits >= 8:
            return raw.view(self.storage)
        parts = raw[..., None] >> self._places & np.uint32(2**self.bits - 1)
        slots: Array = parts.astype(self.storage).reshape(*raw.shape[:-1], -1)
        return slots

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest value of an integer format.

        Raises
        ------
        ValueError
            For a floating-point format.
        """
        if self.kind == "float":
            raise ValueError(f"{self.name} is a floating-point format")
        if self.signed:
            return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        return 0, int(2**self.bits) - 1

    @property
    def signed(self) -> bool:
        """Whether it has negative values."""
        return self.ptx[0] == "s" or (self.kind == "float" and not self.ptx.startswith("u"))

    @property
    def _shift(self) -> Any:
        return self.storage.type(self.shift)

    @property
    def _places(self) -> npt.NDArray[np.uint32]:
        return np.arange(0, 32, self.bits, dtype=np.uint32)

    def _value(self, raw: Array) -> Array:
        if self.kind != "float":
            return self._integer(raw)
        if self.bits == 32 and not self.fills_slot:  # the upper part of a float of that width
            raw = raw >> self._shift << self._shift
        elif not self.fills_slot:
            raw = raw >> self._shift & self.storage.type(2**self.value_bits - 1)
        return raw.view(self.dtype)

    def _integer(self, raw: Array) -> Array:
        value: Array = raw.astype(np.int64) & (2**self.bits - 1)
        half = 2 ** (self.bits - 1) if self.signed else 0
        signed: Array = (value ^ half) - half
        return signed

    def _encode_integers(self, values: Array) -> Array:
        low, high = self.limits
        rounded = np.rint(values) if values.dtype.kind == "f" else values
        held: Array = np.clip(rounded, low, high).astype(np.int64) & (2**self.bits - 1)
        return held.astype(self.storage)


def _round_to_upper(raw: Array, dropped: int) -> Array:
    """Round 32-bit floats to their upper bits, ties to even; NaN keeps its upper bits."""
    one = np.uint32(1)
    half = np.uint32(2 ** (dropped - 1) - 1) + (raw >> np.uint32(dropped) & one)
    nan = (raw & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    kept: Array = np.where(nan, raw | np.uint32(0x00400000), raw + half)
    upper: Array = kept >> np.uint32(dropped) << np.uint32(dropped)
    return upper


def _float(name: str, bits: int, dtype: npt.DTypeLike, c_type: str = "", **more: Any) -> Format:
    return Format(name, bits, np.dtype(dtype), c_type, **more)


def _int(name: str, bits: int, dtype: npt.DTypeLike, c_type: str = "") -> Format:
    return Format(name, bits, np.dtype(dtype), c_type, kind="int")


def _bits(name: str, bits: int, dtype: npt.DTypeLike = np.uint8, c_type: str = "") -> Format:
    return Format(name, bits, np.dtype(dtype), c_type, kind="bits")


# Source: PTX ISA 9.1, 5.2.3 "Alternate Floating-Point Data Formats", 9.7.14.2 "Matrix Data-types";
# where the narrow values lie in a byte: 9.7.14.5.1 ".f8f6f4"; OCP Microscaling Formats 1.0.
FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        _float("f16", 16, np.float16, "f16_t"),
        _float("bf16", 16, ml_dtypes.bfloat16, "bf16_t"),
        _float("f32", 32, np.float32, "float"),
        _float("tf32", 32, np.float32, "float", value_bits=19, shift=13),
        _float("f64", 64, np.float64, "double"),
        _float("e4m3", 8, ml_dtypes.float8_e4m3fn, "e4m3_t"),
        _float("e5m2", 8, ml_dtypes.float8_e5m2),
        _float("e3m2_c8", 8, ml_dtypes.float6_e3m2fn, value_bits=6, ptx="e3m2"),
        _float("e2m3_c8", 8, ml_dtypes.float6_e2m3fn, value_bits=6, ptx="e2m3"),
        _float("e2m1_c8", 8, ml_dtypes.float4_e2m1fn, value_bits=4, shift=2, ptx="e2m1"),
        _float("e2m1", 4, ml_dtypes.float4_e2m1fn),
        _float("ue8m0", 8, ml_dtypes.float8_e8m0fnu),
        _float("ue4m3", 8, ml_dtypes.float8_e4m3fn, value_bits=7),
        _int("s8", 8, np.int8, "s8_t"),
        _int("u8", 8, np.uint8),
        _int("s4", 4, ml_dtypes.int4),
        _int("u4", 4, ml_dtypes.uint4),
        _int("b1", 1, ml_dtypes.uint1),
        _int("s32", 32, np.int32, "int"),
        _bits("b16", 16, np.uint16, "u16_t"),
        _bits("b8", 8),
        # What sparse instructions look elements up with: two bits each, of tf32 four.
        _bits("index2", 2),
        _bits("index4", 4),
    )
}


def of_dtype(dtype: npt.DTypeLike) -> Format | None:
    """Return the format whose bytes ``dtype`` has, or None."""
    wanted = np.dtype(dtype)
    fitting = (row for row in FORMATS.values() if row.dtype == wanted and row.fills_slot)
    return next((row for row in fitting if row.bits == 8 * wanted.itemsize), None)
