"""Chains of fused multiply-adds in float64, to the bit: what an f64 product is."""

from __future__ import annotations

import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.values import Array

_SPLIT = 2.0**27 + 1
# Where every part of a * b + c lies in this range, no part of the exact product underflows.
_LEAST, _GREATEST = 2.0**-900, 2.0**900
_NAN64 = np.uint64(0xFFF8000000000000)  # of 0 * inf and inf - inf
_QUIET = np.uint64(1 << 51)


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c rounded once to nearest even: float64.

    Source: Boldo, Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE TC 2008, for the range where it holds; outside it, exact fractions.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    high, low = _two_product(a, b)
    t_high, t_low = _two_sum(c, low)
    v_high, v_low = _two_sum(high, t_high)
    result = v_high + _sum_to_odd(t_low, v_low)
    nothing = (a == 0) | (b == 0)
    if nothing.any():
        result = np.where(nothing, high + c, result)
    safe = _within(high) & _within(a) & _within(b) & (_within(c) | (c == 0)) & _within(result)
    rare = ~(safe | nothing)
    if rare.any():
        result[rare] = _far_fma(a[rare], b[rare], c[rare])
    return result


def _far_fma(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c of any exponents, one axis: the same on significands, scaled afterwards."""
    finite = np.isfinite(a) & np.isfinite(b)
    result = np.where(finite & np.isinf(c), c, a * b + c)  # a * b may overflow where it counts not
    plain = finite & np.isfinite(c) & (a != 0) & (b != 0)
    a, b, c = a[plain], b[plain], c[plain]
    (a_part, a_place), (b_part, b_place), (c_part, c_place) = map(np.frexp, (a, b, c))
    place = a_place + b_place
    # Beyond 200 places the smaller of product and c only says on which side the result lies.
    apart = np.where(c == 0, 0, c_place - place)
    high, low = _two_product(a_part, b_part)
    t_high, t_low = _two_sum(np.ldexp(c_part, np.clip(apart, -200, 200)), low)
    place += np.maximum(apart - 200, 0)
    v_high, v_low = _two_sum(high, t_high)
    rest = _sum_to_odd(t_low, v_low)
    found = np.ldexp(v_high + rest, place)
    # Subnormal: one rounding, at the last place there is. To odd first, with two places more.
    part, part_place = np.frexp(_sum_to_odd(v_high, rest))
    places = part_place + place + 1074
    steps = np.rint(np.ldexp(part, np.clip(places, -60, 60)))
    found = np.where(places <= 51, np.ldexp(steps, -1074), found)
    between = (places > 51) & (places < 54)
    found[between] = numeric.fma_f64(a[between], b[between], c[between])
    found[(v_high == 0) & (rest == 0)] = 0.0
    result[plain] = found
    return result


def _within(x: Array) -> Array:
    size = np.abs(x)
    return (size >= _LEAST) & (size <= _GREATEST)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a * b as a rounded product and its error (Dekker, with Veltkamp's splitting)."""
    product = a * b
    a1, a2 = _split(a)
    b1, b2 = _split(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _split(a: Array) -> tuple[Array, Array]:
    scaled = a * _SPLIT
    high = scaled - (scaled - a)
    return high, a - high


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _sum_to_odd(a: Array, b: Array) -> Array:
    """Return a + b, rounded to odd where it is not exact."""
    total, error = _two_sum(a, b)
    bits = total.view(np.int64)
    step = np.where((error > 0) == (total > 0), 1, -1)
    odd = bits + np.where((error != 0) & (bits & 1 == 0), step, 0)
    return odd.view(np.float64)


def multiply_f64(a: Array, b: Array, c: Array, fused: bool = True) -> Array:
    """Return A B + C in float64 as a chain of fma in the order of k.

    Parameters
    ----------
    a, b, c : float64, (k, m, w), (k, n, w) and (m, n, w).
    fused : whether each step rounds once; else the product is rounded first.

    A NaN keeps its payload, as a recorded sm_90 keeps it.
    """
    total = c
    for x, y in zip(a, b, strict=True):
        left, right = x[:, None], y[None]
        found = fma(left, right, total) if fused else left * right + total
        total = _with_payloads(found, left, right, total)
    return total


def _with_payloads(found: Array, a: Array, b: Array, c: Array) -> Array:
    """Return ``found`` with the NaN of b, else c, else a, made quiet; else the one of its own."""
    nan = np.isnan(found)
    if not nan.any():
        return found
    bits = np.where(nan, _NAN64, found.view(np.uint64))
    for source in (a, c, b):
        source = np.broadcast_to(source, found.shape)
        bits = np.where(np.isnan(source), source.view(np.uint64) | _QUIET, bits)
    return bits.view(np.float64)
