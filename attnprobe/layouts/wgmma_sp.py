"""Rows of ``wgmma.mma_async.sp``: the warpgroup product with a sparse A, from registers or not.

Each warp gives the metadata of its 16 rows as ``mma.sp`` of the same k would.

Source: PTX ISA 9.1, 9.7.15.6 "Asynchronous Warpgroup Level Multiply-and-Accumulate Operation using
wgmma.mma_async.sp instruction". Independent of it: the layouts E of CUTLASS 4,
cute/atom/mma_traits_sm90_gmma_sparse.hpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from attnprobe.formats import FORMATS
from attnprobe.layouts import mma_sp
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.operand import Operand
from attnprobe.layouts.wgmma import (
    A_IN_REGISTERS,
    a_operand,
    d_operand,
    immediates,
    mnemonic,
    variants,
)

Build = Callable[[], Instruction]

_SOURCE = "PTX ISA 9.1, 9.7.15.6.2, Matrix fragments for ... sparse matrix A"


@cache
def _metadata(k: int, bits: int) -> Operand:
    how = mma_sp.sparsity(bits, ordered=True)
    return mma_sp.metadata_operand(64, k, how, mma_sp.quad_lanes(k, bits), "sp-sel")


def _sparse(
    ptx: str, n: int, k: int, d: str, a: str, min_ptx: str, a_in_registers: bool
) -> Instruction:
    bits = FORMATS[a].bits
    operands: tuple[Operand, ...] = (d_operand(n, d),)
    if a_in_registers:
        operands = (*operands, a_operand(k // 2, a, "stored"))
    after = immediates(a, a_in_registers)
    selector = mma_sp.selector_immediate("sp-sel", mma_sp.quad_lanes(k, bits))
    source_of_a = "A" if a_in_registers else "a-desc"
    return Instruction(
        ptx,
        "wgmma.sp",
        (64, n, k),
        (*operands, _metadata(k, bits)),
        min_ptx,
        90,
        _SOURCE,
        only_on=("sm_90a",),
        sparsity=mma_sp.sparsity(bits, ordered=True),
        in_shared=("B",) if a_in_registers else ("A", "B"),
        arguments=("D", source_of_a, "b-desc", "E", "sp-sel", *(each.name for each in after)),
        immediates=(selector, *after),
    )


def _specs() -> Iterator[tuple[str, Build]]:
    for k, d, a, b, modifier, sizes, min_ptx in variants(2):
        for n in sizes:
            plain = mnemonic("wgmma.mma_async.sp", n, k, f"{d}.{a}.{b}", modifier)
            for a_in_registers in (False, True):
                ptx = plain + A_IN_REGISTERS if a_in_registers else plain
                yield ptx, partial(_sparse, ptx, n, k, d, a, min_ptx, a_in_registers)


SPECS: dict[str, Build] = dict(_specs())
