"""Approximate and special functions: ex2, lg2, rcp, rsqrt, sqrt, sin, cos, tanh.

All but ex2 give the correctly rounded result, which the hardware misses by a unit or two in the
last
place (tanh and the 16-bit forms by more). See docs/emulator.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attnprobe.ptx import exact_ex2, numeric
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.ops.arith import nearest, result_f32, source_f32
from attnprobe.ptx.ops.convert import narrow
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import Array

_FRACTION = np.float64(1 << 23)
_LEAST, _MOST = np.float32(-300), np.float32(300)


def ex2_f32(x: Array) -> Array:
    """Return 2**x by the hardware's rule, its table replaced by correct rounding: float32.

    The argument is fixed point with 23 fraction bits, truncated; of a negative one the fraction is
    complemented. The fraction chooses a value in [1, 2), correctly rounded here (the hardware's
    table is within one unit of that); the whole part is added to its exponent. Results below
    2**-126 are +0.
    """
    # Whole numbers of 2**-23, exact in float64. Past 300 either way the result is 0 or infinite.
    steps = np.trunc(np.multiply(np.clip(x, _LEAST, _MOST), _FRACTION, dtype=np.float64))
    fixed = steps / _FRACTION
    steps -= (x < 0) & (fixed != np.floor(fixed))
    fixed = steps / _FRACTION
    whole = np.floor(fixed)
    mantissa = np.exp2(fixed - whole).astype(np.float32)
    # Exponent fields 0 and 255 make the factors 0 and infinity.
    field = np.clip(whole, -127, 128).astype(np.int32) + np.int32(127)
    result = mantissa * (field << np.int32(23)).view(np.float32)
    return numeric.canonical(result)


def ex2_f32_subnormal(x: Array) -> Array:
    """Return 2**x without flushing: small arguments are scaled up and the result down, as the
    compiler does.
    """
    small = x < np.float32(-126)
    result = ex2_f32(np.where(small, x * np.float32(0.5), x))
    return np.where(small, result * result, result)


def _rounded(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        return numeric.canonical(np.asarray(function(x.astype(np.float64))).astype(np.float32))

    compute.__name__ = getattr(function, "__name__", "function")
    return compute


def reciprocal(x: Array) -> Array:
    """Return 1 / x, rounded to nearest."""
    result: Array = x.dtype.type(1) / x
    return result


def reciprocal_root(x: Array) -> Array:
    """Return 1 / sqrt(x) in float64."""
    return 1.0 / np.sqrt(x)


lg2_f32 = _rounded(np.log2)
rsqrt_f32 = _rounded(reciprocal_root)
sin_f32 = _rounded(np.sin)
cos_f32 = _rounded(np.cos)
tanh_f32 = _rounded(np.tanh)


def _halves(e: Emitter, instr: Instr, function: Callable[[Array], Array]) -> bool:
    """Write a function of 16-bit floats, one or two in a register; False if the type is none."""
    kind = e.type()
    if kind not in ("f16", "f16x2", "bf16", "bf16x2"):
        return False
    code = "u4" if kind.endswith("x2") else "u2"
    a = e.src(instr.operands[1], code)
    e.dst(
        instr.operands[0],
        f"{e.fn(on_halves)}({a}, {kind.removesuffix('x2')!r}, {e.fn(function)})",
        code,
    )
    return True


def on_halves(bits: Array, kind: str, function: Callable[[Array], Array]) -> Array:
    """Return ``function`` of the 16-bit floats in ``bits``, rounded to them."""
    halves = np.ascontiguousarray(bits).view(np.uint16)
    wide = numeric.f16_to_f32(halves) if kind == "f16" else numeric.bf16_to_f32(halves)
    return narrow(function(wide.astype(np.float64)), kind).view(bits.dtype)


def _one_float(e: Emitter, instr: Instr, function: Callable[[Array], Array]) -> None:
    result_f32(e, instr.operands[0], f"{e.fn(function)}({source_f32(e, instr.operands[1])})")


@op("ex2")
def ex2(e: Emitter, instr: Instr) -> None:
    """d = 2**a."""
    if not _halves(e, instr, np.exp2):
        function = ex2_f32 if "ftz" in instr.mods else ex2_f32_subnormal
        if e.shared.exact:
            function = exact_ex2.ex2_f32 if "ftz" in instr.mods else exact_ex2.ex2_f32_subnormal
        _one_float(e, instr, function)


@op("lg2")
def lg2(e: Emitter, instr: Instr) -> None:
    """d = log2(a)."""
    _one_float(e, instr, lg2_f32)


@op("sin")
def sin(e: Emitter, instr: Instr) -> None:
    """d = sin(a)."""
    _one_float(e, instr, sin_f32)


@op("cos")
def cos(e: Emitter, instr: Instr) -> None:
    """d = cos(a)."""
    _one_float(e, instr, cos_f32)


@op("tanh")
def tanh(e: Emitter, instr: Instr) -> None:
    """d = tanh(a)."""
    if not _halves(e, instr, np.tanh):
        _one_float(e, instr, tanh_f32)


@op("rcp", accepts=nearest)
def rcp(e: Emitter, instr: Instr) -> None:
    """d = 1 / a."""
    if e.type() == "f64":
        e.dst(instr.operands[0], f"{e.fn(reciprocal)}({e.src(instr.operands[1], 'f8')})", "f8")
    else:
        _one_float(e, instr, reciprocal)


@op("rsqrt", accepts=nearest)
def rsqrt(e: Emitter, instr: Instr) -> None:
    """d = 1 / sqrt(a)."""
    if e.type() == "f64":
        e.dst(instr.operands[0], f"{e.fn(reciprocal_root)}({e.src(instr.operands[1], 'f8')})", "f8")
    else:
        _one_float(e, instr, rsqrt_f32)


@op("sqrt", accepts=nearest)
def sqrt(e: Emitter, instr: Instr) -> None:
    """d = sqrt(a)."""
    if e.type() == "f64":
        e.dst(instr.operands[0], f"{e.fn(np.sqrt)}({e.src(instr.operands[1], 'f8')})", "f8")
    else:
        _one_float(e, instr, np.sqrt)
