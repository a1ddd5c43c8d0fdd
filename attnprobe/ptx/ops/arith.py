"""Integer and floating-point arithmetic: add, mul, fma, min, div, dp4a and their kin."""

from __future__ import annotations

import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr, Operand, Reg
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import TYPE_BITS, TYPE_CODES, Array

FLOATS = ("f32", "f64")
_ROUNDINGS = {"rz", "rm", "rp"}
_PACKED = ("f16", "f16x2", "bf16", "bf16x2")


def nearest(instr: Instr) -> bool:
    """Whether the variant rounds to nearest and uses no carry flag."""
    return not _ROUNDINGS & set(instr.mods) and "cc" not in instr.mods


def source_f32(e: Emitter, operand: Operand) -> str:
    """Return a float32 source, flushed if the instruction says ``.ftz``."""
    name = e.src(operand, "f4")
    if "ftz" not in e.instr.mods or name in e.flushed:
        return name
    if not isinstance(operand, Reg):
        return name
    key = (name, "flush")
    if key not in e.cache:
        e.cache[key] = e.tmp(f"{e.fn(numeric.flush)}({name})")
        e.flushed.add(e.cache[key])
    return e.cache[key]


def result_f32(e: Emitter, operand: Operand, expression: str) -> None:
    """Store a float32 result, saturated and flushed as the instruction says.

    The hardware knows one NaN; NumPy carries payloads on, which only the exact mode cares about.
    """
    if e.shared.exact:
        expression = f"{e.fn(numeric.canonical)}({expression})"
    if "sat" in e.instr.mods:
        expression = f"{e.fn(numeric.saturate)}({expression})"
    if "ftz" in e.instr.mods:
        name = e.tmp(f"{e.fn(numeric.flush)}({expression})")
        e.flushed.add(name)
        e.dst(operand, name, "f4")
    else:
        e.dst(operand, expression, "f4")


def sources(e: Emitter, instr: Instr, kind: str) -> list[str]:
    """Return all source operands as ``kind``."""
    if kind == "f32":
        return [source_f32(e, operand) for operand in instr.operands[1:]]
    return [e.src(operand, TYPE_CODES[kind]) for operand in instr.operands[1:]]


def _floats(e: Emitter, instr: Instr, template: str) -> bool:
    """Write a float operation of one expression; False if the type is no float."""
    kind = e.type()
    if kind not in FLOATS:
        return False
    expression = template.format(*sources(e, instr, kind))
    if kind == "f32":
        result_f32(e, instr.operands[0], expression)
    else:
        e.dst(instr.operands[0], expression, "f8")
    return True


def _any_sign(e: Emitter, instr: Instr, template: str) -> None:
    """Write an integer operation whose bits do not depend on signs."""
    code = e.int_code(*instr.operands[1:], bits=TYPE_BITS[e.type()])
    e.dst(
        instr.operands[0],
        template.format(*(e.src(operand, code) for operand in instr.operands[1:])),
        code,
    )


@op("add", accepts=nearest)
def add(e: Emitter, instr: Instr) -> None:
    """d = a + b; ``.sat`` on s32 clamps."""
    if packed(e, instr, "add"):
        return
    if "sat" in instr.mods and e.type() == "s32":
        a, b = (e.src(operand, "i4") for operand in instr.operands[1:])
        e.dst(instr.operands[0], f"{e.fn(add_sat)}({a}, {b})", "i4")
    elif not _floats(e, instr, "{} + {}"):
        _any_sign(e, instr, "{} + {}")


@op("sub", accepts=nearest)
def sub(e: Emitter, instr: Instr) -> None:
    """d = a - b; ``.sat`` on s32 clamps."""
    if packed(e, instr, "sub"):
        return
    if "sat" in instr.mods and e.type() == "s32":
        a, b = (e.src(operand, "i4") for operand in instr.operands[1:])
        e.dst(instr.operands[0], f"{e.fn(sub_sat)}({a}, {b})", "i4")
    elif not _floats(e, instr, "{} - {}"):
        _any_sign(e, instr, "{} - {}")


def add_sat(a: Array, b: Array) -> Array:
    """Return a + b clamped to int32."""
    return np.clip(a.astype(np.int64) + b, -(2**31), 2**31 - 1).astype(np.int32)


def sub_sat(a: Array, b: Array) -> Array:
    """Return a - b clamped to int32."""
    return np.clip(a.astype(np.int64) - b, -(2**31), 2**31 - 1).astype(np.int32)


def packed(e: Emitter, instr: Instr, name: str) -> bool:
    """Write the operation for f16, f16x2, bf16 or bf16x2; False if the type is none of them."""
    from attnprobe.ptx.ops.packed import emit_packed

    if e.type() not in _PACKED:
        return False
    emit_packed(e, instr, name)
    return True


@op("mul", accepts=nearest)
def mul(e: Emitter, instr: Instr) -> None:
    """d = a * b: low half, high half (``.hi``) or both (``.wide``) for integers."""
    if packed(e, instr, "mul"):
        return
    if _floats(e, instr, "{} * {}"):
        return
    a, b = instr.operands[1:]
    e.dst(instr.operands[0], *_product(e, instr, a, b))


def _product(e: Emitter, instr: Instr, a: Operand, b: Operand) -> tuple[str, str]:
    """Return the integer product that the modifiers ask for, and its code."""
    kind = e.type()
    code = TYPE_CODES[kind]
    bits = TYPE_BITS[kind]
    if "wide" in instr.mods:
        wide = f"{code[0]}{bits // 4}"
        return f"{e.fn(mul_wide)}({e.src(a, code)}, {e.src(b, code)}, {wide})", wide
    if "hi" in instr.mods:
        return f"{e.fn(mul_hi)}({e.src(a, code)}, {e.src(b, code)})", code
    free = e.int_code(a, b, bits=bits)
    return f"{e.src(a, free)} * {e.src(b, free)}", free


def mul_wide(a: Array, b: Array, wide: np.dtype[np.generic]) -> Array:
    """Return the whole product in twice the width."""
    return np.multiply(a, b, dtype=wide)


def mul_hi(a: Array, b: Array) -> Array:
    """Return the high half of the product."""
    size = a.dtype.itemsize
    if size < 8:
        wide = np.dtype(f"{a.dtype.kind}{2 * size}")
        result: Array = (np.multiply(a, b, dtype=wide) >> wide.type(8 * size)).astype(a.dtype)
        return result
    x, y = a.view(np.uint64), b.view(np.uint64)
    low, thirty_two = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low, x >> thirty_two, y & low, y >> thirty_two
    middle = x1 * y0 + (x0 * y0 >> thirty_two)
    second = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> thirty_two) + (second >> thirty_two)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    whole: Array = high.view(a.dtype)
    return whole


@op("mul24")
def mul24(e: Emitter, instr: Instr) -> None:
    """d = product of the low 24 bits: its low 32 bits, or bits 16-47 with ``.hi``."""
    code = TYPE_CODES[e.type()]
    a, b = (e.src(operand, code) for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(product24)}({a}, {b}, {'hi' in instr.mods})", code)


def product24(a: Array, b: Array, high: bool) -> Array:
    """Return bits 0-31 or 16-47 of the product of the low 24 bits."""
    wide = np.dtype(f"{a.dtype.kind}8")
    shift = a.dtype.type(8)
    product = ((a << shift) >> shift).astype(wide) * ((b << shift) >> shift)
    result: Array = (product >> wide.type(16 if high else 0)).astype(a.dtype)
    return result


@op("mad24")
def mad24(e: Emitter, instr: Instr) -> None:
    """d = mul24(a, b) + c."""
    code = TYPE_CODES[e.type()]
    a, b, c = (e.src(operand, code) for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(product24)}({a}, {b}, {'hi' in instr.mods}) + {c}", code)


@op("mad", accepts=nearest)
def mad(e: Emitter, instr: Instr) -> None:
    """d = a * b + c; for floats as fma."""
    if e.type() in FLOATS:
        fma(e, instr)
        return
    a, b, c = instr.operands[1:]
    product, code = _product(e, instr, a, b)
    e.dst(instr.operands[0], f"{product} + {e.src(c, code)}", code)


@op("fma", accepts=nearest)
def fma(e: Emitter, instr: Instr) -> None:
    """d = a * b + c, rounded once."""
    if packed(e, instr, "fma"):
        return
    function = numeric.fma_f32 if e.type() == "f32" else numeric.fma_f64
    _floats(e, instr, e.fn(function) + "({}, {}, {})")


@op("min")
def minimum(e: Emitter, instr: Instr) -> None:
    """d = the smaller; of a number and NaN the number, unless ``.NaN``."""
    _extreme(e, instr, "min", "minimum")


@op("max")
def maximum(e: Emitter, instr: Instr) -> None:
    """d = the larger; of a number and NaN the number, unless ``.NaN``."""
    _extreme(e, instr, "max", "maximum")


def _extreme(e: Emitter, instr: Instr, name: str, function: str) -> None:
    if packed(e, instr, name):
        return
    kind = e.type()
    if kind not in FLOATS:
        chosen = e.fn(getattr(np, function))
    elif "NaN" in instr.mods:
        chosen = e.fn(getattr(numeric, f"{function}_nan"))
    else:
        chosen = e.fn(getattr(numeric, f"{function}_f"))
    parts = sources(e, instr, kind)
    expression = parts[0]
    for part in parts[1:]:
        expression = f"{chosen}({expression}, {part})"
    if "relu" in instr.mods:
        expression = f"{e.fn(np.maximum)}({expression}, {e.const(0, TYPE_CODES[kind])})"
    if kind == "f32":
        name = e.tmp(expression)
        if "ftz" in instr.mods:
            e.flushed.add(name)
        e.dst(instr.operands[0], name, "f4")
    else:
        e.dst(instr.operands[0], expression, TYPE_CODES[kind])


@op("neg")
def neg(e: Emitter, instr: Instr) -> None:
    """d = -a."""
    if not packed(e, instr, "neg") and not _floats(e, instr, "-{}"):
        e.dst(
            instr.operands[0],
            f"-{e.src(instr.operands[1], TYPE_CODES[e.type()])}",
            TYPE_CODES[e.type()],
        )


@op("abs")
def absolute(e: Emitter, instr: Instr) -> None:
    """d = |a|."""
    if not packed(e, instr, "abs") and not _floats(e, instr, e.fn(np.abs) + "({})"):
        code = TYPE_CODES[e.type()]
        e.dst(instr.operands[0], f"{e.fn(np.abs)}({e.src(instr.operands[1], code)})", code)


@op("div")
def div(e: Emitter, instr: Instr) -> None:
    """d = a / b: truncated for integers, rounded to nearest for floats (``.approx`` and
    ``.full`` too).
    """
    if _floats(e, instr, "{} / {}"):
        return
    code = TYPE_CODES[e.type()]
    a, b = (e.src(operand, code) for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(quotient)}({a}, {b})", code)


@op("rem")
def rem(e: Emitter, instr: Instr) -> None:
    """d = remainder, with the sign of a."""
    code = TYPE_CODES[e.type()]
    a, b = (e.src(operand, code) for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(remainder)}({a}, {b})", code)


def quotient(a: Array, b: Array) -> Array:
    """Return a / b truncated; all ones where b is 0, as the hardware gives."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    if a.dtype.kind == "u":
        whole = a // safe
    else:
        whole = a // safe
        whole = whole + ((a - whole * safe != 0) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, np.array(-1).astype(a.dtype), whole.astype(a.dtype))


def remainder(a: Array, b: Array) -> Array:
    """Return a - b * trunc(a / b); a where b is 0."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    return np.where(b == 0, a, a - quotient(a, safe) * safe)


@op("sad")
def sad(e: Emitter, instr: Instr) -> None:
    """d = |a - b| + c."""
    code = TYPE_CODES[e.type()]
    a, b, c = (e.src(operand, code) for operand in instr.operands[1:])
    larger, smaller = e.fn(np.maximum), e.fn(np.minimum)
    e.dst(instr.operands[0], f"{larger}({a}, {b}) - {smaller}({a}, {b}) + {c}", code)


@op("dp4a")
def dp4a(e: Emitter, instr: Instr) -> None:
    """d = c + the four products of the bytes of a and b."""
    first, second = e.type(0), e.type(1)
    a, b = e.src(instr.operands[1], "u4"), e.src(instr.operands[2], "u4")
    c = e.src(instr.operands[3], "u4")
    e.dst(
        instr.operands[0],
        f"{e.fn(dot_bytes)}({a}, {b}, {c}, {first == 's32'}, {second == 's32'})",
        "u4",
    )


def dot_bytes(a: Array, b: Array, c: Array, a_signed: bool, b_signed: bool) -> Array:
    """Return c plus the products of the bytes of uint32 a and b, modulo 2**32."""
    total = c.astype(np.int64)
    for part in range(4):
        total = total + _byte(a, part, a_signed) * _byte(b, part, b_signed)
    return total.astype(np.uint32)


def _byte(x: Array, part: int, signed: bool) -> Array:
    byte = (x >> np.uint32(8 * part)).astype(np.uint8)
    return (byte.view(np.int8) if signed else byte).astype(np.int64)


@op("copysign")
def copysign(e: Emitter, instr: Instr) -> None:
    """d = b with the sign of a."""
    code = TYPE_CODES[e.type()]
    a, b = (e.src(operand, code) for operand in instr.operands[1:])
    e.dst(instr.operands[0], f"{e.fn(np.copysign)}({b}, {a})", code)
