"""Rows of bits: logic, shifts, fields, permutes."""

from __future__ import annotations

from itertools import product

from tests.ptx.exact import signed
from tests.ptx.harness import BITS, EDGES, crossed
from tests.ptx.op_row import integer, mask, row

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
