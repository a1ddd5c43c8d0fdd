"""Rows of floating-point arithmetic, one and two to a register."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from tests.ptx import exact
from tests.ptx.exact import F32, FORMS, Form
from tests.ptx.harness import EDGES, crossed
from tests.ptx.op_row import row


def floating(
    name: str,
    kind: str,
    function: Callable[..., exact.Number],
    count: int = 2,
    columns: Sequence[Sequence[int]] = (),
    ftz: bool = False,
    sat: bool = False,
) -> None:
    form = FORMS[kind]
    operands = ", ".join("abc"[:count])

    def expected(*xs: int) -> int:
        result = function(*(form.decode(x, ftz) for x in xs))
        if sat and result != "nan":
            result = exact.smaller(exact.larger(result, Fraction(0)), Fraction(1))
            result = Fraction(0) if result == "-0" else result
        elif sat:
            result = Fraction(0)
        return form.encode(result, ftz=ftz)

    words = name + (".ftz" if ftz else "") + (".sat" if sat else "")
    row(f"{words}.{kind} d, {operands};", kind, " ".join([kind] * count), expected, columns)


# Sums and products next to the middle between two floats, where rounding twice goes wrong.
_HARD_FMA = [
    (0x3F800001, 0x3F800001, 0x33800000),
    (0x3F800001, 0x3F7FFFFF, 0xB3000000),
    (0x3F800000, 0x3F800000, 0x33800001),
    (0x3F800000, 0x33800000, 0x3F800001),
    (0x00800001, 0x3F000001, 0x00000001),
    (0x00800000, 0x33800000, 0x3F800001),
    (0x3F800001, 0xB3800001, 0x3F800001),
    (0x4B800001, 0x4B800003, 0xCB800000),
    (0x1F800001, 0x1F800001, 0x00000000),
    (0x1A000001, 0x1A000001, 0x00000003),
    (0x20000001, 0x1FFFFFFF, 0x80000001),
    (0x3FFFFFFF, 0x3FFFFFFF, 0x34000000),
    (0x45800800, 0x45800800, 0x3F800000),
    (0x45800800, 0x45800800, 0xBF800000),
    (0x45800800, 0x45800800, 0x00800000),
    (0x45800800, 0x45800800, 0x80800000),
    (0x3F800800, 0x3F800000, 0x33000000),
    (0x7F000000, 0x40000000, 0xFF7FFFFF),
]
_FMA32 = [
    a + b
    for a, b in zip(
        crossed(EDGES["f32"][::2], EDGES["f32"][1::2], EDGES["f32"][::3]),
        map(list, zip(*_HARD_FMA, strict=True)),
        strict=True,
    )
]
for ftz in (False, True):
    floating("add", "f32", exact.add, ftz=ftz)
    floating("sub", "f32", lambda a, b: exact.add(a, exact.neg(b)), ftz=ftz)
    floating("mul", "f32", exact.mul, ftz=ftz)
    floating("fma.rn", "f32", exact.fma, 3, _FMA32, ftz=ftz)
    floating("mad.rn", "f32", exact.fma, 3, _FMA32, ftz=ftz)
    floating("div.rn", "f32", exact.div, ftz=ftz)
    floating("sqrt.rn", "f32", exact.sqrt, 1, ftz=ftz)
    floating("rcp.rn", "f32", lambda a: exact.div(Fraction(1), a), 1, ftz=ftz)
    floating("min", "f32", exact.smaller, ftz=ftz)
    floating("max", "f32", exact.larger, ftz=ftz)
    floating("add.rn", "f32", exact.add, ftz=ftz, sat=True)
    floating("fma.rn", "f32", exact.fma, 3, _FMA32, ftz=ftz, sat=True)
    floating(
        "neg", "f32", exact.neg, 1, [[x for x in EDGES["f32"] if not exact.is_nan(F32, x)]], ftz=ftz
    )
    floating(
        "abs", "f32", lambda a: a if a == "nan" or exact._sign(a) > 0 else exact.neg(a), 1, ftz=ftz
    )
floating("div.full", "f32", exact.div)
floating("div.approx", "f32", exact.div)
floating("max.NaN", "f32", lambda a, b: "nan" if "nan" in (a, b) else exact.larger(a, b))
floating("min.NaN", "f32", lambda a, b: "nan" if "nan" in (a, b) else exact.smaller(a, b))
_F64 = crossed(EDGES["f64"], EDGES["f64"][::2], EDGES["f64"][::3])
_HARD64 = [
    [0x3FF0000000000001, 0x4330000000000001],
    [0x3FF0000000000001, 0x4340000000000001],
    [0x3CA0000000000000, 0xC680000000000001],
]
for name, function in (
    ("add", exact.add),
    ("mul.rn", exact.mul),
    ("div.rn", exact.div),
    ("min", exact.smaller),
    ("max", exact.larger),
):
    floating(name, "f64", function)
floating("sub", "f64", lambda a, b: exact.add(a, exact.neg(b)))
floating("fma.rn", "f64", exact.fma, 3, [a + b for a, b in zip(_F64, _HARD64, strict=True)])
floating("sqrt.rn", "f64", exact.sqrt, 1)
floating("rcp.rn", "f64", lambda a: exact.div(Fraction(1), a), 1)
for kind in ("f16", "bf16"):
    suffix = "" if kind == "f16" else ".rn"
    floating(f"add{suffix or '.rn'}", kind, exact.add)
    floating(f"sub{suffix or '.rn'}", kind, lambda a, b: exact.add(a, exact.neg(b)))
    floating(f"mul{suffix or '.rn'}", kind, exact.mul)
    floating("fma.rn", kind, exact.fma, 3, crossed(EDGES[kind], EDGES[kind], EDGES[kind][::2]))
    floating("min", kind, exact.smaller)
    floating("max", kind, exact.larger)
floating("add", "f16", exact.add, ftz=True)
floating(
    "fma.rn",
    "f16",
    exact.fma,
    3,
    crossed(EDGES["f16"], EDGES["f16"][::2], EDGES["f16"][::3]),
    ftz=True,
)


def both_halves(form: Form, function: Callable[..., exact.Number]) -> Callable[..., int]:
    def expected(*xs: int) -> int:
        low = form.encode(function(*(form.decode(x & 0xFFFF) for x in xs)))
        high = form.encode(function(*(form.decode(x >> 16) for x in xs)))
        return low | high << 16

    return expected


def packed_edges(kind: str) -> list[int]:
    edges = [
        x
        for x in EDGES[kind]
        if not exact.is_nan(FORMS[kind], x) and x & 0x7FFF != FORMS[kind].encode("inf")
    ]
    return [low | high << 16 for low, high in zip(edges, reversed(edges), strict=True)]


for kind in ("f16", "bf16"):
    form, edges = FORMS[kind], packed_edges(kind)
    for name, function, count in (
        ("add.rn", exact.add, 2),
        ("mul.rn", exact.mul, 2),
        ("fma.rn", exact.fma, 3),
        ("sub.rn", lambda a, b: exact.add(a, exact.neg(b)), 2),
        ("max", exact.larger, 2),
        ("min", exact.smaller, 2),
        ("neg", exact.neg, 1),
        ("abs", lambda a: a if exact._sign(a) > 0 else exact.neg(a), 1),
    ):
        operands = ", ".join("abc"[:count])
        row(
            f"{name}.{kind}x2 d, {operands};",
            f"{kind}x2",
            " ".join([f"{kind}x2"] * count),
            both_halves(form, function),
            crossed(*([edges] * count)),
        )
