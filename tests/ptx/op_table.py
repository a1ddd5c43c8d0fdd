"""One row for each opcode variant: PTX text, types, what it must give, computed in exact
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from tests.ptx import exact
from tests.ptx.exact import BF16, F16, F32, F64, FORMS, Form, signed
from tests.ptx.harness import BITS, EDGES, crossed


@dataclass(frozen=True)
class Row:
    """``text`` reads a, b, c ... and writes d; ``expected`` takes and gives raw bits."""

    text: str
    out: str
    sources: tuple[str, ...]
    expected: Callable[..., int]
    columns: Sequence[Sequence[int]] = field(default=(), compare=False)

    def inputs(self) -> list[list[int]]:
        """The given columns, else the product of the types' edge values."""
        if self.columns:
            return [list(column) for column in self.columns]
        return crossed(*(EDGES[kind] if kind != "pred" else [0, 1] for kind in self.sources))


ROWS: list[Row] = []


def row(
    text: str,
    out: str,
    sources: str,
    expected: Callable[..., int],
    columns: Sequence[Sequence[int]] = (),
) -> None:
    ROWS.append(Row(text, out, tuple(sources.split()), expected, columns))


def mask(bits: int) -> int:
    return (1 << bits) - 1


# Integers


def integer(
    name: str,
    kind: str,
    function: Callable[..., int],
    count: int = 2,
    columns: Sequence[Sequence[int]] = (),
    out: str = "",
) -> None:
    """A row whose function works on Python integers of the type's sign."""
    bits = BITS[kind]
    read = (lambda x: signed(x, bits)) if kind[0] == "s" else (lambda x: x)
    out = out or kind
    operands = ", ".join("abc"[:count])
    row(
        f"{name}.{kind} d, {operands};",
        out,
        " ".join([kind] * count),
        lambda *xs: function(*map(read, xs)) & mask(BITS[out]),
        columns,
    )


def trunc_div(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def clamp(x: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, x))


for kind in ("s16", "u16", "s32", "u32", "s64", "u64"):
    bits = BITS[kind]
    integer("add", kind, lambda a, b: a + b)
    integer("sub", kind, lambda a, b: a - b)
    integer("mul.lo", kind, lambda a, b: a * b)
    integer("mul.hi", kind, lambda a, b, bits=bits: a * b >> bits)
    integer("mad.lo", kind, lambda a, b, c: a * b + c, 3,
            crossed(EDGES[kind][:6], EDGES[kind][-4:], EDGES[kind][2:8]))  # fmt: skip
    integer("min", kind, min)
    integer("max", kind, max)
    nonzero = crossed(EDGES[kind], [x for x in EDGES[kind] if x])
    integer("div", kind, trunc_div, 2, nonzero)
    integer("rem", kind, lambda a, b: a - b * trunc_div(a, b), 2, nonzero)
    if kind[0] == "s":
        integer("neg", kind, lambda a: -a, 1)
        integer("abs", kind, abs, 1)
    if bits < 64:
        wide = f"{kind[0]}{2 * bits}"
        integer("mul.wide", kind, lambda a, b: a * b, 2, out=wide)
for kind in ("s32", "u32"):
    integer(
        "mad.hi",
        kind,
        lambda a, b, c: (a * b >> 32) + c,
        3,
        crossed(EDGES[kind][:6], EDGES[kind][-4:], [0, 5]),
    )
    integer(
        "sad",
        kind,
        lambda a, b, c: abs(a - b) + c,
        3,
        crossed(EDGES[kind], EDGES[kind][:5], [0, 9, 0xFFFFFFFF]),
    )
    wide = f"{kind[0]}64"
    read = (lambda x: signed(x, 32)) if kind == "s32" else (lambda x: x)
    row(
        f"mad.wide.{kind} d, a, b, c;",
        wide,
        f"{kind} {kind} {wide}",
        lambda a, b, c, read=read: (read(a) * read(b) + c) & mask(64),
        crossed(EDGES[kind][:6], EDGES[kind][-4:], EDGES["u64"][:6]),
    )
    low24 = (lambda x: signed(x, 24)) if kind == "s32" else (lambda x: x & mask(24))
    row(
        f"mul24.lo.{kind} d, a, b;",
        kind,
        f"{kind} {kind}",
        lambda a, b, f=low24: f(a) * f(b) & mask(32),
    )
    row(
        f"mul24.hi.{kind} d, a, b;",
        kind,
        f"{kind} {kind}",
        lambda a, b, f=low24: f(a) * f(b) >> 16 & mask(32),
    )
integer("add.sat", "s32", lambda a, b: clamp(a + b, 32))
integer("sub.sat", "s32", lambda a, b: clamp(a - b, 32))


def bytes_of(x: int, is_signed: bool) -> list[int]:
    return [signed(x >> 8 * i, 8) if is_signed else x >> 8 * i & 255 for i in range(4)]


for first, second in product(("u32", "s32"), repeat=2):
    row(
        f"dp4a.{first}.{second} d, a, b, c;",
        "b32",
        "b32 b32 b32",
        lambda a, b, c, f=first, s=second: (
            (
                c
                + sum(
                    x * y
                    for x, y in zip(bytes_of(a, f == "s32"), bytes_of(b, s == "s32"), strict=True)
                )
            )
            & mask(32)
        ),
        crossed(EDGES["b32"], EDGES["b32"], [0, 5, 0xFFFFFFFF]),
    )

# Bits

for kind in ("b16", "b32", "b64"):
    bits = BITS[kind]
    integer("and", kind, lambda a, b: a & b)
    integer("or", kind, lambda a, b: a | b)
    integer("xor", kind, lambda a, b: a ^ b)
    integer("not", kind, lambda a: ~a, 1)
    integer("cnot", kind, lambda a: a == 0, 1)
    row(
        f"shl.{kind} d, a, b;",
        kind,
        f"{kind} b32",
        lambda a, b, bits=bits: a << b & mask(bits) if b < bits else 0,
        crossed(EDGES[kind], [0, 1, 15, 16, 31, 32, 63, 64, 0x80000000]),
    )
    row(f"shl.{kind} d, a, 5;", kind, kind, lambda a, bits=bits: a << 5 & mask(bits))
    row(f"shl.{kind} d, a, 77;", kind, kind, lambda a: 0)
    if bits > 16:
        row(f"popc.{kind} d, a;", "u32", kind, lambda a: a.bit_count())
        row(f"clz.{kind} d, a;", "u32", kind, lambda a, bits=bits: bits - a.bit_length())
        integer("brev", kind, lambda a, bits=bits: int(f"{a:0{bits}b}"[::-1], 2), 1)
for name, function in (
    ("and", lambda a, b: a & b),
    ("or", lambda a, b: a | b),
    ("xor", lambda a, b: a ^ b),
):
    row(f"{name}.pred d, a, b;", "pred", "pred pred", function)
row("not.pred d, a;", "pred", "pred", lambda a: 1 - a)
for kind in ("s16", "u16", "s32", "u32", "s64", "u64", "b32"):
    bits = BITS[kind]
    read = (lambda x, bits=bits: signed(x, bits)) if kind[0] == "s" else (lambda x: x)
    row(
        f"shr.{kind} d, a, b;",
        kind,
        f"{kind} b32",
        lambda a, b, read=read, bits=bits: (read(a) >> min(b, bits)) & mask(bits),
        crossed(EDGES[kind], [0, 1, 15, 16, 31, 32, 63, 64, 0xFFFFFFFF]),
    )
    row(
        f"shr.{kind} d, a, 3;",
        kind,
        kind,
        lambda a, read=read, bits=bits: (read(a) >> 3) & mask(bits),
    )
    row(
        f"shr.{kind} d, a, 99;",
        kind,
        kind,
        lambda a, read=read, bits=bits: (read(a) >> bits) & mask(bits),
    )
for direction, mode in product("lr", ("clamp", "wrap")):

    def funnel(a: int, b: int, c: int, direction: str = direction, mode: str = mode) -> int:
        amount = c & 31 if mode == "wrap" else min(c, 32)
        both = b << 32 | a
        return (both << amount >> 32 if direction == "l" else both >> amount) & mask(32)

    row(f"shf.{direction}.{mode}.b32 d, a, b, c;", "b32", "b32 b32 b32", funnel,
        crossed(EDGES["b32"], EDGES["b32"], [0, 1, 31, 32, 33, 0xFFFFFFFF]))  # fmt: skip


def bfe(a: int, position: int, length: int, bits: int, is_signed: bool) -> int:
    """The loop of the manual: bit by bit."""
    position, length = position & 255, length & 255
    top = min(position + length - 1, bits - 1)
    sign = 0 if not is_signed or length == 0 else a >> top & 1
    result = 0
    for i in range(bits):
        taken = i < length and position + i < bits
        result |= (a >> position + i & 1 if taken else sign) << i
    return result


def bfi(a: int, b: int, position: int, length: int, bits: int) -> int:
    result, position, length = b, position & 255, length & 255
    for i in range(length):
        if position + i < bits:
            result = result & ~(1 << position + i) | (a >> i & 1) << position + i
    return result


def bfind(a: int, bits: int, is_signed: bool, shift: bool) -> int:
    if is_signed and a >> bits - 1:
        a = ~a & mask(bits)
    if a == 0:
        return mask(32)
    return bits - a.bit_length() if shift else a.bit_length() - 1


for kind in ("u32", "s32", "u64", "s64"):
    bits = BITS[kind]
    row(f"bfe.{kind} d, a, b, c;", kind, f"{kind} b32 b32",
        lambda a, b, c, bits=bits, s=kind[0] == "s": bfe(a, b, c, bits, s),
        crossed(EDGES[kind], [0, 4, 31, 32, 40, 63, 64, 255], [0, 1, 8, 32, 64, 255]))  # fmt: skip
    for shift in (False, True):
        row(
            f"bfind{'.shiftamt' if shift else ''}.{kind} d, a;",
            "u32",
            kind,
            lambda a, bits=bits, s=kind[0] == "s", shift=shift: bfind(a, bits, s, shift),
        )
for kind in ("b32", "b64"):
    row(
        f"bfi.{kind} d, a, b, c, e;".replace(", e;", ", f;").replace("f;", "8;"),
        kind,
        f"{kind} {kind} b32",
        lambda a, b, c, bits=BITS[kind]: bfi(a, b, c, 8, bits),
        crossed(EDGES[kind], EDGES[kind], [0, 5, 28, 32, 60]),
    )
    row(
        f"bfi.{kind} d, a, b, 4, c;",
        kind,
        f"{kind} {kind} b32",
        lambda a, b, c, bits=BITS[kind]: bfi(a, b, 4, c, bits),
        crossed(EDGES[kind], EDGES[kind], [0, 1, 28, 32, 60, 64, 255]),
    )


def lop3(a: int, b: int, c: int, table: int) -> int:
    return sum(
        (table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i for i in range(32)
    )


for table in (0x00, 0x96, 0xCA, 0xE8, 0x3C, 0xFF, 0x1F):
    row(
        f"lop3.b32 d, a, b, c, {table:#x};",
        "b32",
        "b32 b32 b32",
        lambda a, b, c, t=table: lop3(a, b, c, t),
        crossed(EDGES["b32"][-5:], EDGES["b32"][-4:], EDGES["b32"][-4:]),
    )


def prmt(a: int, b: int, c: int) -> int:
    data = (b << 32 | a).to_bytes(8, "little")
    out = []
    for place in range(4):
        nibble = c >> 4 * place & 15
        byte = data[nibble & 7]
        out.append((255 if byte & 128 else 0) if nibble & 8 else byte)
    return int.from_bytes(bytes(out), "little")


def prmt_mode(a: int, b: int, c: int, mode: str) -> int:
    data = (b << 32 | a).to_bytes(8, "little")
    s = c & 3
    chosen = {
        "f4e": [s, s + 1, s + 2, s + 3], "b4e": [s, s + 7, s + 6, s + 5], "rc8": [s] * 4,
        "ecl": [max(i, s) for i in range(4)], "ecr": [min(i, s) for i in range(4)],
        "rc16": [s % 2 * 2, s % 2 * 2 + 1] * 2,
    }[mode]  # fmt: skip
    return int.from_bytes(bytes(data[i % 8] for i in chosen), "little")


_SELECTORS = [0x3210, 0x7654, 0x5140, 0x4321, 0xFEDC, 0x8888, 0x0000, 0x1032]
row(
    "prmt.b32 d, a, b, c;",
    "b32",
    "b32 b32 b32",
    prmt,
    crossed([0x83828180, 0x04030201], [0xF7068504], _SELECTORS),
)
for mode in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
    row(
        f"prmt.b32.{mode} d, a, b, c;",
        "b32",
        "b32 b32 b32",
        lambda a, b, c, m=mode: prmt_mode(a, b, c, m),
        crossed([0x13121110], [0x17161514], [0, 1, 2, 3]),
    )

# Floats


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

# Comparison and choice

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

# Conversion

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
