"""One element of a product in exact rational arithmetic, written from the rule, slowly.

Nothing of attnprobe is used: numbers are decoded by hand, terms are Fractions, and every rounding
is a floor of one.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Literal

# name -> (exponent bits, mantissa bits, bits below the number that are ignored)
FORMATS = {
    "f16": (5, 10, 0),
    "bf16": (8, 7, 0),
    "tf32": (8, 10, 13),
    "f32": (8, 23, 0),
    "f64": (11, 52, 0),
    "e5m2": (5, 2, 0),
    "e8m13": (8, 13, 0),  # an f32 without its 10 low bits
}

Number = Fraction | Literal["nan", "+inf", "-inf"]


def decode(bits: int, form: str) -> tuple[Number, int]:
    """Return (value, exponent of the leading digit's place); the exponent of 0 means nothing."""
    if form == "e4m3":
        return decode_e4m3(bits)
    exponent_bits, mantissa_bits, ignored = FORMATS[form]
    bits >>= ignored
    mantissa = bits & (1 << mantissa_bits) - 1
    field = bits >> mantissa_bits & (1 << exponent_bits) - 1
    negative = bits >> mantissa_bits + exponent_bits & 1
    bias = (1 << exponent_bits - 1) - 1
    if field == (1 << exponent_bits) - 1:
        return ("nan" if mantissa else "-inf" if negative else "+inf"), 0
    exponent = max(field, 1) - bias
    whole = mantissa + ((1 << mantissa_bits) if field else 0)
    value = Fraction(whole) * Fraction(2) ** (exponent - mantissa_bits)
    return (-value if negative else value), exponent


def decode_e4m3(bits: int) -> tuple[Number, int]:
    if bits & 0x7F == 0x7F:
        return "nan", 0
    field, mantissa = bits >> 3 & 15, bits & 7
    exponent = max(field, 1) - 7
    value = Fraction(mantissa + (8 if field else 0)) * Fraction(2) ** (exponent - 3)
    return (-value if bits >> 7 else value), exponent


def floor_log2(x: Fraction) -> int:
    """Return the exponent of the leading binary digit of ``x`` > 0."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def encode(x: Fraction, form: str, how: str, negative: bool | None = None) -> int:
    """Return the bits of ``x`` rounded to ``form``: "truncate" or "nearest" (ties to even).

    ``negative`` is the sign of a zero that ``x`` is; what is rounded to zero keeps its sign.
    """
    exponent_bits, mantissa_bits, _ = FORMATS[form]
    bias = (1 << exponent_bits - 1) - 1
    sign = (x < 0 if x else bool(negative)) << exponent_bits + mantissa_bits
    if x == 0:
        return sign
    x = abs(x)
    exponent = max(floor_log2(x), 1 - bias)
    scaled = x / Fraction(2) ** (exponent - mantissa_bits)
    whole = floor(scaled)
    rest = scaled - whole
    if how == "nearest" and (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole & 1)):
        whole += 1
    # Carries run into the exponent field by themselves; a subnormal has field 0.
    raw = ((exponent + bias - 1) << mantissa_bits) + whole
    return sign | min(raw, ((1 << exponent_bits) - 1) << mantissa_bits)


NAN = {"f32": 0x7FFFFFFF, "f16": 0x7FFF, "f64": 0xFFF8 << 48}
INFINITY = {"f32": 0x7F800000, "f16": 0x7C00, "f64": 0x7FF << 52}


def sign_bit(form: str) -> int:
    exponent_bits, mantissa_bits, _ = FORMATS[form]
    return 1 << exponent_bits + mantissa_bits


def special(terms: list[tuple[Number, Number]], c: Number, form: str) -> int | None:
    """Return the bits of a result that a NaN or an infinity decides, else None."""
    found: set[str] = set()
    for x, y in [*terms, (Fraction(1), c)]:
        if "nan" in (x, y):
            return NAN[form]
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            continue
        if x == 0 or y == 0:
            return NAN[form]
        found.add("-inf" if is_negative(x) != is_negative(y) else "+inf")
    if not found:
        return None
    if len(found) == 2:
        return NAN[form]
    return INFINITY[form] | (sign_bit(form) if found == {"-inf"} else 0)


def is_negative(x: Number) -> bool:
    return x == "-inf" or (isinstance(x, Fraction) and x < 0)


def step(
    a: list[int],
    b: list[int],
    c: int,
    forms: tuple[str, str, str],
    f: int,
    emin: int,
    short: bool = False,
) -> int:
    """Return one block: products and ``c`` cut to ``f`` bits, added, converted.

    An f32 result that is ``short`` has 13 fraction bits.
    """
    form_a, form_b, out = forms
    left = [decode(bits, form_a) for bits in a]
    right = [decode(bits, form_b) for bits in b]
    c_value, c_exponent = decode(c, out)
    pairs = [(x, y) for (x, _), (y, _) in zip(left, right, strict=True)]
    bits = special(pairs, c_value, out)
    if bits is not None:
        return bits
    terms = [(x * y, ex + ey) for (x, ex), (y, ey) in zip(left, right, strict=True)]
    terms = [(value, place) for value, place in [*terms, (c_value, c_exponent)] if value != 0]
    top = max([place for _, place in terms] + [emin])
    unit = Fraction(2) ** (top - f)
    total = sum((toward_zero(value / unit) for value, _ in terms), 0) * unit
    if short and out == "f32":
        result = encode(Fraction(total), "e8m13", "truncate") << 10
    else:
        result = encode(Fraction(total), out, "nearest" if out == "f16" else "truncate")
    return 0 if result == sign_bit(out) else result


def toward_zero(x: Fraction) -> int:
    return floor(x) if x >= 0 else -floor(-x)


def add(x_bits: int, y_bits: int, form: str) -> int:
    """Return x + y rounded to nearest even, as an ordinary addition gives it."""
    x, y = decode(x_bits, form)[0], decode(y_bits, form)[0]
    bits = special([(x, Fraction(1))], y, form)
    if bits is not None:
        return bits
    assert isinstance(x, Fraction)
    assert isinstance(y, Fraction)
    return encode(x + y, form, "nearest", negative=bool(x_bits & y_bits & sign_bit(form)))


def fma_chain(a: list[int], b: list[int], c: int) -> int:
    """Return ((c + a0 b0) + a1 b1) ... in f64, every step rounded once."""
    for x_bits, y_bits in zip(a, b, strict=True):
        x, y, z = (decode(bits, "f64")[0] for bits in (x_bits, y_bits, c))
        bits = special([(x, y)], z, "f64")
        if bits is not None and "nan" in (x, y, z):
            first = y_bits if y == "nan" else c if z == "nan" else x_bits
            bits = first | 1 << 51
        if bits is None:
            assert not isinstance(x, str)
            assert not isinstance(y, str)
            assert not isinstance(z, str)
            zero_sign = (x_bits ^ y_bits) & c & sign_bit("f64")
            bits = encode(x * y + z, "f64", "nearest", negative=bool(zero_sign))
        c = bits
    return c
