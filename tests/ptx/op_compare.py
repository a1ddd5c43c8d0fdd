"""Rows of comparison and choice."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tests.ptx import exact
from tests.ptx.exact import F32, FORMS, signed
from tests.ptx.harness import BITS, EDGES, crossed
from tests.ptx.op_row import mask, row

for name in (
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "equ",
    "neu",
    "ltu",
    "leu",
    "gtu",
    "geu",
    "num",
    "nan",
):
    for kind in ("f32", "f64", "f16", "bf16"):
        form = FORMS[kind]
        row(
            f"setp.{name}.{kind} d, a, b;",
            "pred",
            f"{kind} {kind}",
            lambda a, b, n=name, f=form: exact.compare(n, f.decode(a), f.decode(b)),
        )
row("setp.lt.ftz.f32 d, a, b;", "pred", "f32 f32",
    lambda a, b: exact.compare("lt", F32.decode(a, True), F32.decode(b, True)))  # fmt: skip
_INTEGER_TESTS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
for name, test in _INTEGER_TESTS.items():
    for kind in ("s32", "u32", "s64", "u64", "s16", "u16"):
        read = (lambda x, k=kind: signed(x, BITS[k])) if kind[0] == "s" else (lambda x: x)
        row(f"setp.{name}.{kind} d, a, b;", "pred", f"{kind} {kind}",
            lambda a, b, t=test, read=read: t(read(a), read(b)))  # fmt: skip
for name, plain in (("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge")):
    row(f"setp.{name}.u32 d, a, b;", "pred", "u32 u32", _INTEGER_TESTS[plain])
for name, combine in (
    ("and", lambda x, y: x & y),
    ("or", lambda x, y: x | y),
    ("xor", lambda x, y: x ^ y),
):
    row(
        f"setp.lt.{name}.s32 d, a, b, c;",
        "pred",
        "s32 s32 pred",
        lambda a, b, c, f=combine: f(int(signed(a, 32) < signed(b, 32)), c),
    )
    row(f"setp.lt.{name}.s32 d, a, b, !c;", "pred", "s32 s32 pred",
        lambda a, b, c, f=combine: f(int(signed(a, 32) < signed(b, 32)), 1 - c))  # fmt: skip
    row(f".reg .pred first; setp.lt.{name}.s32 first|d, a, b, c;", "pred", "s32 s32 pred",
        lambda a, b, c, f=combine: f(int(signed(a, 32) >= signed(b, 32)), c))  # fmt: skip
row(".reg .pred first; setp.gt.f32 first|d, a, b;", "pred", "f32 f32",
    lambda a, b: not exact.compare("gt", F32.decode(a), F32.decode(b)))  # fmt: skip
row("setp.eq.s32 _|d, a, b;", "pred", "s32 s32", lambda a, b: a != b)
for kind in ("b16", "s32", "f32", "b64", "f64"):
    row(f"selp.{kind} d, a, b, c;", kind, f"{kind} {kind} pred", lambda a, b, c: a if c else b)
row(
    "slct.s32.s32 d, a, b, c;",
    "s32",
    "s32 s32 s32",
    lambda a, b, c: a if signed(c, 32) >= 0 else b,
    crossed([5], [9], EDGES["s32"]),
)
row("slct.f32.f32 d, a, b, c;", "f32", "f32 f32 f32",
    lambda a, b, c: a if exact.compare("ge", F32.decode(c), Fraction(0)) else b,
    crossed([0x40000000], [0x40400000], EDGES["f32"]))  # fmt: skip
row(
    "set.lt.u32.s32 d, a, b;",
    "u32",
    "s32 s32",
    lambda a, b: mask(32) if signed(a, 32) < signed(b, 32) else 0,
)
row(
    "set.gt.f32.f32 d, a, b;",
    "f32",
    "f32 f32",
    lambda a, b: 0x3F800000 if exact.compare("gt", F32.decode(a), F32.decode(b)) else 0,
)
for name, test in (
    ("finite", lambda x: not isinstance(x, str) or x == "-0"),
    ("infinite", lambda x: x in ("inf", "-inf")),
    ("number", lambda x: x != "nan"),
    ("notanumber", lambda x: x == "nan"),
):
    row(f"testp.{name}.f32 d, a;", "pred", "f32", lambda a, t=test: int(t(F32.decode(a))))
row("copysign.f32 d, a, b;", "f32", "f32 f32", lambda a, b: a & 0x80000000 | b & 0x7FFFFFFF)
