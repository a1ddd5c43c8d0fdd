"""Bits: and, or, xor, not, cnot, lop3, shifts, funnel shifts, bit fields, permutes and counts."""

from __future__ import annotations

import numpy as np

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Imm, Instr, Sink
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import DTYPES, RAW_CODES, TYPE_BITS, TYPE_CODES, Array


def _bitwise(e: Emitter, instr: Instr, template: str) -> None:
    kind = e.type()
    code = "p" if kind == "pred" else e.int_code(*instr.operands[1:], bits=TYPE_BITS[kind])
    e.dst(
        instr.operands[0],
        template.format(*(e.src(operand, code) for operand in instr.operands[1:])),
        code,
    )


@op("and")
def and_(e: Emitter, instr: Instr) -> None:
    """d = a & b."""
    _bitwise(e, instr, "{} & {}")


@op("or")
def or_(e: Emitter, instr: Instr) -> None:
    """d = a | b."""
    _bitwise(e, instr, "{} | {}")


@op("xor")
def xor(e: Emitter, instr: Instr) -> None:
    """d = a ^ b."""
    _bitwise(e, instr, "{} ^ {}")


@op("not")
def not_(e: Emitter, instr: Instr) -> None:
    """d = ~a."""
    _bitwise(e, instr, "~{}")


@op("cnot")
def cnot(e: Emitter, instr: Instr) -> None:
    """d = 1 where a is 0, else 0."""
    code = RAW_CODES[TYPE_BITS[e.type()]]
    e.dst(instr.operands[0], f"({e.src(instr.operands[1], code)} == 0).astype({code})", code)


@op("lop3")
def lop3(e: Emitter, instr: Instr) -> None:
    """d = any function of three bits, given by its table."""
    destination, predicate = e.pair(instr.operands[0])
    table = instr.operands[4]
    if not isinstance(table, Imm):
        raise e.error("the table of lop3 is a literal")
    a, b, c = (e.src(operand, "u4") for operand in instr.operands[1:4])
    value = e.tmp(f"{e.fn(three_way)}({a}, {b}, {c}, {table.value & 255})")
    e.dst(destination, value, "u4")
    if not isinstance(predicate, Sink):
        q = e.src(instr.operands[5], "p")
        e.dst(predicate, f"({value} != 0) {'&' if 'and' in instr.mods else '|'} {q}", "p")


def three_way(a: Array, b: Array, c: Array, table: int) -> Array:
    """Return the bits for which ``table`` has a one at a * 4 + b * 2 + c."""
    out = np.zeros((1, 1), np.uint32)
    for entry in range(8):
        if table >> entry & 1:
            out = out | (a if entry & 4 else ~a) & (b if entry & 2 else ~b) & (
                c if entry & 1 else ~c
            )
    return out


@op("shl")
def shl(e: Emitter, instr: Instr) -> None:
    """d = a << b; 0 where b is the width or more."""
    bits = TYPE_BITS[e.type()]
    code = e.int_code(instr.operands[1], bits=bits)
    a, amount = instr.operands[1:]
    if isinstance(amount, Imm):
        shift = amount.value & 0xFFFFFFFF
        text = f"{e.src(a, code)} << {e.const(shift, code)}" if shift < bits else e.const(0, code)
        e.dst(instr.operands[0], text, code)
        return
    raw = RAW_CODES[bits]
    e.dst(instr.operands[0], f"{e.fn(shift_left)}({e.src(a, raw)}, {e.src(amount, 'u4')})", raw)


def shift_left(a: Array, amount: Array) -> Array:
    """Return a << amount, 0 past the width."""
    bits = 8 * a.dtype.itemsize
    shifted = a << np.minimum(amount, bits - 1).astype(a.dtype)
    result: Array = np.where(amount < bits, shifted, a.dtype.type(0))
    return result


@op("shr")
def shr(e: Emitter, instr: Instr) -> None:
    """d = a >> b, filled with the sign or zeros."""
    kind = e.type()
    code, bits = TYPE_CODES[kind], TYPE_BITS[kind]
    a, amount = instr.operands[1:]
    if isinstance(amount, Imm):
        shift = amount.value & 0xFFFFFFFF
        if shift >= bits and code[0] == "u":
            e.dst(instr.operands[0], e.const(0, code), code)
        else:
            e.dst(
                instr.operands[0],
                f"{e.src(a, code)} >> {e.const(min(shift, bits - 1), code)}",
                code,
            )
        return
    e.dst(instr.operands[0], f"{e.fn(shift_right)}({e.src(a, code)}, {e.src(amount, 'u4')})", code)


def shift_right(a: Array, amount: Array) -> Array:
    """Return a >> amount; past the width the sign or 0."""
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(amount, bits - 1).astype(a.dtype)
    result: Array = (
        shifted if a.dtype.kind == "i" else np.where(amount < bits, shifted, a.dtype.type(0))
    )
    return result


@op("shf")
def shf(e: Emitter, instr: Instr) -> None:
    """d = 32 bits of the 64 bits {b, a}, shifted left or right."""
    a, b, c = (e.src(operand, "u4") for operand in instr.operands[1:])
    left, wrap = "l" in instr.mods, "wrap" in instr.mods
    e.dst(instr.operands[0], f"{e.fn(funnel)}({a}, {b}, {c}, {left}, {wrap})", "u4")


def funnel(a: Array, b: Array, c: Array, left: bool, wrap: bool) -> Array:
    """Return the high half of {b, a} << c, or the low half of {b, a} >> c."""
    amount = (c & np.uint32(31) if wrap else np.minimum(c, np.uint32(32))).astype(np.uint64)
    both = b.astype(np.uint64) << np.uint64(32) | a
    if left:
        return (
            ((both << amount) >> np.uint64(32)).astype(np.uint32)
            if wrap
            else (
                np.where(
                    amount == 32,
                    a,
                    ((both << (amount & np.uint64(31))) >> np.uint64(32)).astype(np.uint32),
                )
            )
        )
    return (both >> amount).astype(np.uint32)


@op("bfe")
def bfe(e: Emitter, instr: Instr) -> None:
    """d = the field of c bits at b, extended."""
    code = TYPE_CODES[e.type()]
    a = e.src(instr.operands[1], code)
    b, c = (e.src(operand, "u4") for operand in instr.operands[2:])
    e.dst(instr.operands[0], f"{e.fn(extract)}({a}, {b}, {c})", code)


def extract(a: Array, position: Array, length: Array) -> Array:
    """Return the bit field; a signed one is extended with its top bit, or a's where it reaches
    past the end.
    """
    bits = 8 * a.dtype.itemsize
    raw = a.view(DTYPES[f"u{bits // 8}"])
    one, zero = raw.dtype.type(1), raw.dtype.type(0)
    pos = (position & np.uint32(255)).astype(raw.dtype)
    count = (length & np.uint32(255)).astype(raw.dtype)
    top = np.minimum(bits - 1, pos.astype(np.int64) + count.astype(np.int64) - 1)
    shifted = np.where(pos < bits, raw >> np.minimum(pos, bits - 1), zero)
    ones = np.where(count < bits, (one << np.minimum(count, bits - 1)) - one, ~zero)
    field = shifted & ones
    if a.dtype.kind == "i":
        sign = (raw >> np.maximum(top, 0).astype(raw.dtype)) & one
        field = np.where((sign == 1) & (count > 0), field | ~ones, field)
        past = (pos >= bits) & (count > 0) & (sign == 1)
        field = np.where(past, ~zero, field)
        # Bits that would come from past the end are copies of the sign.
        have = np.maximum(bits - pos.astype(np.int64), 0)
        short = (count.astype(np.int64) > have) & (sign == 1) & (have > 0)
        fill = ~zero << np.minimum(have, bits - 1).astype(raw.dtype)
        field = np.where(short, field | fill, field)
    result: Array = field.view(a.dtype)
    return result


@op("bfi")
def bfi(e: Emitter, instr: Instr) -> None:
    """d = b with the low bits of a put in at c, d bits of them."""
    code = RAW_CODES[TYPE_BITS[e.type()]]
    a, b = (e.src(operand, code) for operand in instr.operands[1:3])
    c, d = (e.src(operand, "u4") for operand in instr.operands[3:])
    e.dst(instr.operands[0], f"{e.fn(insert)}({a}, {b}, {c}, {d})", code)


def insert(a: Array, b: Array, position: Array, length: Array) -> Array:
    """Return b with a bit field replaced."""
    bits = 8 * a.dtype.itemsize
    one, zero = a.dtype.type(1), a.dtype.type(0)
    pos = (position & np.uint32(255)).astype(a.dtype)
    count = (length & np.uint32(255)).astype(a.dtype)
    ones = np.where(count < bits, (one << np.minimum(count, bits - 1)) - one, ~zero)
    shift = np.minimum(pos, bits - 1)
    window = np.where(pos < bits, ones << shift, zero)
    result: Array = (b & ~window) | ((a << shift) & window)
    return result


@op("bfind")
def bfind(e: Emitter, instr: Instr) -> None:
    """d = position of the highest bit that differs from the sign, or the shift to bring it to
    the top.
    """
    code = TYPE_CODES[e.type()]
    e.dst(
        instr.operands[0],
        f"{e.fn(find_high)}({e.src(instr.operands[1], code)}, {'shiftamt' in instr.mods})",
        "u4",
    )


def find_high(a: Array, shift_amount: bool) -> Array:
    """Return the position of the highest one (of ~a where a is negative); all ones if there is
    none.
    """
    bits = 8 * a.dtype.itemsize
    magnitude = np.where(a < 0, ~a, a) if a.dtype.kind == "i" else a
    zeros = leading_zeros(magnitude.view(DTYPES[f"u{bits // 8}"]))
    none = magnitude == 0
    return np.where(
        none, np.uint32(0xFFFFFFFF), zeros if shift_amount else np.uint32(bits - 1) - zeros
    )


@op("clz")
def clz(e: Emitter, instr: Instr) -> None:
    """d = leading zeros."""
    code = RAW_CODES[TYPE_BITS[e.type()]]
    e.dst(instr.operands[0], f"{e.fn(leading_zeros)}({e.src(instr.operands[1], code)})", "u4")


def leading_zeros(a: Array) -> Array:
    """Return the number of leading zeros of unsigned ``a``: uint32."""
    bits = 8 * a.dtype.itemsize
    x = a.copy()
    half = bits // 2
    while half:
        x = x | x >> a.dtype.type(half)
        half //= 2
    return np.uint32(bits) - np.bitwise_count(x).astype(np.uint32)


@op("popc")
def popc(e: Emitter, instr: Instr) -> None:
    """d = number of ones."""
    code = RAW_CODES[TYPE_BITS[e.type()]]
    e.dst(
        instr.operands[0],
        f"{e.fn(np.bitwise_count)}({e.src(instr.operands[1], code)}).astype(u4)",
        "u4",
    )


@op("brev")
def brev(e: Emitter, instr: Instr) -> None:
    """d = a with its bits in reverse order."""
    code = RAW_CODES[TYPE_BITS[e.type()]]
    e.dst(instr.operands[0], f"{e.fn(reverse_bits)}({e.src(instr.operands[1], code)})", code)


def reverse_bits(a: Array) -> Array:
    """Return ``a`` with its bits reversed."""
    dtype = a.dtype.type
    masks = {1: 0x5555555555555555, 2: 0x3333333333333333, 4: 0x0F0F0F0F0F0F0F0F}
    x = a
    for shift, mask in masks.items():
        m = dtype(mask & ((1 << 8 * a.dtype.itemsize) - 1))
        x = (x >> dtype(shift)) & m | (x & m) << dtype(shift)
    return x.byteswap()


@op("prmt")
def prmt(e: Emitter, instr: Instr) -> None:
    """d = four of the eight bytes of {b, a}, chosen by c."""
    modes = [mod for mod in instr.mods if mod in _MODES]
    a, b, c = (e.src(operand, "u4") for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(permute)}({a}, {b}, {c}, {modes[0] if modes else ''!r})", "u4")


_MODES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def permute(a: Array, b: Array, c: Array, mode: str) -> Array:
    """Return bytes of {b, a}: in the plain mode four bits of c choose a byte, their top bit its
    sign.
    """
    both = b.astype(np.uint64) << np.uint64(32) | a
    out = np.zeros((1, 1), np.uint32)
    for place in range(4):
        if mode:
            table = np.array([row[place] for row in _MODES[mode]], np.uint64)
            chosen = table[(c & np.uint32(3)).astype(np.int64)]
            replicate = np.zeros((1, 1), bool)
        else:
            nibble = c >> np.uint32(4 * place)
            chosen = (nibble & np.uint32(7)).astype(np.uint64)
            replicate = (nibble & np.uint32(8)) != 0
        byte = (both >> (chosen << np.uint64(3))).astype(np.uint8)
        sign = np.where(byte & np.uint8(0x80), np.uint8(0xFF), np.uint8(0))
        out = out | np.where(replicate, sign, byte).astype(np.uint32) << np.uint32(8 * place)
    return out
