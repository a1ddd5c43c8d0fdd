"""Rows of dense ``mma.sync``: every shape, type and modifier that ptxas takes.

Source: PTX ISA 9.1, 9.7.14.5.1 to .13 "Matrix Fragments for mma...", least versions and syntax
9.7.14.5.14. What ptxas takes where was tried with every mnemonic (docs/fragments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from attnprobe.formats import FORMATS
from attnprobe.layouts import shapes
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

_SECTION = "PTX ISA 9.1, 9.7.14.5"
_FRAGMENTS = {  # shape and width of an element of A -> the section with its fragments
    (8, 4, 16): ".1, Matrix Fragments for mma.m8n8k4 with .f16 floating point type",
    (8, 4, 64): ".2, Matrix Fragments for mma.m8n8k4 with .f64 floating point type",
    (8, 16, 8): ".3, Matrix Fragments for mma.m8n8k16",
    (8, 32, 4): ".4, Matrix Fragments for mma.m8n8k32",
    (8, 128, 1): ".5, Matrix Fragments for mma.m8n8k128",
    (16, 4, 32): ".6, Matrix Fragments for mma.m16n8k4",
    (16, 4, 64): ".6, Matrix Fragments for mma.m16n8k4",
    (16, 8, 16): ".7, Matrix Fragments for mma.m16n8k8",
    (16, 8, 32): ".7, Matrix Fragments for mma.m16n8k8",
    (16, 8, 64): ".7, Matrix Fragments for mma.m16n8k8",
    (16, 16, 16): ".8, Matrix Fragments for mma.m16n8k16 with floating point type",
    (16, 16, 64): ".8, Matrix Fragments for mma.m16n8k16 with floating point type",
    (16, 16, 8): ".9, Matrix Fragments for mma.m16n8k16 with integer type",
    (16, 32, 8): ".10, Matrix Fragments for mma.m16n8k32",
    (16, 32, 4): ".10, Matrix Fragments for mma.m16n8k32",
    (16, 64, 4): ".11, Matrix Fragments for mma.m16n8k64",
    (16, 128, 1): ".12, Matrix Fragments for mma.m16n8k128",
    (16, 256, 1): ".13, Matrix Fragments for mma.m16n8k256",
}

INT8, INT4, FP8 = ("s8", "u8"), ("s4", "u4"), ("e4m3", "e5m2")
F8F6F4 = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
SM_120A = ("sm_120a", "sm_120f", "sm_121a")
SM_100A = ("sm_100a", "sm_100f", "sm_103a", "sm_110a", *SM_120A)

_QUAD_PAIRS = (
    "each quad pair of lanes (4 q to 4 q + 3, and these plus 16) multiplies matrices of its own: "
    "four products at once"
)
_CONTAINERS = (
    "an element has a byte: 6-bit types its bits 0 to 5, e2m1 its bits 2 to 5 (ldmatrix with "
    ".b4x16_p64 leaves it in bits 0 to 3)"
)


def container(type_: str) -> str:
    """Return the format of ``type_`` in 8-bit containers (``.kind::f8f6f4``)."""
    return type_ if type_ in FP8 else f"{type_}_c8"


def product_operands(m: int, k: int, types: tuple[str, str, str, str]) -> tuple[Operand, ...]:
    """Return D, A, B, C of an m x 8 x k product; ``types`` are the formats of D, A, B, C."""
    d, a, b, c = (FORMATS[name] for name in types)
    return (
        Operand("D", shapes.d(m, 8), d, ("m", "n")),
        Operand("A", shapes.a(m, k, a.per_register), a, ("m", "k")),
        Operand("B", shapes.b(k, b.per_register), b, ("k", "n")),
        Operand("C", shapes.d(m, 8), c, ("m", "n")),
    )


def _dense(
    ptx: str,
    m: int,
    k: int,
    types: tuple[str, str, str, str],
    min_ptx: str,
    min_cc: int,
    kind: str = "",
    only_on: tuple[str, ...] = (),
) -> Instruction:
    width = FORMATS[types[1]].bits
    return Instruction(
        ptx,
        "mma",
        (m, 8, k),
        product_operands(m, k, types),
        min_ptx,
        min_cc,
        _SECTION + _FRAGMENTS[m, k, width],
        notes=(_CONTAINERS,) if kind else (),
        only_on=only_on,
        kind=kind,
    )


def _quad_pairs(ptx: str, a_layout: str, b_layout: str, d: str, c: str) -> Instruction:
    f16 = FORMATS["f16"]
    of_d, of_c = FORMATS[d], FORMATS[c]
    operands = (
        Operand("D", shapes.quad_pair_d(of_d.bits), of_d, ("m", "n"), matrix_rows=8),
        Operand("A", shapes.quad_pair_a(a_layout == "row"), f16, ("m", "k"), matrix_rows=8),
        Operand("B", shapes.quad_pair_b(b_layout == "row"), f16, ("k", "n"), matrix_rows=4),
        Operand("C", shapes.quad_pair_d(of_c.bits), of_c, ("m", "n"), matrix_rows=8),
    )
    source = _SECTION + _FRAGMENTS[8, 4, 16]
    return Instruction(ptx, "mma", (8, 8, 4), operands, "6.4", 70, source, notes=(_QUAD_PAIRS,))


def _name(shape: str, types: str, modifier: str = "", layouts: str = "row.col") -> str:
    return f"mma.sync.aligned.{shape}.{layouts}{modifier}.{types}"


def _floats() -> Iterator[tuple[str, Build]]:
    """16-bit floats, tf32 and f64."""
    variants = (
        (16, 16, "f16", "f32", "7.0", 80),
        (16, 16, "bf16", "f32", "7.0", 80),
        (16, 16, "f16", "f16", "7.0", 80),
        (16, 8, "f16", "f32", "6.5", 75),
        (16, 8, "bf16", "f32", "7.0", 80),
        (16, 8, "f16", "f16", "6.5", 75),
        (16, 8, "tf32", "f32", "7.0", 80),
        (16, 4, "tf32", "f32", "7.0", 80),
        (16, 16, "f64", "f64", "7.8", 90),
        (16, 8, "f64", "f64", "7.8", 90),
        (16, 4, "f64", "f64", "7.8", 90),
        (8, 4, "f64", "f64", "7.0", 80),
    )
    for m, k, ab, cd, min_ptx, min_cc in variants:
        ptx = _name(f"m{m}n8k{k}", f"{cd}.{ab}.{ab}.{cd}")
        yield ptx, partial(_dense, ptx, m, k, (cd, ab, ab, cd), min_ptx, min_cc)


def _fp8() -> Iterator[tuple[str, Build]]:
    for k, cd, a, b in product((32, 16), ("f32", "f16"), FP8, FP8):
        min_ptx = "8.4" if (k, cd) == (32, "f32") else "8.7"
        ptx = _name(f"m16n8k{k}", f"{cd}.{a}.{b}.{cd}")
        yield ptx, partial(_dense, ptx, 16, k, (cd, a, b, cd), min_ptx, 89)


def _f8f6f4() -> Iterator[tuple[str, Build]]:
    """``.kind::f8f6f4``: all pairs of five types, of which only fp8 pairs run on sm_100."""
    for cd, a, b in product(("f32", "f16"), F8F6F4, F8F6F4):
        ptx = _name("m16n8k32", f"{cd}.{a}.{b}.{cd}", ".kind::f8f6f4")
        types = (cd, container(a), container(b), cd)
        both_fp8 = a in FP8 and b in FP8
        least, only_on = (100, SM_100A) if both_fp8 else (120, SM_120A)
        min_ptx = "8.6" if both_fp8 and cd == "f32" else "8.7"
        yield ptx, partial(_dense, ptx, 16, 32, types, min_ptx, least, "f8f6f4", only_on)


def _integers() -> Iterator[tuple[str, Build]]:
    shapes_ = (
        (INT8, ((16, 32, "7.0", 80), (16, 16, "7.0", 80), (8, 16, "6.5", 75))),
        (INT4, ((16, 64, "7.0", 80), (16, 32, "7.0", 80), (8, 32, "6.5", 75))),
    )
    for types, variants in shapes_:
        for (m, k, min_ptx, min_cc), a, b in product(variants, types, types):
            for clamp in ("", ".satfinite"):
                ptx = _name(f"m{m}n8k{k}", f"s32.{a}.{b}.s32", clamp)
                yield ptx, partial(_dense, ptx, m, k, ("s32", a, b, "s32"), min_ptx, min_cc)


def _bits() -> Iterator[tuple[str, Build]]:
    for (m, k), how in product(((16, 256), (16, 128), (8, 128)), ("and", "xor")):
        ptx = _name(f"m{m}n8k{k}", f"s32.b1.b1.s32.{how}.popc")
        min_ptx = "7.1" if how == "and" else "7.0"
        min_cc = 75 if (m, how) == (8, "xor") else 80
        yield ptx, partial(_dense, ptx, m, k, ("s32", "b1", "b1", "s32"), min_ptx, min_cc)


def _m8n8k4() -> Iterator[tuple[str, Build]]:
    accumulators = (("f32", "f32"), ("f32", "f16"), ("f16", "f16"))
    for (d, c), a, b in product(accumulators, ("row", "col"), ("col", "row")):
        ptx = _name("m8n8k4", f"{d}.f16.f16.{c}", layouts=f"{a}.{b}")
        yield ptx, partial(_quad_pairs, ptx, a, b, d, c)


SPECS: dict[str, Build] = dict(
    spec for family in (_floats, _fp8, _integers, _bits, _m8n8k4, _f8f6f4) for spec in family()
)
