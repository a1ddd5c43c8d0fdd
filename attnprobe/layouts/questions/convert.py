"""How accumulators become narrower operands: which PTX instruction packs how many at once."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UnsupportedError
from attnprobe.formats import Format


@dataclass(frozen=True)
class Conversion:
    """One way from the format of D to that of an operand.

    Attributes
    ----------
    ptx : the instruction, "" where the bits stay as they are.
    group : elements that one instruction takes.
    chained : the instruction takes what was packed before as a last operand (``cvt.pack``).
    packed : the source holds two elements in a register.
    """

    ptx: str
    group: int
    chained: bool = False
    packed: bool = False


KEEP = Conversion("", 1)

# Source: PTX ISA 9.1, 9.7.9.21 "cvt" and 9.7.9.22 "cvt.pack".
_CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("f32", "f16"): Conversion("cvt.rn.f16x2.f32", 2),
    ("f32", "bf16"): Conversion("cvt.rn.bf16x2.f32", 2),
    ("f32", "tf32"): Conversion("cvt.rna.tf32.f32", 1),
    ("f32", "e4m3"): Conversion("cvt.rn.satfinite.e4m3x2.f32", 2),
    ("f32", "e5m2"): Conversion("cvt.rn.satfinite.e5m2x2.f32", 2),
    ("f16", "e4m3"): Conversion("cvt.rn.satfinite.e4m3x2.f16x2", 2, packed=True),
    ("f16", "e5m2"): Conversion("cvt.rn.satfinite.e5m2x2.f16x2", 2, packed=True),
    ("s32", "s8"): Conversion("cvt.pack.sat.s8.s32.b32", 2, chained=True),
    ("s32", "u8"): Conversion("cvt.pack.sat.u8.s32.b32", 2, chained=True),
    ("s32", "s4"): Conversion("cvt.pack.sat.s4.s32.b32", 2, chained=True),
    ("s32", "u4"): Conversion("cvt.pack.sat.u4.s32.b32", 2, chained=True),
}


def conversion(source: Format, target: Format) -> Conversion:
    """Return how one format becomes the other.

    Raises
    ------
    UnsupportedError
        If no instruction does it; says which formats the source can become.
    """
    if source.name == target.name:
        return KEEP
    found = _CONVERSIONS.get((source.name, target.name))
    if found is None:
        known = [to for given, to in _CONVERSIONS if given == source.name] or ["nothing else"]
        raise UnsupportedError(
            f"no instruction turns {source.name} into {target.name}; "
            f"{source.name} becomes {', '.join(known)}"
        )
    return found
