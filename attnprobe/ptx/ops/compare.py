"""Comparison and choice: setp, set, selp, slct, testp."""

from __future__ import annotations

import numpy as np

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr, Sink
from attnprobe.ptx.numeric import bf16_to_f32, f16_to_f32
from attnprobe.ptx.ops.arith import source_f32
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import TYPE_CODES, Array, pick

_ORDERED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
_UNORDERED = {"equ": "==", "neu": "!=", "ltu": "<", "leu": "<=", "gtu": ">", "geu": ">="}
_COMPARISONS = (*_ORDERED, *_UNSIGNED, *_UNORDERED, "num", "nan")
_FLOATS = ("f16", "bf16", "f32", "f64")


def _no_packed(instr: Instr) -> bool:
    return not {"f16x2", "bf16x2"} & set(instr.mods)


def _compared(e: Emitter, instr: Instr, kind: str) -> str:
    """Return the expression of the comparison of the first two sources."""
    comparison = next(mod for mod in instr.mods if mod in _COMPARISONS)
    left, right = instr.operands[1:3]
    if kind == "f32":
        a, b = source_f32(e, left), source_f32(e, right)
    elif kind in ("f16", "bf16"):
        wide = e.fn(f16_to_f32 if kind == "f16" else bf16_to_f32)
        a, b = f"{wide}({e.src(left, 'u2')})", f"{wide}({e.src(right, 'u2')})"
    else:
        code = TYPE_CODES[kind]
        if comparison in _UNSIGNED:
            code = "u" + code[1]
        a, b = e.src(left, code), e.src(right, code)
    if kind not in _FLOATS:
        return f"{a} {(_ORDERED | _UNSIGNED)[comparison]} {b}"
    if comparison == "ne":  # NumPy's != holds for NaN; PTX's ne does not
        return f"({a} < {b}) | ({a} > {b})"
    if comparison in _ORDERED:
        return f"{a} {_ORDERED[comparison]} {b}"
    nan = e.fn(np.isnan)
    if comparison in ("num", "nan"):
        either = f"{nan}({a}) | {nan}({b})"
        return either if comparison == "nan" else f"~({either})"
    return f"({a} {_UNORDERED[comparison]} {b}) | {nan}({a}) | {nan}({b})"


@op("setp", accepts=_no_packed)
def setp(e: Emitter, instr: Instr) -> None:
    """p = a ? b, combined with a third predicate if given; ``p|q`` gives the opposite too."""
    first, second = e.pair(instr.operands[0])
    result = e.tmp(_compared(e, instr, e.type()))
    combine = next((mod for mod in instr.mods if mod in ("and", "or", "xor")), None)
    opposite = f"~{result}"
    if combine is not None:
        sign = {"and": "&", "or": "|", "xor": "^"}[combine]
        third = e.src(instr.operands[3], "p")
        result, opposite = e.tmp(f"{result} {sign} {third}"), f"(~{result}) {sign} {third}"
    opposite = opposite if isinstance(second, Sink) else e.tmp(opposite)
    e.dst(first, result, "p")
    if not isinstance(second, Sink):
        e.dst(second, opposite, "p")


@op("set", accepts=lambda instr: _no_packed(instr) and instr.operands[-1] is not None)
def set_(e: Emitter, instr: Instr) -> None:
    """d = all ones (or 1.0) where a ? b holds, else 0."""
    result = e.tmp(_compared(e, instr, e.type(1)))
    combine = next((mod for mod in instr.mods if mod in ("and", "or", "xor")), None)
    if combine is not None:
        result = e.tmp(f"{result} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[combine]} "
                       f"{e.src(instr.operands[3], 'p')}")  # fmt: skip
    code = TYPE_CODES[e.type(0)]
    true = e.const(0x3F800000, "f4") if code == "f4" else e.const(-1, code)
    e.dst(instr.operands[0], f"{e.fn(pick)}({result}, {true}, {e.const(0, code)})", code)


@op("selp")
def selp(e: Emitter, instr: Instr) -> None:
    """d = c ? a : b."""
    kind = e.type()
    code = TYPE_CODES[kind]
    if code[0] != "f":
        code = e.int_code(*instr.operands[1:3], bits=int(code[1]) * 8)
    a, b = (e.src(operand, code) for operand in instr.operands[1:3])
    e.dst(instr.operands[0], f"{e.fn(pick)}({e.src(instr.operands[3], 'p')}, {a}, {b})", code)


@op("slct")
def slct(e: Emitter, instr: Instr) -> None:
    """d = a where c >= 0, else b (NaN too)."""
    code = TYPE_CODES[e.type(0)]
    a, b = (e.src(operand, code) for operand in instr.operands[1:3])
    c = source_f32(e, instr.operands[3]) if e.type(1) == "f32" else e.src(instr.operands[3], "i4")
    e.dst(instr.operands[0], f"{e.fn(pick)}({c} >= 0, {a}, {b})", code)


@op("testp")
def testp(e: Emitter, instr: Instr) -> None:
    """p = whether a is finite, infinite, a number, not one, normal or subnormal."""
    test = next(
        mod
        for mod in instr.mods
        if mod in ("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    )
    a = e.src(instr.operands[1], TYPE_CODES[e.type()])
    e.dst(instr.operands[0], f"{e.fn(classify)}({a}, {test!r})", "p")


def classify(a: Array, test: str) -> Array:
    """Return the floating-point class test of testp."""
    if test == "finite":
        return np.isfinite(a)
    if test == "infinite":
        return np.isinf(a)
    if test == "number":
        return ~np.isnan(a)
    if test == "notanumber":
        return np.isnan(a)
    small = np.abs(a) < np.finfo(a.dtype).tiny
    result: Array = small & (a != 0) if test == "subnormal" else np.isfinite(a) & ~small
    return result
