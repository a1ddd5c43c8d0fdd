"""Rows of ``wgmma.mma_async``: every type and every legal N, with A in shared memory or registers.

128 lanes, a warpgroup, have D; each warp has 16 of the 64 rows. B, and A in the form with two
descriptors, lie in shared memory: no register holds them, so such a row has the operand D alone.
The form with A in registers has the same mnemonic and a name of its own (``... with a in
registers``).

Source: PTX ISA 9.1, 9.7.15.5 "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Operation";
the legal N were tried with ptxas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product

from attnprobe.formats import FORMATS
from attnprobe.layouts import shapes
from attnprobe.layouts.choice import Immediate
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.mma_sync import FP8, INT8
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

_SOURCE = "PTX ISA 9.1, 9.7.15.5.1, Register Fragments and Shared Memory Matrix Layouts"

FLOAT_N = tuple(range(8, 257, 8))
INTEGER_N = tuple(sorted({8, 24, *range(16, 257, 16)}))
A_IN_REGISTERS = " with a in registers"

SCALE_D = Immediate("scale-d", (0, 1), "whether D is added to (0 is D = A B); a predicate")
_NEGATE = tuple(
    Immediate(f"imm-scale-{name}", (-1, 1), f"-1 negates the elements of {name.upper()}")
    for name in "ab"
)
_TRANSPOSE = {
    name: Immediate(f"imm-trans-{name}", (0, 1), f"1 where {name.upper()} lies transposed")
    for name in "ab"
}


@cache
def immediates(type_: str, a_in_registers: bool) -> tuple[Immediate, ...]:
    """Return scale-d and what follows it, by the type of A and B."""
    if FORMATS[type_].is_integer:
        return (SCALE_D,)
    if type_ not in ("f16", "bf16"):
        return (SCALE_D, *_NEGATE)
    transposed = (_TRANSPOSE["b"],) if a_in_registers else tuple(_TRANSPOSE.values())
    return (SCALE_D, *_NEGATE, *transposed)


@cache
def d_operand(n: int, type_: str) -> Operand:
    """Return D, 64 x n."""
    return Operand("D", shapes.d(64, n), FORMATS[type_], ("m", "n"))


@cache
def a_operand(k: int, type_: str, axis: str = "k") -> Operand:
    """Return A in registers: 64 x k, or the stored elements of a sparse A."""
    form = FORMATS[type_]
    return Operand("A", shapes.a(64, k, form.per_register), form, ("m", axis))


def variants(depth: int) -> Iterator[tuple[int, str, str, str, str, tuple[int, ...], str]]:
    """Yield (k, type of D, of A, of B, modifier, legal N, least PTX) of all types.

    ``depth`` is 1 for a dense A; 2 for a sparse one, which is twice as deep in k.
    """
    base = ("8.0", "8.2")[depth - 1]
    for d, ab in (("f32", "f16"), ("f32", "bf16"), ("f16", "f16")):
        yield 16 * depth, d, ab, ab, "", FLOAT_N, base
    yield 8 * depth, "f32", "tf32", "tf32", "", FLOAT_N, base
    for d, a, b in product(("f32", "f16"), FP8, FP8):
        yield 32 * depth, d, a, b, "", FLOAT_N, base
    for a, b, clamp in product(INT8, INT8, ("", ".satfinite")):
        yield 32 * depth, "s32", a, b, clamp, INTEGER_N, base if a == b else "8.4"
    if depth == 1:
        yield 256, "s32", "b1", "b1", ".and.popc", INTEGER_N, base


def _wgmma(
    ptx: str, n: int, k: int, d: str, a: str, min_ptx: str, a_in_registers: bool
) -> Instruction:
    operands: tuple[Operand, ...] = (d_operand(n, d),)
    if a_in_registers:
        operands = (*operands, a_operand(k, a))
    after = immediates(a, a_in_registers)
    source_of_a = "A" if a_in_registers else "a-desc"
    return Instruction(
        ptx,
        "wgmma",
        (64, n, k),
        operands,
        min_ptx,
        90,
        _SOURCE,
        only_on=("sm_90a",),
        in_shared=("B",) if a_in_registers else ("A", "B"),
        arguments=("D", source_of_a, "b-desc", *(each.name for each in after)),
        immediates=after,
    )


def mnemonic(start: str, n: int, k: int, types: str, modifier: str) -> str:
    """Return the mnemonic; ``.satfinite`` stands before the types, a bit operation behind them."""
    shape = f"{start}.sync.aligned.m64n{n}k{k}"
    return (
        f"{shape}.{types}{modifier}" if modifier.endswith("popc") else f"{shape}{modifier}.{types}"
    )


def _specs() -> Iterator[tuple[str, Build]]:
    for k, d, a, b, modifier, sizes, min_ptx in variants(1):
        for n in sizes:
            plain = mnemonic("wgmma.mma_async", n, k, f"{d}.{a}.{b}", modifier)
            for a_in_registers in (False, True):
                ptx = plain + A_IN_REGISTERS if a_in_registers else plain
                yield ptx, partial(_wgmma, ptx, n, k, d, a, min_ptx, a_in_registers)


@cache
def matrices(row: Instruction) -> Instruction:
    """Return a dense product with the matrices of ``row``, none of them in shared memory.

    One lane holds everything: what counts are shapes and formats, for arithmetic and tiles.
    """
    words = row.mnemonic.removesuffix(".and.popc").split(".")
    d, a, b = (FORMATS[name] for name in words[-3:])
    m, n, k = row.shape
    operands = (
        Operand("D", _whole(m, n), d, ("m", "n")),
        Operand("A", _whole(m, k), a, ("m", "k")),
        Operand("B", _whole(k, n), b, ("k", "n")),
        Operand("C", _whole(m, n), d, ("m", "n")),
    )
    return Instruction(row.ptx, "wgmma", row.shape, operands, row.min_ptx, row.min_cc, row.source)


def _whole(rows: int, cols: int) -> Fragment:
    return Fragment(rows, cols, (Digit(1),), (Digit(cols, col=1), Digit(rows, row=1)))


SPECS: dict[str, Build] = dict(_specs())
