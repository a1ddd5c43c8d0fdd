"""Floating-point products to the bit, as a tensor core adds them: blocks of terms cut at one place.

Matrices keep their warps (or tiles) on the last axis, so that NumPy's inner loops are long: A is
(k, m, w), B is (k, n, w), C and D are (m, n, w). Terms are float64 that hold whole numbers of the
cut's unit; their sums stay below 2**53, so nothing is rounded before the rule says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.exact_chips import Rule
from attnprobe.ptx.values import Array

NO_EXPONENT = -16000  # of a zero: two of them still fit into int16
SLAB = 1 << 14  # elements of one temporary: what a core's cache holds
WIDTH = 128  # warps taken at once

_MANTISSA = {"f16": 10, "bf16": 7, "tf32": 10, "f32": 23}
_LEAST_EXPONENT = {"f16": -14, "bf16": -126, "tf32": -126, "f32": -126}
_CUT29 = np.uint64(0xFFFFFFFFE0000000)  # a float64 with the 23 fraction bits of a float32
_NAN32, _NAN16 = np.uint32(0x7FFFFFFF), np.uint16(0x7FFF)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Floating-point numbers taken apart.

    Attributes
    ----------
    values : float64; 0 where the number is NaN or infinite.
    exponents : int16; of the leading digit's place, at least the format's least exponent (a
        subnormal is not normalised); NO_EXPONENT of zeros, NaN and infinities.
    raw : float64 with NaN and infinities in their places; None if there are none.
    """

    values: Array
    exponents: Array
    raw: Array | None


def numbers(bits: Array, form: str, flush: bool = False, least: int | None = None) -> Numbers:
    """Return raw ``bits`` of format f16, bf16, tf32 or f32 taken apart.

    ``least`` is the least exponent, where the numbers come from a narrower format than ``form``.
    """
    values = _values(bits, form)
    least = _LEAST_EXPONENT[form] if least is None else least
    field = values.view(np.int64) >> 52 & 0x7FF
    exponents = np.maximum(field - 1023, least).astype(np.int16)
    if flush:
        values = np.where(np.abs(values) < 2.0**least, 0.0, values)
    raw = None
    if (field == 0x7FF).any():
        raw = values
        values = np.where(field == 0x7FF, 0.0, values)
    exponents[values == 0] = NO_EXPONENT
    return Numbers(values, exponents, raw)


def _values(bits: Array, form: str) -> Array:
    if form == "f16":
        return bits.view(np.float16).astype(np.float64)
    if form == "bf16":
        return numeric.bf16_to_f32(bits).astype(np.float64)
    if form == "tf32":
        bits = bits & np.uint32(0xFFFFE000)  # the unit does not see the 13 low bits
    return bits.view(np.float32).astype(np.float64)


def multiply(a: Numbers, b: Numbers, c: Array, rule: Rule) -> Array:
    """Return A B + C as ``rule`` says: raw bits of its output format, uint32 or uint16, (m, n, w).

    Parameters
    ----------
    a, b : (k, m, w) and (k, n, w).
    c : raw bits of the output format, (m, n, w).
    """
    out = np.empty_like(c)
    for first in range(0, c.shape[-1], WIDTH):
        part = slice(first, first + WIDTH)
        out[..., part] = _all_blocks(_part(a, part), _part(b, part), c[..., part], rule)
    return out


def _part(x: Numbers, part: slice) -> Numbers:
    raw = None if x.raw is None else x.raw[..., part]
    return Numbers(x.values[..., part], x.exponents[..., part], raw)


def _all_blocks(a: Numbers, b: Numbers, c: Array, rule: Rule) -> Array:
    for first in range(0, len(a.values), rule.block):
        steps = slice(first, first + rule.block)
        c = _step(_steps(a, steps), _steps(b, steps), c, rule)
    return c


def _steps(x: Numbers, steps: slice) -> Numbers:
    return Numbers(x.values[steps], x.exponents[steps], None if x.raw is None else x.raw[steps])


def _step(a: Numbers, b: Numbers, c_bits: Array, rule: Rule) -> Array:
    """Return one block's result: raw bits."""
    c = numbers(np.ascontiguousarray(c_bits), rule.output, rule.flush)
    total = _aligned_sum(a, b, None if rule.late_c else c, rule)
    if rule.late_c:
        total = converted(total, rule).astype(np.float64) + c.values
    result = converted(total, rule)
    if a.raw is not None or b.raw is not None or c.raw is not None:
        result = _with_specials(result, a, b, c)
    return bits_of(result, rule.output)


def _aligned_sum(a: Numbers, b: Numbers, c: Numbers | None, rule: Rule) -> Array:
    """Return the exact sum of the cut terms: float64, (m, n, w)."""
    top = _top_exponent(a, b, c, rule)
    unit = top.astype(np.int64) - rule.fraction  # exponent of the last place that is kept
    up = (1023 - unit << 52).view(np.float64)
    total = _cut(c.values * up, rule.terms) if c is not None else np.zeros(up.shape)
    step = max(1, SLAB // up.size)
    for first in range(0, len(a.values), step):
        terms = a.values[first : first + step, :, None] * b.values[first : first + step, None]
        terms *= up
        terms = _cut(terms, rule.terms)
        total += terms[0] if len(terms) == 1 else np.add.reduce(terms, axis=0)
    total *= (1023 + unit << 52).view(np.float64)
    return total


def _cut(terms: Array, how: str) -> Array:
    function = {"truncate": np.trunc, "nearest": np.rint, "floor": np.floor}[how]
    cut: Array = function(terms, out=terms)
    return cut


def _top_exponent(a: Numbers, b: Numbers, c: Numbers | None, rule: Rule) -> Array:
    """Return the exponent that all terms are aligned to: int16, (m, n, w)."""
    top = np.full((*a.exponents.shape[1:2], *b.exponents.shape[1:]), NO_EXPONENT, np.int16)
    if c is not None:
        np.maximum(top, c.exponents, out=top)
    step = max(1, 4 * SLAB // top.size)
    for first in range(0, len(a.exponents), step):
        sums = a.exponents[first : first + step, :, None] + b.exponents[first : first + step, None]
        np.maximum(top, sums[0] if len(sums) == 1 else sums.max(axis=0), out=top)
        if rule.zero_exponent is not None:
            zero = (sums < NO_EXPONENT // 2).any(axis=0)
            np.maximum(top, np.int16(rule.zero_exponent), out=top, where=zero)
    # With no bound, the exponent of the least product there is (and -1000 where all terms are 0).
    return np.maximum(top, np.int16(-900 if rule.emin is None else rule.emin))


def converted(total: Array, rule: Rule) -> Array:
    """Return float64 sums as float32 or float16 of the output format, rounded as ``rule`` says."""
    if rule.output == "f16":
        result = total.astype(np.float16)
        least = 2.0**-14
    elif rule.final == "nearest":
        result = total.astype(np.float32)
        least = 2.0**-126
    else:
        result = truncated_f32(total, rule.result_bits)
        least = 2.0**-126
    if rule.flush:
        result = np.where(np.abs(result) < least, result.dtype.type(0), result)
    # A zero is +0: an exact one, and a negative sum that is too small to stay.
    return result + result.dtype.type(0)


def truncated_f32(x: Array, bits: int = 23) -> Array:
    """Return float64 ``x`` cut toward zero to float32 with ``bits`` fraction bits."""
    mask = _CUT29 if bits == 23 else np.uint64(0xFFFFFFFFFFFFFFFF << (52 - bits) & (1 << 64) - 1)
    cut = (x.view(np.uint64) & mask).view(np.float64)
    small = np.abs(x) < 2.0**-126
    if small.any():
        last = 126 + bits
        cut = np.where(small, np.trunc(x * 2.0**last) * 2.0**-last, cut)
    return cut.astype(np.float32)


def _with_specials(result: Array, a: Numbers, b: Numbers, c: Numbers) -> Array:
    """Return ``result`` with NaN and infinity where a term is one.

    Any NaN, 0 * inf and inf - inf give NaN: what the float64 sum of the terms is, since it is
    infinite or NaN exactly there (the products of finite terms are far from its range).
    """
    total = c.values if c.raw is None else c.raw
    left = a.values if a.raw is None else a.raw
    right = b.values if b.raw is None else b.raw
    for x, y in zip(left, right, strict=True):
        total = total + x[:, None] * y[None]
    return np.where(np.isfinite(total), result, total.astype(result.dtype))


def bits_of(x: Array, output: str) -> Array:
    """Return float32 or float16 numbers as raw bits, with the NaN that tensor cores give."""
    if output == "f16":
        return np.where(np.isnan(x), _NAN16, x.view(np.uint16))
    raw = x.view(np.uint32)
    nan = np.isnan(x)
    return np.where(nan, _NAN32, raw) if nan.any() else raw
