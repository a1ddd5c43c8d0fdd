"""Rows of ``mma.sp`` and ``mma.sp::ordered_metadata``: A is half zeros, E says where.

The lanes hold the stored half of A, an m x k/2 matrix, as a dense product of half the k would; the
second axis of its fragment counts stored elements. B, C and D are those of dense products.

Source: PTX ISA 9.1, 9.7.14.6 "Matrix multiply-accumulate operation using mma.sp instruction with
sparse matrix A". The places of the metadata are in pictures there, not in words. Independent of
these: the layouts E of CUTLASS 4, cute/atom/mma_traits_sm120_sparse.hpp (all four lanes) and
mma_traits_sm90_gmma_sparse.hpp (two lanes, f16 and tf32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from attnprobe.formats import FORMATS
from attnprobe.layouts import shapes
from attnprobe.layouts.choice import Immediate
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.mma_scaled import (
    MXF4,
    SCALE_ARGUMENTS,
    scale_immediates,
    scale_operands,
    scaled_name,
)
from attnprobe.layouts.mma_sync import (
    F8F6F4,
    FP8,
    INT4,
    INT8,
    SM_100A,
    SM_120A,
    container,
)
from attnprobe.layouts.operand import Operand
from attnprobe.layouts.sparsity import Sparsity

Build = Callable[[], Instruction]
Types = tuple[str, str, str, str]

_SOURCE = "PTX ISA 9.1, 9.7.14.6.2, Matrix fragments for ... sparse matrix A"

_SP, _ORDERED = "sp", "sp::ordered_metadata"
_SM_120_ONLY = ("sm_120a", "sm_121a")
_DISORDER = "two indices of a group may stand in any order"


def sparsity(bits: int, ordered: bool) -> Sparsity:
    """Return how A is sparse in elements of ``bits`` bits."""
    if bits == 32:
        return Sparsity(2, 1, 1, codes=(0b0100, 0b1110), ordered=ordered)
    return Sparsity(8, 4, 2, ordered=ordered) if bits == 4 else Sparsity(4, 2, 1, ordered=ordered)


def metadata_operand(
    m: int, k: int, how: Sparsity, quad_lanes: int, selector: str, whole_rows: bool = False
) -> Operand:
    """Return E: the indices of m rows of A, in ``quad_lanes`` lanes of each quad."""
    indices = k // how.group * how.indices
    form = FORMATS["index4" if how.codes else "index2"]
    fragment = shapes.metadata(m, indices, quad_lanes, whole_rows)
    choices = shapes.metadata_choices(selector, quad_lanes)
    return Operand("E", fragment, form, ("m", "index"), choices=choices)


def selector_immediate(name: str, quad_lanes: int) -> Immediate:
    """Return the sparsity selector."""
    what = {1: "lane of each quad", 2: "pair of lanes of each quad", 4: "all lanes of a quad"}
    values = tuple(range(4 // quad_lanes))
    return Immediate(name, values, f"{what[quad_lanes]} that gives the metadata")


def quad_lanes(k: int, bits: int) -> int:
    """Return how many lanes of a quad give metadata: enough for 2 bits for each element stored."""
    index_bits = 4 if bits == 32 else 2
    how = sparsity(bits, True)
    return 16 * (k // how.group * how.indices) * index_bits // (8 * 32)


def _sparse(
    ptx: str,
    k: int,
    types: Types,
    min_ptx: str,
    min_cc: int,
    ordered: bool,
    kind: str = "",
    only_on: tuple[str, ...] = (),
    scale: tuple[int, str] | None = None,
) -> Instruction:
    d, a, b, c = (FORMATS[name] for name in types)
    how, lanes = sparsity(a.bits, ordered), quad_lanes(k, a.bits)
    operands: tuple[Operand, ...] = (
        Operand("D", shapes.d(16, 8), d, ("m", "n")),
        Operand("A", shapes.a(16, k // 2, a.per_register), a, ("m", "stored")),
        Operand("B", shapes.b(k, b.per_register), b, ("k", "n")),
        Operand("C", shapes.d(16, 8), c, ("m", "n")),
        # Two lanes of a quad share the rows with 8-bit and 4-bit elements: as an H200 has it.
        metadata_operand(16, k, how, lanes, "f", whole_rows=a.bits <= 8 and lanes == 2),
    )
    immediates: tuple[Immediate, ...] = (selector_immediate("f", lanes),)
    arguments: tuple[str | tuple[str, ...], ...] = ("D", "A", "B", "C", "E", "f")
    if scale is not None:
        operands = (*operands, *scale_operands(*scale))
        immediates = (*immediates, *scale_immediates(scale[0]))
        arguments = (*arguments, *SCALE_ARGUMENTS)
    return Instruction(
        ptx,
        "mma.sp",
        (16, 8, k),
        operands,
        min_ptx,
        min_cc,
        _SOURCE,
        notes=() if ordered else (_DISORDER,),
        only_on=only_on,
        kind=kind,
        sparsity=how,
        arguments=arguments,
        immediates=immediates,
    )


def _with_scales(
    ptx: str,
    k: int,
    types: Types,
    least: tuple[str, tuple[str, ...]],
    kind: str,
    scale: tuple[int, str],
) -> Instruction:
    min_ptx, only_on = least
    return _sparse(ptx, k, types, min_ptx, 120, True, kind, only_on, scale)


def _name(variant: str, k: int, types: str, modifier: str = "") -> str:
    return f"mma.{variant}.sync.aligned.m16n8k{k}.row.col{modifier}.{types}"


def _floats(variant: str) -> Iterator[tuple[str, Build]]:
    ordered = variant == _ORDERED
    min_ptx = "8.5" if ordered else "7.1"
    variants = (
        (16, "f16", "f32"),
        (16, "bf16", "f32"),
        (16, "f16", "f16"),
        (32, "f16", "f32"),
        (32, "bf16", "f32"),
        (32, "f16", "f16"),
        (8, "tf32", "f32"),
        (16, "tf32", "f32"),
    )
    for k, ab, cd in variants:
        ptx = _name(variant, k, f"{cd}.{ab}.{ab}.{cd}")
        yield ptx, partial(_sparse, ptx, k, (cd, ab, ab, cd), min_ptx, 80, ordered)


def _fp8(variant: str) -> Iterator[tuple[str, Build]]:
    ordered = variant == _ORDERED
    for cd, a, b in product(("f32", "f16"), FP8, FP8):
        ptx = _name(variant, 64, f"{cd}.{a}.{b}.{cd}")
        types = (cd, a, b, cd)
        if cd == "f32":
            yield ptx, partial(_sparse, ptx, 64, types, "8.5" if ordered else "8.4", 89, ordered)
        elif ordered:
            on = partial(_sparse, ptx, 64, types, "8.7", 120, ordered, only_on=SM_120A)
            yield ptx, on


def _integers(variant: str) -> Iterator[tuple[str, Build]]:
    ordered = variant == _ORDERED
    min_ptx = "8.5" if ordered else "7.1"
    for kinds, sizes in ((INT8, (32, 64)), (INT4, (64, 128))):
        for k, a, b, clamp in product(sizes, kinds, kinds, ("", ".satfinite")):
            ptx = _name(variant, k, f"s32.{a}.{b}.s32", clamp)
            yield ptx, partial(_sparse, ptx, k, ("s32", a, b, "s32"), min_ptx, 80, ordered)


def _f8f6f4() -> Iterator[tuple[str, Build]]:
    for cd, a, b in product(("f32", "f16"), F8F6F4, F8F6F4):
        ptx = _name(_ORDERED, 64, f"{cd}.{a}.{b}.{cd}", ".kind::f8f6f4")
        types = (cd, container(a), container(b), cd)
        wide = cd == "f32" and a in FP8 and b in FP8
        min_ptx, least, only_on = ("8.6", 100, SM_100A) if wide else ("8.7", 120, SM_120A)
        yield ptx, partial(_sparse, ptx, 64, types, min_ptx, least, True, "f8f6f4", only_on)


def _scaled() -> Iterator[tuple[str, Build]]:
    for a, b in product(F8F6F4, F8F6F4):
        start = f"mma.{_ORDERED}.sync.aligned.m16n8k64.row.col"
        ptx = scaled_name(start, "mxf8f6f4", 1, f"f32.{a}.{b}.f32", "ue8m0")
        types = ("f32", container(a), container(b), "f32")
        scaled = partial(_with_scales, ptx, 64, types, ("8.7", SM_120A), "mxf8f6f4", (1, "ue8m0"))
        yield ptx, scaled
    for kind, vector, scale, min_ptx in MXF4:
        start = f"mma.{_ORDERED}.sync.aligned.m16n8k128.row.col"
        ptx = scaled_name(start, kind, vector, "f32.e2m1.e2m1.f32", scale)
        types = ("f32", "e2m1", "e2m1", "f32")
        least = (min_ptx, _SM_120_ONLY)
        yield ptx, partial(_with_scales, ptx, 128, types, least, kind, (vector, scale))


def _specs() -> Iterator[tuple[str, Build]]:
    for variant in (_SP, _ORDERED):
        yield from _floats(variant)
        yield from _fp8(variant)
        yield from _integers(variant)
    yield from _f8f6f4()
    yield from _scaled()


SPECS: dict[str, Build] = dict(_specs())
