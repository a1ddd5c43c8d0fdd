"""Rows of integer arithmetic."""

from __future__ import annotations

from itertools import product

from tests.ptx.exact import signed
from tests.ptx.harness import BITS, EDGES, crossed
from tests.ptx.op_row import integer, mask, row


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
