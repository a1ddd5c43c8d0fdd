"""Floating-point arithmetic that NumPy has not: fused multiply-add, flushing, 16-bit formats.

float32 values are computed in float32 where NumPy's operation rounds once (add, mul, div, sqrt). A
fused multiply-add is computed in float64, where the product of two float32 is exact; its sum is
rounded to odd where a second rounding could go wrong.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from attnprobe.ptx.values import Array

_SIGN = np.uint32(0x80000000)
_TINY = np.float32(2.0**-126)
_LOW29 = np.uint64((1 << 29) - 1)
_HALF29 = np.uint64(1 << 28)
_CANONICAL_NAN = np.uint32(0x7FFFFFFF)


def flush(x: Array) -> Array:
    """Return float32 ``x`` with subnormals replaced by zeros of their sign."""
    magnitude = np.abs(x)
    normal = magnitude >= _TINY
    if normal.all():
        return x
    small = ~normal & (magnitude > 0)
    if not small.any():
        return x
    return np.where(small, np.copysign(np.float32(0), x), x)


def saturate(x: Array) -> Array:
    """Return ``x`` clamped to [0, 1]; NaN becomes +0."""
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    result: Array = np.where(x > zero, np.minimum(x, one), zero)
    return result


def fma_f32(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c rounded once to nearest even: float32."""
    product = np.multiply(a, b, dtype=np.float64)  # exact: 24 + 24 bits
    total = product + c
    # The second rounding errs only where the float64 sum lies on the middle between two float32
    # and was
    # itself rounded, or where the result is subnormal in float32 and has fewer bits.
    tie = (total.view(np.uint64) & _LOW29) == _HALF29
    if tie.any() or (np.abs(total) < 2.0**-125).any():
        total = _sum_to_odd(product, np.asarray(c, np.float64), total)
    return total.astype(np.float32)


def _sum_to_odd(a: Array, b: Array, total: Array) -> Array:
    """Return a + b rounded to odd: ``total``, with its last bit set where it is not exact.

    The error of the float64 sum is itself a float64 (Knuth's two-sum). Where it is not zero, the
    truncated sum gets an odd last bit, so that any later rounding to fewer bits is right.
    """
    b = np.broadcast_to(b, total.shape)
    a = np.broadcast_to(a, total.shape)
    part = total - a
    error = (a - (total - part)) + (b - part)
    bits = total.view(np.int64).copy()
    inexact = (error != 0) & np.isfinite(total) & np.isfinite(error)
    even = inexact & ((bits & 1) == 0)
    # Toward the error: away from zero if it has the sum's sign, else toward zero.
    outward = (error > 0) == (total > 0)
    bits += np.where(even, np.where(outward, 1, -1), 0)
    return bits.view(np.float64)


def fma_f64(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c rounded once to nearest even: float64, element by element in exact
    arithmetic.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    factors = np.isfinite(a) & np.isfinite(b)
    out = np.where(factors & np.isinf(c), c, a * b + c)
    for place in zip(*np.nonzero(factors & np.isfinite(c)), strict=True):
        out[place] = _fma_exact(float(a[place]), float(b[place]), float(c[place]))
    return out


def _fma_exact(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        # Signs of zeros are the same whether rounded once or twice, unless the product underflowed.
        return a * b + c if a * b == 0 and (a == 0 or b == 0) else 0.0
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def fma_narrow(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c for float32 arrays that hold 16-bit values, as float64 rounded to odd.

    Rounding the result to 16 bits once more is then right: float64 has more than twice their bits.
    """
    product = np.multiply(a, b, dtype=np.float64)
    third = np.asarray(c, np.float64)
    return _sum_to_odd(product, third, product + third)


def bf16_to_f32(bits: Array) -> Array:
    """Return bfloat16 ``bits`` (uint16) as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(x: Array) -> Array:
    """Return float32 ``x`` rounded to nearest even bfloat16: uint16 bits. NaN becomes 0x7FFF."""
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    out = (rounded >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), out)


def f64_to_bf16(x: Array) -> Array:
    """Return float64 ``x`` (rounded to odd) as bfloat16 bits, rounded to nearest even: uint16."""
    narrow = x.astype(np.float32)
    # Round to odd on the way to float32, so that the last rounding is the only one that counts.
    bits = narrow.view(np.uint32)
    wide = narrow.astype(np.float64)
    inexact = (wide != x) & np.isfinite(narrow)
    past = inexact & (np.abs(wide) > np.abs(x))
    odd = np.where(past, bits - np.uint32(1), bits)
    odd = np.where(inexact, odd | np.uint32(1), odd)
    return f32_to_bf16(odd.view(np.float32))


def f16_bits(x: Array) -> Array:
    """Return ``x`` rounded to nearest even binary16: uint16 bits. NaN becomes 0x7FFF."""
    out = x.astype(np.float16).view(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), out)


def f16_to_f32(bits: Array) -> Array:
    """Return binary16 ``bits`` (uint16) as float32."""
    return bits.view(np.float16).astype(np.float32)


def minimum_f(a: Array, b: Array) -> Array:
    """Return the smaller; a NaN loses to a number; -0 is smaller than +0."""
    out = np.fmin(a, b)
    return _signed_zero(a, b, out, np.signbit(a) | np.signbit(b))


def maximum_f(a: Array, b: Array) -> Array:
    """Return the larger; a NaN loses to a number; +0 is larger than -0."""
    out = np.fmax(a, b)
    return _signed_zero(a, b, out, np.signbit(a) & np.signbit(b))


def _signed_zero(a: Array, b: Array, out: Array, negative: Array) -> Array:
    zeros = (a == 0) & (b == 0)
    if zeros.any():
        zero = out.dtype.type(0)
        out = np.where(zeros, np.where(negative, -zero, zero), out)
    return canonical(out)


def canonical(x: Array) -> Array:
    """Return ``x`` with every float32 NaN as the one that the hardware gives, 0x7FFFFFFF."""
    if x.dtype != np.float32:
        return x
    bad = np.isnan(x)
    if not bad.any():
        return x
    return np.where(bad, _CANONICAL_NAN.view(np.float32), x)


def minimum_nan(a: Array, b: Array) -> Array:
    """Return the smaller; a NaN wins."""
    return np.where(np.isnan(a) | np.isnan(b), _nan_like(a), minimum_f(a, b))


def maximum_nan(a: Array, b: Array) -> Array:
    """Return the larger; a NaN wins."""
    return np.where(np.isnan(a) | np.isnan(b), _nan_like(a), maximum_f(a, b))


def _nan_like(a: Array) -> Array:
    if a.dtype == np.float32:
        return np.full((1, 1), _CANONICAL_NAN).view(np.float32)
    return np.full((1, 1), np.nan, a.dtype)
