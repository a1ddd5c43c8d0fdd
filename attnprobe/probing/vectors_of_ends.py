"""Vectors at the ends of the formats: subnormals, tiny sums, zeros, NaN, infinity, overflow."""

from __future__ import annotations

from collections.abc import Iterator

from attnprobe.formats import Format
from attnprobe.probing.vectors import Shape, Vector, vectors


def _least(form: Format) -> float:
    """Return the least positive number of a format."""
    return {
        "f16": 2.0**-24, "bf16": 2.0**-133, "tf32": 2.0**-136, "f32": 2.0**-149,
        "e4m3": 2.0**-9, "e5m2": 2.0**-16, "f64": 2.0**-1074,
    }[form.ptx]  # fmt: skip


@vectors
def subnormals(s: Shape) -> Iterator[Vector]:
    """E7: subnormal factors, accumulators and results."""
    a, b, c = _least(s.a), _least(s.b), _least(s.out)
    for scale in (1.0, 2.0, 2.0**8):
        yield Vector(f"least A * {scale:g}", {0: (a, scale)})
        yield Vector(f"least B * {scale:g}", {1: (scale, b)})
        yield Vector(f"least A * least B * {scale:g}", {0: (a * scale, b)})
    for times in (1, 3, 1000):
        yield Vector(f"c = {times} times the least", {}, times * c)
        yield Vector(
            f"c = -{times} times the least, + 1 - 1", {0: (1.0, 1.0), 1: (-1.0, 1.0)}, -times * c
        )
    for exponent in range(-150, -120, 3):
        yield Vector(f"2^{exponent}", {0: s.power(exponent)})
        yield Vector(f"2^{exponent} + least c", {0: s.power(exponent)}, c)
    for exponent in range(-27, -12):
        yield Vector(f"2^{exponent}", {0: s.power(exponent)})
        yield Vector(f"1.5 * 2^{exponent}", {0: s.power(exponent, 1.5)})


@vectors
def clamp(s: Shape) -> Iterator[Vector]:
    """E8: sums of products that are tiny even together; the rest of k is 0, or there is no rest."""
    ranges = {"f32": range(-162, -146), "f16": range(-50, -20), "f64": range(0)}[s.out.ptx]
    for count in sorted({1, 2, s.k // 2, s.k}):
        for exponent in ranges:
            terms = {place: s.power(exponent) for place in range(count)}
            yield Vector(f"{count} times 2^{exponent}", terms)
            if s.out.ptx == "f16" and count < s.k:
                with_tie = {**terms, s.k - 1: s.power(-25)}
                yield Vector(f"2^-25 + {count} times 2^{exponent}", with_tie)


@vectors
def zeros(s: Shape) -> Iterator[Vector]:
    """E9: zeros of both signs, exact cancellation, and what is too small to stay."""
    for c in (0.0, -0.0):
        word = f"{c:+.0f}"
        yield Vector(f"no product, c = {word}", {}, c)
        negative = dict.fromkeys(range(s.k), (-0.0, 1.0))
        yield Vector(f"all products -0, c = {word}", negative, c)
        yield Vector(f"1 - 1, c = {word}", {0: (1.0, 1.0), 1: (-1.0, 1.0)}, c)
        yield Vector(f"-1 + 1, c = {word}", {0: (-1.0, 1.0), 1: (1.0, 1.0)}, c)
    yield Vector("1, c = -1", {0: (1.0, 1.0)}, -1.0)
    yield Vector("-1, c = 1", {0: (-1.0, 1.0)}, 1.0)
    for exponent in (-26, -27, -30, -150, -151, -152, -155, -158, -159, -165):
        x, y = s.power(exponent)
        yield Vector(f"2^{exponent}", {0: (x, y)})
        yield Vector(f"-2^{exponent}", {0: (-x, y)})


@vectors
def specials(s: Shape) -> Iterator[Vector]:
    """E10: NaN, infinity and overflow."""
    inf = float("inf")
    for name, payload in _nans(s.a):
        yield Vector(f"A = NaN {name}", {0: (payload, 1.0)})
    for name, payload in _nans(s.b):
        yield Vector(f"B = NaN {name}", {1: (0.0, payload)})
    for name, payload in _nans(s.out):
        yield Vector(f"c = NaN {name}", {0: (1.0, 1.0)}, payload)
    for c in (0.0, inf, -inf):
        yield Vector(f"inf * 1, c = {c:g}", {0: (inf, 1.0)}, c)
        yield Vector(f"-inf * 1, c = {c:g}", {0: (-inf, 1.0)}, c)
        yield Vector(f"inf * 0, c = {c:g}", {0: (inf, 0.0)}, c)
        yield Vector(f"inf * 1 + inf * -1, c = {c:g}", {0: (inf, 1.0), s.k - 1: (inf, -1.0)}, c)
        yield Vector(f"1, c = {c:g}", {0: (1.0, 1.0)}, c)
    yield from _overflows(s)


def _nans(form: Format) -> list[tuple[str, str]]:
    texts = {
        "f16": ["7c01", "7e00", "7fff", "fe55", "fc01"],
        "bf16": ["7f81", "7fc0", "7fff", "ffd5", "ff81"],
        "tf32": ["7f802000", "7fc00000", "7fffffff", "ffd54000", "7f800001"],
        "f32": ["7f800001", "7fc00000", "7fffffff", "ffd54321", "ff800001"],
        "e4m3": ["7f", "ff"],
        "e5m2": ["7d", "7e", "7f", "ff"],
        "f64": ["7ff0000000000001", "7ff8000000000000", "fff8000000000123"],
    }
    return [(text, "0x" + text) for text in texts[form.ptx]]


def _overflows(s: Shape) -> Iterator[Vector]:
    if s.out.ptx == "f64":
        return
    greatest = {"f32": 2.0**128 - 2.0**104, "f16": 65504.0}[s.out.ptx]
    unit = {"f32": 104, "f16": 5}[s.out.ptx]  # of the last place of the greatest number
    for exponent in range(unit - 3, unit + 2):
        for scale in (1.0, 1.5):
            for sign in (1.0, -1.0):
                x, y = s.power(exponent, scale)
                says = f"c = {sign:+g} * greatest, {sign * scale:+g} * 2^{exponent}"
                yield Vector(says, {0: (sign * x, y)}, sign * greatest)
    top = {"f16": 15, "bf16": 127, "tf32": 127, "e4m3": 8, "e5m2": 15}[s.a.ptx]
    terms = dict.fromkeys(range(s.k), (2.0**top, 2.0**top))
    yield Vector(f"{s.k} times 2^{2 * top}", terms)
    yield Vector(f"{s.k} times 2^{2 * top}, half of them negative", {
        place: (2.0**top * (-1) ** place, 2.0**top) for place in range(s.k)
    })  # fmt: skip
