"""Conversions for operands: pairs of fp8 and back, one float to tf32, cvt.pack of two integers.

Source: PTX ISA 9.1, 9.7.9.21 "cvt" (``.satfinite``: NaN stays NaN, what is too large becomes the
largest finite value) and 9.7.9.22 "cvt.pack".
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from attnprobe.ptx import numeric
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import Array

_FP8 = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
_LARGEST = {"e4m3": np.float32(448.0), "e5m2": np.float32(57344.0)}
_NAN = np.uint8(0x7F)


def fp8_bits(values: Array, kind: str) -> Array:
    """Return float32 ``values`` as raw fp8, rounded to the nearest even, finite ones staying so."""
    limit = _LARGEST[kind]
    with np.errstate(invalid="ignore"):
        raw: Array = np.clip(values, -limit, limit).astype(_FP8[kind]).view(np.uint8)
    return np.where(np.isnan(values), _NAN, raw)


def pair_of_floats(high: Array, low: Array, kind: str) -> Array:
    """Return two float32 as a pair of fp8 in one uint16, ``low`` in the low byte."""
    high, low = np.broadcast_arrays(high, low)
    return np.stack([fp8_bits(low, kind), fp8_bits(high, kind)], axis=-1).view(np.uint16)[..., 0]


def pair_of_halves(halves: Array, kind: str) -> Array:
    """Return two f16 (a uint32) as a pair of fp8 in one uint16, in the same order."""
    wide = numeric.f16_to_f32(np.ascontiguousarray(halves)[..., None].view(np.uint16))
    return pair_of_floats(wide[..., 1], wide[..., 0], kind)


@op(*(f"cvt.rn.satfinite.{kind}x2.f32" for kind in _FP8))
def cvt_two_floats(e: Emitter, instr: Instr) -> None:
    """cvt.rn.satfinite.e4m3x2.f32 d, a, b: a goes to the high byte."""
    high, low = (e.src(operand, "f4") for operand in instr.operands[1:3])
    e.dst(instr.operands[0], f"{e.fn(pair_of_floats)}({high}, {low}, {_kind(instr)!r})", "u2")


@op(*(f"cvt.rn.satfinite.{kind}x2.f16x2" for kind in _FP8))
def cvt_two_halves(e: Emitter, instr: Instr) -> None:
    """cvt.rn.satfinite.e4m3x2.f16x2 d, a: both halves of a, each to its byte."""
    value = e.src(instr.operands[1], "u4")
    e.dst(instr.operands[0], f"{e.fn(pair_of_halves)}({value}, {_kind(instr)!r})", "u2")


def halves_of_pair(pairs: Array, kind: str) -> Array:
    """Return two fp8 (a uint16) as two f16 in one uint32, in the same order; NaN is 0x7fff."""
    wide = np.ascontiguousarray(pairs)[..., None].view(_FP8[kind]).astype(np.float16)
    bits = np.where(np.isnan(wide), np.uint16(0x7FFF), wide.view(np.uint16))
    return np.ascontiguousarray(bits).view(np.uint32)[..., 0]


@op(*(f"cvt.rn.f16x2.{kind}x2" for kind in _FP8))
def cvt_pair_to_halves(e: Emitter, instr: Instr) -> None:
    """cvt.rn.f16x2.e4m3x2 d, a: both bytes of a, each to its half; every value is exact."""
    value = e.src(instr.operands[1], "u2")
    e.dst(instr.operands[0], f"{e.fn(halves_of_pair)}({value}, {_kind(instr)!r})", "u4")


def _kind(instr: Instr) -> str:
    return next(kind for kind in _FP8 if f"{kind}x2" in instr.mods)


def pack_integers(a: Array, b: Array, c: Array, bits: int, signed: bool) -> Array:
    """Return b, a, and the low bits of c above them, each of a and b clamped to ``bits`` bits."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    mask = np.uint32((1 << bits) - 1)
    upper, lower = (np.clip(each, low, high).astype(np.uint32) & mask for each in (a, b))
    packed: Array = lower | upper << np.uint32(bits) | c << np.uint32(2 * bits)
    return packed


@op(*(f"cvt.pack.sat.{sign}{bits}.s32.b32" for sign in "su" for bits in (2, 4, 8)))
def cvt_pack(e: Emitter, instr: Instr) -> None:
    """d = (c, a, b) packed; b in the low bits."""
    word = next(mod for mod in instr.mods if mod[1:] in ("2", "4", "8"))
    a, b = (e.src(operand, "i4") for operand in instr.operands[1:3])
    c = e.src(instr.operands[3], "u4")
    call = f"{e.fn(pack_integers)}({a}, {b}, {c}, {int(word[1:])}, {word[0] == 's'})"
    e.dst(instr.operands[0], call, "u4")


def tf32_bits(values: Array) -> Array:
    """Return float32 bits rounded to tf32's 10 bits of fraction, ties away from zero."""
    raw = values.view(np.uint32)
    rounded = raw + np.uint32(0x1000) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(values), np.uint32(0x7FFFFFFF), rounded)


@op("cvt.rna.tf32.f32")
def cvt_tf32(e: Emitter, instr: Instr) -> None:
    """d = a in tf32: the upper 19 bits of a float32."""
    value = e.src(instr.operands[1], "f4")
    e.dst(instr.operands[0], f"{e.fn(tf32_bits)}({value})", "u4")
