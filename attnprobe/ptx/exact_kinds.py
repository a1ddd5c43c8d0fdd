"""Which arithmetic a product instruction has, from its row: floats, fp8, f64 or integers.

An arithmetic takes raw bits of A (m, k, w), B (k, n, w) and C (m, n, w) and gives raw bits of D
(m, n, w), with w warps or tiles on the last axis. What is made of A and of B can be used again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from attnprobe.errors import UnsupportedError
from attnprobe.layouts import Instruction
from attnprobe.ptx import exact, exact_fma
from attnprobe.ptx.exact_chips import Chip, Rule, chip
from attnprobe.ptx.values import Array

_FLOAT_KINDS = {"f16": "16", "bf16": "16", "tf32": "tf32"}
_FP8 = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
_LEAST_EXPONENT = {"e4m3": -6, "e5m2": -14}
_INTEGERS = {"s8": (8, True), "u8": (8, False), "s4": (4, True), "u4": (4, False)}


class Arithmetic(Protocol):
    """What one instruction computes.

    Attributes
    ----------
    rule : of its floating-point steps; None where nothing is rounded, or each fma is.
    """

    @property
    def rule(self) -> Rule | None:
        """The rule of its steps."""

    def left(self, bits: Array) -> Any:
        """Return what is needed of A, raw (m, k, w)."""

    def right(self, bits: Array) -> Any:
        """Return what is needed of B, raw (k, n, w)."""

    def multiply(self, a: Any, b: Any, c: Array) -> Array:
        """Return D, raw, of what ``left`` and ``right`` gave and raw C, both (m, n, w)."""


@dataclass(frozen=True)
class Floats:
    """f16, bf16 and tf32."""

    form_a: str
    form_b: str
    rule: Rule

    def left(self, bits: Array) -> exact.Numbers:
        """Return A taken apart, (k, m, w)."""
        return exact.numbers(_k_first(bits), self.form_a, self.rule.flush)

    def right(self, bits: Array) -> exact.Numbers:
        """Return B taken apart, (k, n, w)."""
        return exact.numbers(np.ascontiguousarray(bits), self.form_b, self.rule.flush)

    def multiply(self, a: exact.Numbers, b: exact.Numbers, c: Array) -> Array:
        """Return D, raw bits of f32 or f16."""
        return exact.multiply(a, b, c, self.rule)


@dataclass(frozen=True)
class UnpackedFp8:
    """fp8 without a unit of its own: unpacked to f16, two products of half the k, then C added.

    The first product has bytes 0 and 1 of every register, the second bytes 2 and 3, so k is
    interleaved; C comes last, by an ordinary addition rounded to nearest.
    Source: the machine code that ptxas makes for sm_90.
    """

    form_a: str
    form_b: str
    rule: Rule
    interleaved: bool = True

    def left(self, bits: Array) -> list[exact.Numbers]:
        """Return the two halves of A, f16 taken apart, (k / 2, m, w)."""
        return self._halves(_k_first(bits), self.form_a)

    def right(self, bits: Array) -> list[exact.Numbers]:
        """Return the two halves of B, f16 taken apart, (k / 2, n, w)."""
        return self._halves(bits, self.form_b)

    def _halves(self, bits: Array, form: str) -> list[exact.Numbers]:
        wide = f16_of_fp8(form)[bits]
        k = np.arange(len(bits))
        low = k % 4 < 2 if self.interleaved else k < len(bits) // 2
        return [exact.numbers(wide[part], "f16", self.rule.flush) for part in (low, ~low)]

    def multiply(self, a: list[exact.Numbers], b: list[exact.Numbers], c: Array) -> Array:
        """Return D, raw bits of f32 or f16."""
        total = np.zeros_like(c)
        for left, right in zip(a, b, strict=True):
            total = exact.multiply(left, right, total, self.rule)
        dtype = np.float16 if self.rule.output == "f16" else np.float32
        with np.errstate(all="ignore"):
            return exact.bits_of(total.view(dtype) + c.view(dtype), self.rule.output)


@dataclass(frozen=True)
class NativeFp8(Floats):
    """fp8 with a unit of its own: the values are those of f16, the exponents those of fp8.

    f16 has the subnormals of e4m3 as normal numbers; here they keep e4m3's least exponent.
    """

    def left(self, bits: Array) -> exact.Numbers:
        """Return A taken apart, (k, m, w)."""
        return self._numbers(_k_first(bits), self.form_a)

    def right(self, bits: Array) -> exact.Numbers:
        """Return B taken apart, (k, n, w)."""
        return self._numbers(bits, self.form_b)

    def _numbers(self, bits: Array, form: str) -> exact.Numbers:
        wide = f16_of_fp8(form)[bits]
        return exact.numbers(wide, "f16", self.rule.flush, _LEAST_EXPONENT[form])


@dataclass(frozen=True)
class Doubles:
    """f64: a chain of fma in the order of k; the fields make other chains, as hypotheses."""

    rule: Rule | None = None
    reverse: bool = False
    fused: bool = True

    def left(self, bits: Array) -> Array:
        """Return A as float64, (k, m, w)."""
        return _k_first(bits).view(np.float64)

    def right(self, bits: Array) -> Array:
        """Return B as float64, (k, n, w)."""
        return np.ascontiguousarray(bits).view(np.float64)

    def multiply(self, a: Array, b: Array, c: Array) -> Array:
        """Return D, raw bits of f64."""
        step = -1 if self.reverse else 1
        start = np.ascontiguousarray(c).view(np.float64)
        with np.errstate(all="ignore"):
            total = exact_fma.multiply_f64(a[::step], b[::step], start, self.fused)
        bits: Array = np.ascontiguousarray(total).view(np.uint64)
        return bits


@dataclass(frozen=True)
class Integers:
    """8-, 4- and 1-bit integers: exact sums, which wrap, or stop at the ends of s32.

    Every sum of products stays below 2**24, so float32 matrix products are exact.
    """

    form_a: str
    form_b: str
    saturate: bool
    xor: bool = False
    rule: Rule | None = None

    def left(self, bits: Array) -> Array:
        """Return A as float32, (w, m, k)."""
        return _whole(bits, self.form_a, self.xor)

    def right(self, bits: Array) -> Array:
        """Return B as float32, (w, k, n)."""
        return _whole(bits, self.form_b, self.xor)

    def multiply(self, a: Array, b: Array, c: Array) -> Array:
        """Return D, raw bits of s32."""
        products = np.moveaxis(np.matmul(a, b), 0, -1).astype(np.int64)
        if self.xor:  # of signs: equal bits give 1, different bits -1
            products = (a.shape[-1] - products) // 2
        total = products + np.ascontiguousarray(c).view(np.int32)
        if self.saturate:
            total = np.clip(total, -(2**31), 2**31 - 1)
        bits: Array = (total & 0xFFFFFFFF).astype(np.uint32)
        return bits


def _whole(bits: Array, form: str, signs: bool) -> Array:
    values = np.moveaxis(bits, -1, 0).astype(np.int32)
    if form == "b1":
        return (2 * values - 1 if signs else values).astype(np.float32)
    width, signed = _INTEGERS[form]
    half = 1 << width - 1 if signed else 0
    whole: Array = ((values ^ half) - half).astype(np.float32)
    return whole


def _k_first(bits: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(bits, 0, 1))


def f16_of_fp8(form: str) -> Array:
    """Return the f16 bits of all 256 bytes of e4m3 or e5m2: uint16, exact; NaN is 0x7FFF."""
    with np.errstate(all="ignore"):
        values = np.arange(256, dtype=np.uint8).view(_FP8[form]).astype(np.float32)
        half = values.astype(np.float16)
    return np.where(np.isnan(half), np.uint16(0x7FFF), half.view(np.uint16))


def arithmetic(row: Instruction, cc: int = 90) -> Arithmetic:
    """Return the arithmetic of a dense product ``row`` on compute capability ``cc``.

    Raises
    ------
    UnsupportedError
        If it is not known to the bit; says why.
    """
    made = _arithmetic(row, chip(cc)) if row.family in ("mma", "wgmma") else None
    if made is None:
        raise UnsupportedError(
            f"{row.ptx}: its arithmetic is not known to the bit; run it with mma='fast'"
        )
    return made


def known(row: Instruction, cc: int = 90) -> bool:
    """Return whether ``arithmetic`` knows ``row``."""
    try:
        arithmetic(row, cc)
    except UnsupportedError:
        return False
    return True


def _arithmetic(row: Instruction, unit: Chip) -> Arithmetic | None:
    if set(row.by_name) != set("ABCD"):
        return None
    a, b, c, d = (row[name].format.ptx for name in "ABCD")
    words = row.ptx.split(".")
    if c != d or row.min_cc > unit.cc:
        return None
    if d == "f64":
        return Doubles()
    if d == "s32":
        return Integers(a, b, "satfinite" in words, "xor" in words)
    if d not in ("f32", "f16") or row.shape == (8, 8, 4):  # m8n8k4 of f16 is no tensor-core product
        return None
    if a in _FP8:
        if row.family == "wgmma":
            return NativeFp8(a, b, unit.rule("group fp8", d))
        if unit.fp8 == "f16":
            rule = unit.rule("16", d)
            return UnpackedFp8(a, b, replace(rule, block=min(rule.block, row.shape[2] // 2)))
        return NativeFp8(a, b, unit.rule("fp8", d))
    if a in _FLOAT_KINDS:
        return Floats(a, b, unit.rule(_FLOAT_KINDS[a], d))
    return None
