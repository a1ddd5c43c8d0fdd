"""cvt: between integers, f16, bf16, f32 and f64, with rounding, saturation and flushing."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import DTYPES, TYPE_BITS, TYPE_CODES, Array

_INTS = {"u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"}
_FLOATS = {"f16", "bf16", "f32", "f64"}
_PACKED = {"f16x2", "bf16x2"}
_INT_ROUNDING = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_ROUNDING = {"rn", "rz", "rm", "rp"}


def _types(instr: Instr) -> list[str]:
    return [mod for mod in instr.mods if mod in TYPE_CODES]


def _accepts(instr: Instr) -> bool:
    types = _types(instr)
    if len(types) != 2 or "satfinite" in instr.mods or {"rs", "rna"} & set(instr.mods):
        return False
    target, source = types
    if target in _PACKED:
        return source == "f32" and not {"rm", "rp"} & set(instr.mods)
    return target in _INTS | _FLOATS and source in _INTS | _FLOATS


@op("cvt", accepts=_accepts)
def cvt(e: Emitter, instr: Instr) -> None:
    """d = a in another type."""
    target, source = _types(instr)
    if target in _PACKED:
        _packed(e, instr, target)
        return
    value = e.src(instr.operands[1], TYPE_CODES[source])
    if source in _INTS and target in _INTS:
        _int_to_int(e, instr, value, target, source)
        return
    rounding = next((mod for mod in instr.mods if mod in _INT_ROUNDING or mod in _ROUNDING), "")
    flags = tuple(mod for mod in instr.mods if mod in ("ftz", "sat", "relu"))
    value = f"{e.fn(convert)}({value}, {target!r}, {source!r}, {rounding!r}, {flags!r})"
    e.dst(instr.operands[0], value, TYPE_CODES[target])


def _int_to_int(e: Emitter, instr: Instr, value: str, target: str, source: str) -> None:
    code = TYPE_CODES[target]
    if "sat" in instr.mods:
        e.dst(instr.operands[0], f"{e.fn(clamp)}({value}, {code})", code)
    elif TYPE_BITS[target] == TYPE_BITS[source]:
        e.dst(instr.operands[0], f"{value}.view({code})", code)
    else:
        e.dst(instr.operands[0], f"{value}.astype({code})", code)


def _packed(e: Emitter, instr: Instr, target: str) -> None:
    """cvt.rn.f16x2.f32 d, a, b: a goes to the high half."""
    high, low = (e.src(operand, "f4") for operand in instr.operands[1:3])
    rounding = "rz" if "rz" in instr.mods else "rn"
    relu, ftz = "relu" in instr.mods, "ftz" in instr.mods
    e.dst(
        instr.operands[0],
        f"{e.fn(pack_halves)}({high}, {low}, {target[:-2]!r}, {rounding!r}, {relu}, {ftz})",
        "u4",
    )


def pack_halves(high: Array, low: Array, kind: str, rounding: str, relu: bool, ftz: bool) -> Array:
    """Return two float32 as two 16-bit floats in one uint32."""
    shape = np.broadcast_shapes(high.shape, low.shape)
    out = np.empty((*shape, 2), np.uint16)
    for place, part in enumerate((low, high)):
        out[..., place] = narrow(np.maximum(part, np.float32(0)) if relu else part, kind, rounding)
    return out.view(np.uint32)[..., 0]


def clamp(a: Array, dtype: np.dtype[Any]) -> Array:
    """Return integers clamped to the range of ``dtype``."""
    info, own = np.iinfo(dtype), np.iinfo(a.dtype)
    return np.clip(a, max(info.min, own.min), min(info.max, own.max)).astype(dtype)


def convert(a: Array, target: str, source: str, rounding: str, flags: tuple[str, ...]) -> Array:
    """Return ``a`` (in the register form of ``source``) in the register form of ``target``."""
    wide = a
    if source in ("f16", "bf16"):
        wide = numeric.f16_to_f32(a) if source == "f16" else numeric.bf16_to_f32(a)
    if source == "f32" and "ftz" in flags:
        wide = numeric.flush(wide)
    if target in _INTS:
        return _to_int(wide, target, rounding)
    if source in _FLOATS and rounding in _INT_ROUNDING:
        wide = _INT_ROUNDING[rounding](wide)
    if "sat" in flags:
        wide = numeric.saturate(wide)
    if "relu" in flags:
        wide = np.where(np.isnan(wide), wide, np.maximum(wide, wide.dtype.type(0)))
    direction = rounding if rounding in _ROUNDING else "rn"
    return narrow(wide, target, direction, "ftz" in flags)


def _to_int(a: Array, target: str, rounding: str) -> Array:
    """Return floats rounded and clamped to an integer type; NaN gives 0 (the top bit for 64-bit
    signed targets).
    """
    dtype = DTYPES[TYPE_CODES[target]]
    info = np.iinfo(dtype)
    whole = _INT_ROUNDING[rounding or "rzi"](a.astype(np.float64))
    nan = np.isnan(whole)
    # The largest value may not be a float64: compare before converting.
    above, below = whole >= float(info.max), whole <= float(info.min)
    inside = np.where(above | below | nan, 0.0, whole).astype(dtype)
    out = np.where(above, dtype.type(info.max), np.where(below, dtype.type(info.min), inside))
    missing = (
        dtype.type(info.min)
        if target == "s64"
        else dtype.type(1 << 63)
        if target == "u64"
        else dtype.type(0)
    )
    return np.where(nan, missing, out)


def narrow(a: Array, target: str, rounding: str = "rn", ftz: bool = False) -> Array:
    """Return numbers as the float type ``target`` in its register form."""
    if rounding != "rn":
        return directed(a, target, rounding)
    if target == "f64":
        return a.astype(np.float64)
    if target == "f32":
        out = a if a.dtype == np.float32 else a.astype(np.float32)
        return numeric.canonical(numeric.flush(out) if ftz else out)
    if target == "f16":
        return numeric.f16_bits(a)
    if a.dtype == np.float32:
        return numeric.f32_to_bf16(a)
    return numeric.f64_to_bf16(np.asarray(a, np.float64))


def directed(a: Array, target: str, rounding: str) -> Array:
    """Return numbers rounded toward zero, minus or plus infinity."""
    nearest = narrow(a, target)
    back = {"f16": numeric.f16_to_f32, "bf16": numeric.bf16_to_f32}.get(target, lambda x: x)
    got = np.asarray(back(nearest), np.float64)
    exact = np.asarray(a, np.float64)
    up = got > exact
    down = got < exact
    if a.dtype.kind in "iu" and a.dtype.itemsize == 8:
        up, down = _compare_wide(a, got)
    if rounding == "rz":
        wrong_up, wrong_down = up & (exact > 0), down & (exact < 0)
    elif rounding == "rm":
        wrong_up, wrong_down = up, np.zeros_like(up)
    else:
        wrong_up, wrong_down = np.zeros_like(up), down
    raw_dtype = {"f16": np.int16, "bf16": np.int16, "f32": np.int32, "f64": np.int64}[target]
    raw = nearest.view(raw_dtype)
    negative = np.signbit(np.where(got == 0, exact, got))
    one = raw.dtype.type(1)
    # One step down is a smaller magnitude for positive numbers and a larger for negative ones.
    raw = np.where(wrong_up, np.where(negative, raw + one, raw - one), raw)
    raw = np.where(wrong_down, np.where(negative, raw - one, raw + one), raw)
    return raw.view(nearest.dtype)


def _compare_wide(a: Array, got: Array) -> tuple[Array, Array]:
    """Return (got > a, got < a) for 64-bit integers, which float64 cannot hold."""
    pairs = [
        (int(value), float(other))
        for value, other in zip(a.flat, np.broadcast_to(got, a.shape).flat, strict=True)
    ]
    up = np.array([other > value for value, other in pairs]).reshape(a.shape)
    down = np.array([other < value for value, other in pairs]).reshape(a.shape)
    return up, down
