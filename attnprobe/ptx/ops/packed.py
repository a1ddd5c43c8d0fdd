"""Arithmetic of 16-bit floats, one (f16, bf16) or two (f16x2, bf16x2) in a register.

Values are widened to float32, where one operation is exact enough that rounding it once more to 16
bits gives the correctly rounded result (fma goes through float64, rounded to odd).
"""

from __future__ import annotations

import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.ops.convert import narrow
from attnprobe.ptx.values import Array


def emit_packed(e: Emitter, instr: Instr, name: str) -> None:
    """Write operation ``name`` on the 16-bit floats of the sources."""
    kind = e.type()
    code = "u4" if kind.endswith("x2") else "u2"
    parts = [e.src(operand, code) for operand in instr.operands[1:]]
    flags = tuple(mod for mod in instr.mods if mod in ("ftz", "sat", "relu", "NaN"))
    call = f"{e.fn(halves)}({name!r}, {kind.removesuffix('x2')!r}, {flags!r}, {', '.join(parts)})"
    e.dst(instr.operands[0], call, code)


def halves(name: str, kind: str, flags: tuple[str, ...], *sources: Array) -> Array:
    """Return the operation on every 16-bit float of the sources (uint16 or uint32)."""
    dtype = sources[0].dtype
    raw = [_parts(source) for source in sources]
    if name in ("neg", "abs"):  # the sign bit alone
        sign = np.uint16(0x8000)
        return (raw[0] ^ sign if name == "neg" else raw[0] & ~sign).view(dtype)[..., 0]
    widen = numeric.f16_to_f32 if kind == "f16" else numeric.bf16_to_f32
    wide = [widen(part) for part in raw]
    if "ftz" in flags and kind == "f16":
        wide = [_flush(part) for part in wide]
    result = _apply(name, wide, "NaN" in flags)
    if "sat" in flags:
        result = numeric.saturate(result)
    if "relu" in flags:
        result = np.where(np.isnan(result), result, np.maximum(result, result.dtype.type(0)))
    bits = narrow(result, kind)
    if "ftz" in flags and kind == "f16":
        bits = np.where((bits & np.uint16(0x7C00)) == 0, bits & np.uint16(0x8000), bits)
    return np.ascontiguousarray(bits).view(dtype)[..., 0]


def _parts(source: Array) -> Array:
    """Return the 16-bit floats of registers (warps, lanes) on an axis of their own."""
    return np.ascontiguousarray(source).view(np.uint16).reshape(*source.shape, -1)


def _flush(x: Array) -> Array:
    return np.where(np.abs(x) < np.float32(2.0**-14), np.copysign(np.float32(0), x), x)


def _apply(name: str, wide: list[Array], nan_wins: bool) -> Array:
    if name == "add":
        return numeric.fma_narrow(wide[0], np.ones((1, 1), np.float32), wide[1])
    if name == "sub":
        return numeric.fma_narrow(wide[0], np.ones((1, 1), np.float32), -wide[1])
    if name == "mul":
        return np.multiply(wide[0], wide[1], dtype=np.float64)
    if name == "fma":
        return numeric.fma_narrow(*wide)
    suffix = "nan" if nan_wins else "f"
    word = "minimum" if name == "min" else "maximum"
    chosen: Array = getattr(numeric, f"{word}_{suffix}")(wide[0], wide[1])
    return chosen
