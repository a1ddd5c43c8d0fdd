"""Vectors on the sum: what is kept, cut, grouped, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from attnprobe.formats import Format
from attnprobe.probing.vectors import Shape, Vector, vectors


@vectors
def kept_bits(s: Shape) -> Iterator[Vector]:
    """E1: 1 + 2**-k - 1 in one block."""
    for k in range(8, 31):
        one, small = (1.0, 1.0), s.power(-k)
        for order, terms in (
            ("", (one, small, (-1.0, 1.0))),
            (", last", (one, (-1.0, 1.0), small)),
        ):
            yield Vector(f"1 + 2^-{k} - 1{order}", dict(enumerate(terms)))


@vectors
def cut(s: Shape) -> Iterator[Vector]:
    """E2: 1 + 1.75 * 2**-k - 1, and of the other sign."""
    for k in range(8, 30):
        x, y = s.power(-k, 1.75)
        for sign, word in ((1.0, "+"), (-1.0, "-")):
            terms = {0: (1.0, 1.0), 1: (sign * x, y), 2: (-1.0, 1.0)}
            yield Vector(f"1 {word} 1.75 * 2^-{k} - 1", terms)


@vectors
def blocks(s: Shape) -> Iterator[Vector]:
    """E3: a large number at i, its negative at j, a small one at l: lost where all are together."""
    x, y = s.power(10)
    for i in (0, 5 % s.k):
        for j in range(s.k):
            for place in range(s.k):
                if len({i, j, place}) == 3:
                    terms = {i: (x, y), j: (-x, y), place: s.power(-17)}
                    yield Vector(f"2^10 at {i}, -2^10 at {j}, 2^-17 at {place}", terms)


@vectors
def accumulator(s: Shape) -> Iterator[Vector]:
    """E4: a large c and many products below its last place."""
    for size in (0.5, 0.75, 1.0, 1.5):
        for exponent in range(s.mantissa - 2, s.mantissa + 5):
            terms = dict.fromkeys(range(s.k), (size, 1.0))
            yield Vector(f"c = 2^{exponent}, {s.k} times {size:g}", terms, 2.0**exponent)
            yield Vector(f"c = -2^{exponent}, {s.k} times {size:g}", terms, -(2.0**exponent))


@vectors
def final(s: Shape) -> Iterator[Vector]:
    """E5: sums that the result cannot hold."""
    m = s.mantissa
    tails = {
        "half a unit": [-(m + 1)],
        "three quarters of a unit": [-(m + 1), -(m + 2)],
        "a unit and a half": [-m, -(m + 1)],
        "a quarter of a unit": [-(m + 2)],
    }
    for sign in (1.0, -1.0):
        for name, places in tails.items():
            terms = {0: (sign, 1.0)}
            for number, exponent in enumerate(places, start=1):
                x, y = s.power(exponent)
                terms[number] = (sign * x, y)
            yield Vector(f"{sign:+g}, and {name} more", terms)


@vectors
def carries(s: Shape) -> Iterator[Vector]:
    """E6: as many greatest products as there are, of one sign and of both."""
    for form in (2.0 - 2.0 ** -_fraction(s.a), 1.0):
        for number, signs in enumerate(_signs(s.k)):
            terms = {place: (sign * form, form) for place, sign in enumerate(signs)}
            for c in (0.0, 1.0, -1.0, 4.0, -4.0):
                yield Vector(f"{s.k} products of {form:g}^2, signs {number}, c = {c:g}", terms, c)


def _fraction(form: Format) -> int:
    return {"f16": 10, "bf16": 7, "tf32": 10, "e4m3": 3, "e5m2": 2, "f64": 52}[form.ptx]


def _signs(k: int) -> list[list[float]]:
    alternating = [(-1.0) ** place for place in range(k)]
    one_off = [1.0] * (k - 1) + [-1.0]
    halves = [1.0] * (k // 2) + [-1.0] * (k - k // 2)
    return [[1.0] * k, [-1.0] * k, alternating, one_off, halves]


@vectors
def fp8_steps(s: Shape) -> Iterator[Vector]:
    """E11: 1 and a few bits far below it, in bytes of one half of k and of both halves."""
    for places in ((0, 1, 4, 5, 8, 9), (0, 2, 3, 6, 7, 10), (2, 0, 1, 4, 5, 8)):
        for last in range(8, 19):
            terms = {place: s.power(-last + i) for i, place in enumerate(places[1:])}
            terms[places[0]] = (1.0, 1.0)
            yield Vector(f"1 at {places[0]} + 31 * 2^-{last} at {places[1:]}", terms)
            yield Vector(f"the same, c = 2^-{last}", terms, 2.0**-last)


@vectors
def order(s: Shape) -> Iterator[Vector]:
    """E12, f64: a chain of fma in the order of k shows in what half units become."""
    half = 2.0**-53
    for first in range(s.k):
        terms = dict.fromkeys(range(s.k), (half, 1.0))
        terms[first] = (1.0, 1.0)
        yield Vector(f"1 at {first}, 2^-53 at all others", terms)
        yield Vector(f"1 at {first}, 2^-53 at all others, c = 2^-53", terms, half)
    yield Vector("c = 1, 2^-53 everywhere", dict.fromkeys(range(s.k), (half, 1.0)), 1.0)
    square = (1 + 2.0**-30, 1 + 2.0**-30)
    yield Vector("(1 + 2^-30)^2, c = -(1 + 2^-29)", {0: square}, -(1 + 2.0**-29))
    yield Vector("(1 + 2^-30)^2 - (1 + 2^-29)", {0: square, 1: (-(1 + 2.0**-29), 1.0)})


@vectors
def wrap(s: Shape) -> Iterator[Vector]:
    """E12, integers: sums beyond the ends of s32."""
    low_a, high_a = s.a.limits
    low_b, high_b = s.b.limits
    factors = {(x, y) for x in (low_a, high_a) for y in (low_b, high_b)}
    for x, y in sorted(factors):
        for c in (0, 2**31 - 1, -(2**31), 2**31 - 2, -(2**31) + 1, 12345):
            every = {place: (float(x), float(y)) for place in range(s.k)}
            yield Vector(f"{s.k} times {x} * {y}, c = {c}", every, float(c))
            yield Vector(f"{x} * {y}, c = {c}", {0: (float(x), float(y))}, float(c))


@vectors
def rounding_between(s: Shape) -> Iterator[Vector]:
    """E13: a first half of k that a rounding in the middle would change."""
    half = s.k // 2
    for exponent in range(-s.mantissa - 3, -s.mantissa + 1):
        terms = {0: (1.0, 1.0), 1: s.power(-s.mantissa - 1), half: s.power(exponent)}
        yield Vector(f"1 + 2^-{s.mantissa + 1} | + 2^{exponent}", terms)
        other = {0: s.power(exponent), half: (1.0, 1.0), half + 1: s.power(-s.mantissa - 1)}
        yield Vector(f"2^{exponent} | + 1 + 2^-{s.mantissa + 1}", other)


@vectors
def low_bits(s: Shape) -> Iterator[Vector]:
    """E14: factors whose lower 13 bits are set, which tf32 has no place for."""
    for bits in ("3f801000", "3f801fff", "3f800001", "3f803000", "3fffffff", "bf801fff"):
        yield Vector(f"A = {bits}", {0: ("0x" + bits, 1.0)})
        yield Vector(f"B = {bits}", {0: (1.0, "0x" + bits)})
    for bits in ("00001fff", "00003fff", "7f800001", "7f801fff", "7f7fffff"):
        yield Vector(f"A = {bits}, B = 1", {0: ("0x" + bits, 1.0)})
        yield Vector(f"A = {bits}, B = 0", {0: ("0x" + bits, 0.0)})
