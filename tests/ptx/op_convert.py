"""Rows of conversions, of moves, and of instructions under a guard."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

from tests.ptx import exact
from tests.ptx.exact import BF16, F16, F32, F64, FORMS, Form, signed
from tests.ptx.harness import BITS, EDGES, crossed
from tests.ptx.op_row import mask, row

_INTS = ("u16", "s16", "u32", "s32", "u64", "s64")
for target, source in product(_INTS, repeat=2):
    if target != source:
        read = (lambda x, k=source: signed(x, BITS[k])) if source[0] == "s" else (lambda x: x)
        row(f"cvt.{target}.{source} d, a;", target, source,
            lambda a, read=read, bits=BITS[target]: read(a) & mask(bits))  # fmt: skip
        low = -(1 << BITS[target] - 1) if target[0] == "s" else 0
        high = mask(BITS[target] - (target[0] == "s"))
        row(
            f"cvt.sat.{target}.{source} d, a;",
            target,
            source,
            lambda a, read=read, bits=BITS[target], lo=low, hi=high: (
                max(lo, min(hi, read(a))) & mask(bits)
            ),
        )
row("cvt.u32.u8 d, a;", "u32", "u32", lambda a: a & 255)
row("cvt.s32.s8 d, a;", "s32", "s32", lambda a: signed(a, 8) & mask(32))
row("cvt.u8.u32 d, a;", "u32", "u32", lambda a: a & 255)
_MORE32 = [
    *EDGES["f32"],
    0x3F000000,
    0x3FC00000,
    0xC0200000,
    0xBF000000,
    0x4EFFFFFF,
    0x4F000000,
    0xCF000000,
    0x5F000000,
    0xDF000000,
    0x477FE000,
    0x47FFFFFF,
    0x38D1B717,
    0x33FFFFFF,
    0x387FE000,
    0x3F801000,
    0x3F803000,
    0x3F808000,
    0x3F818000,
]
_MORE64 = [
    *EDGES["f64"],
    0x3FE0000000000000,
    0x3FF8000000000000,
    0xC004000000000000,
    0x43DFFFFFFFFFFFFF,
    0xC3E0000000000000,
    0x41F0000000000000,
    0x3FF0000010000000,
    0x3FF0000030000000,
    0x3FF0000010000001,
    0x36A0000000000001,
    0x3690000000000000,
]
for target, rounding in product(_INTS, ("rni", "rzi", "rmi", "rpi")):
    for source, values in (
        ("f32", _MORE32),
        ("f64", _MORE64),
        ("f16", EDGES["f16"]),
        ("bf16", EDGES["bf16"]),
    ):
        row(
            f"cvt.{rounding}.{target}.{source} d, a;",
            target,
            source,
            lambda a, f=FORMS[source], t=target, r=rounding: (
                exact.to_int(f.decode(a), BITS[t], t[0] == "s", r) & mask(BITS[t])
            ),
            [values],
        )
row(
    "cvt.rzi.ftz.s32.f32 d, a;",
    "s32",
    "f32",
    lambda a: exact.to_int(F32.decode(a, True), 32, True, "rzi") & mask(32),
)
for source, target, rounding in product(_INTS, ("f16", "f32", "f64"), ("rn", "rz", "rm", "rp")):
    read = (lambda x, k=source: signed(x, BITS[k])) if source[0] == "s" else (lambda x: x)
    values = [
        *EDGES[source],
        *(
            x
            for x in (0x01000001, 0x01000003, 0x01FFFFFF, 0x7FFFFFBF, 0x7FFFFF40, 65519, 65520)
            if x < 1 << BITS[source] - 1
        ),
    ]
    row(
        f"cvt.{rounding}.{target}.{source} d, a;",
        target,
        source,
        lambda a, read=read, f=FORMS[target], r=rounding: f.encode(Fraction(read(a)), r),
        [values],
    )
for target, source, rounding in (
    *product(("f16", "bf16"), ("f32",), ("rn", "rz")),
    *product(("f32",), ("f64",), ("rn", "rz", "rm", "rp")),
    ("f16", "f64", "rn"),
):
    values = {"f32": _MORE32, "f64": _MORE64}[source]
    row(
        f"cvt.{rounding}.{target}.{source} d, a;",
        target,
        source,
        lambda a, f=FORMS[source], t=FORMS[target], r=rounding: t.encode(f.decode(a), r),
        [values],
    )
for target, source in (("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f64", "f16")):
    row(
        f"cvt.{target}.{source} d, a;",
        target,
        source,
        lambda a, f=FORMS[source], t=FORMS[target]: t.encode(f.decode(a)),
    )
row(
    "cvt.rn.ftz.f32.f64 d, a;",
    "f32",
    "f64",
    lambda a: F32.encode(F64.decode(a), ftz=True),
    [_MORE64],
)
row(
    "cvt.sat.f32.f32 d, a;",
    "f32",
    "f32",
    lambda a: (
        F32.encode(
            Fraction(0)
            if F32.decode(a) == "nan"
            else exact.smaller(exact.larger(F32.decode(a), Fraction(0)), Fraction(1))
        )
        & 0x7FFFFFFF
    ),
    [_MORE32],
)
for rounding in ("rni", "rzi", "rmi", "rpi"):

    def rounded(a: int, rounding: str = rounding) -> int:
        value = F32.decode(a)
        if isinstance(value, str):
            return F32.encode(value)
        whole = exact.to_int(value, 300, True, rounding)
        return F32.encode(Fraction(whole)) | a & 0x80000000

    row(f"cvt.{rounding}.f32.f32 d, a;", "f32", "f32", rounded, [_MORE32])
for kind, form in (("f16", F16), ("bf16", BF16)):
    for words, relu in (("rn", False), ("rz", False), ("rn.relu", True)):
        numbers = [x for x in _MORE32 if not exact.is_nan(F32, x)]

        def two(a: int, b: int, form: Form = form, words: str = words, relu: bool = relu) -> int:
            halves = [F32.decode(x) for x in (b, a)]
            if relu:
                halves = [exact.larger(x, Fraction(0)) for x in halves]
            low, high = (form.encode(x, words[:2]) for x in halves)
            return low | high << 16

        row(f"cvt.{words}.{kind}x2.f32 d, a, b;", f"{kind}x2", "f32 f32", two,
            crossed(numbers, numbers[::3]))  # fmt: skip
for kind in ("f16", "bf16"):
    row(
        f"cvt.rn.relu.{kind}.f32 d, a;",
        kind,
        "f32",
        lambda a, f=FORMS[kind]: f.encode(
            "nan" if F32.decode(a) == "nan" else exact.larger(F32.decode(a), Fraction(0))
        ),
        [_MORE32],
    )

# Moves

row("mov.b32 d, {a, b};", "b32", "b16 b16", lambda a, b: a | b << 16)
row("mov.b64 d, {a, b};", "b64", "b32 b32", lambda a, b: a | b << 32)
row(".reg .b16 low; mov.b32 {low, d}, a;", "b16", "b32", lambda a: a >> 16)
row(".reg .b16 high; mov.b32 {d, high}, a;", "b16", "b32", lambda a: a & 0xFFFF)
row("mov.b32 {_, d}, a;", "b16", "b32", lambda a: a >> 16)
row(".reg .b32 low; mov.b64 {low, d}, a;", "b32", "b64", lambda a: a >> 32)
row("mov.b64 d, {a, b, b, a};", "b64", "b16 b16", lambda a, b: a | b << 16 | b << 32 | a << 48)
row("mov.u32 d, 0x7f;", "u32", "u32", lambda a: 0x7F)
row("mov.b32 d, -2;", "b32", "b32", lambda a: mask(32) - 1)
row("mov.f32 d, 0f40490FDB;", "f32", "b32", lambda a: 0x40490FDB)
row("mov.b32 d, 0f40490FDB;", "b32", "b32", lambda a: 0x40490FDB)
row("mov.f64 d, 0d400921FB54442D18;", "f64", "b32", lambda a: 0x400921FB54442D18)
row("mov.f32 d, 1.5;", "f32", "b32", lambda a: 0x3FC00000)
row(
    "add.f32 d, a, 0f3F800000;",
    "f32",
    "f32",
    lambda a: F32.encode(exact.add(F32.decode(a), Fraction(1))),
)
row("add.u32 d, a, 4294967295U;", "u32", "u32", lambda a: a - 1 & mask(32))
row("add.s64 d, a, -1;", "s64", "s64", lambda a: a - 1 & mask(64))

# Under a guard: lanes that it leaves out keep what the register held.

row(
    "mov.b32 d, 7; @c add.s32 d, a, b;",
    "s32",
    "s32 s32 pred",
    lambda a, b, c: a + b & mask(32) if c else 7,
)
row(
    "mov.b32 d, b; @!c mul.lo.s32 d, a, b;",
    "s32",
    "s32 s32 pred",
    lambda a, b, c: b if c else a * b & mask(32),
)
row(
    "mov.f32 d, b; @c fma.rn.f32 d, a, b, b;",
    "f32",
    "f32 f32 pred",
    lambda a, b, c: F32.encode(exact.fma(F32.decode(a), F32.decode(b), F32.decode(b))) if c else b,
)
row(
    ".reg .b64 wide; mov.b64 wide, {b, b}; @c mov.b64 wide, {a, b}; mov.b64 {d, _}, wide;",
    "b32",
    "b32 b32 pred",
    lambda a, b, c: a if c else b,
)
