"""Exact arithmetic in Python integers and fractions, for the opcodes' results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

Number = Fraction | str  # "nan", "inf", "-inf", "-0" or an exact value


@dataclass(frozen=True)
class Form:
    """A binary float format by the widths of exponent and mantissa."""

    exponent: int
    mantissa: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        return (1 << self.exponent - 1) - 1

    def decode(self, bits: int, ftz: bool = False) -> Number:
        sign = bits >> self.bits - 1
        field = bits >> self.mantissa & (1 << self.exponent) - 1
        fraction = bits & (1 << self.mantissa) - 1
        if field == (1 << self.exponent) - 1:
            return "nan" if fraction else ("-inf" if sign else "inf")
        if field == 0:
            if fraction == 0 or ftz:
                return "-0" if sign else Fraction(0)
            value = Fraction(fraction, 1 << self.mantissa) * Fraction(2) ** (1 - self.bias)
        else:
            value = (1 + Fraction(fraction, 1 << self.mantissa)) * Fraction(2) ** (
                field - self.bias
            )
        return -value if sign else value

    def encode(self, value: Number, rounding: str = "rn", ftz: bool = False) -> int:
        """Return the bits of ``value`` rounded once; a NaN is any NaN (see same())."""
        top = 1 << self.bits - 1
        inf = ((1 << self.exponent) - 1) << self.mantissa
        if value == "nan":
            return inf | 1
        if isinstance(value, str):
            return {"inf": inf, "-inf": top | inf, "-0": top}[value]
        if value == 0:
            return 0
        sign, magnitude = (top, -value) if value < 0 else (0, value)
        least = 1 - self.bias - self.mantissa  # exponent of the last bit of a subnormal
        power = max(_floor_log2(magnitude) - self.mantissa, least)
        units = magnitude / Fraction(2) ** power
        whole = units.numerator // units.denominator
        rest = units - whole
        up = {
            "rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole & 1),
            "rz": False,
            "rm": bool(sign) and rest > 0,
            "rp": not sign and rest > 0,
        }[rounding]
        whole += bool(up)
        # The fields run on from subnormal to normal to infinity, so that a carry needs no case.
        bits = whole if power == least else whole + (power - least << self.mantissa)
        if bits >= inf:
            toward_zero = (
                rounding == "rz" or (rounding == "rm" and not sign) or (rounding == "rp" and sign)
            )
            bits = inf - 1 if toward_zero else inf
        if ftz and bits < 1 << self.mantissa:
            bits = 0
        return sign | bits


F16, BF16, F32, F64 = Form(5, 10), Form(8, 7), Form(8, 23), Form(11, 52)
FORMS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def is_nan(form: Form, bits: int) -> bool:
    return form.decode(bits) == "nan"


def _sign(x: Number) -> int:
    return -1 if x in ("-0", "-inf") or (isinstance(x, Fraction) and x < 0) else 1


def _value(x: Number) -> Fraction:
    return Fraction(0) if x == "-0" else x  # type: ignore[return-value]


def _zero(negative: bool) -> Number:
    return "-0" if negative else Fraction(0)


def add(x: Number, y: Number) -> Number:
    if "nan" in (x, y) or {x, y} == {"inf", "-inf"}:
        return "nan"
    for part in (x, y):
        if part in ("inf", "-inf"):
            return part
    total = _value(x) + _value(y)
    if total == 0:
        return _zero(x == "-0" and y == "-0")
    return total


def neg(x: Number) -> Number:
    if x == "nan":
        return x
    if isinstance(x, str):
        return {"inf": "-inf", "-inf": "inf", "-0": Fraction(0)}[x]
    return "-0" if x == 0 else -x


def mul(x: Number, y: Number) -> Number:
    if "nan" in (x, y):
        return "nan"
    negative = _sign(x) * _sign(y) < 0
    infinite = [part in ("inf", "-inf") for part in (x, y)]
    if any(infinite):
        other = [part for part, big in zip((x, y), infinite, strict=True) if not big]
        if other and _value(other[0]) == 0:
            return "nan"
        return "-inf" if negative else "inf"
    product = _value(x) * _value(y)
    return _zero(negative) if product == 0 else product


def div(x: Number, y: Number) -> Number:
    if "nan" in (x, y):
        return "nan"
    negative = _sign(x) * _sign(y) < 0
    if x in ("inf", "-inf"):
        return "nan" if y in ("inf", "-inf") else ("-inf" if negative else "inf")
    if y in ("inf", "-inf"):
        return _zero(negative)
    if _value(y) == 0:
        return "nan" if _value(x) == 0 else ("-inf" if negative else "inf")
    quotient = _value(x) / _value(y)
    return _zero(negative) if quotient == 0 else quotient


def fma(x: Number, y: Number, z: Number) -> Number:
    return add(mul(x, y), z)


def sqrt(x: Number, digits: int = 1300) -> Number:
    """Return the root, exact or cut so late that no rounding to 64 bits can tell."""
    if x in ("nan", "-inf") or (isinstance(x, Fraction) and x < 0):
        return "nan"
    if isinstance(x, str) or x == 0:
        return x
    scaled = (
        (x.numerator << 2 * digits) // x.denominator
        if x.denominator != 1
        else x.numerator << 2 * digits
    )
    root = isqrt(scaled)
    exact = root * root * x.denominator == x.numerator << 2 * digits
    return Fraction(2 * root + (not exact), 2 << digits)


def smaller(x: Number, y: Number) -> Number:
    """min: a number wins over NaN, -0 is smaller than +0."""
    if x == "nan" or y == "nan":
        return y if x == "nan" else x
    return min((x, y), key=order)


def larger(x: Number, y: Number) -> Number:
    if x == "nan" or y == "nan":
        return y if x == "nan" else x
    return max((x, y), key=order)


def order(x: Number) -> tuple[Fraction, int]:
    big = Fraction(2) ** 2000
    if x in ("inf", "-inf"):
        return (big if x == "inf" else -big, 0)
    return (_value(x), -1 if x == "-0" else 0)


def compare(name: str, x: Number, y: Number) -> bool:
    """setp's comparisons of floats."""
    nan = "nan" in (x, y)
    if name in ("num", "nan"):
        return nan == (name == "nan")
    if nan:
        return len(name) == 3
    a, b = order(x)[0], order(y)[0]
    tests: dict[str, Callable[[], bool]] = {
        "eq": lambda: a == b, "ne": lambda: a != b, "lt": lambda: a < b,
        "le": lambda: a <= b, "gt": lambda: a > b, "ge": lambda: a >= b,
    }  # fmt: skip
    return tests[name[:2]]()


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def to_int(x: Number, bits: int, is_signed: bool, rounding: str) -> int:
    """cvt from a float to an integer: rounded, then clamped; NaN is 0, or the top bit for 64
    bits.
    """
    low = -(1 << bits - 1) if is_signed else 0
    high = (1 << bits - 1) - 1 if is_signed else (1 << bits) - 1
    if x == "nan":
        return 1 << 63 if bits == 64 else 0
    if x in ("inf", "-inf"):
        return high if x == "inf" else low
    value = _value(x)
    floor = value.numerator // value.denominator
    rest = value - floor
    whole = {
        "rmi": floor,
        "rpi": floor + (rest > 0),
        "rzi": floor + (rest > 0 and value < 0),
        "rni": floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1)),
    }[rounding]
    return max(low, min(high, whole))
