"""Rows of ``stmatrix``: m8n8 of 16-bit elements, m16n8 of bytes.

The operand R is what the lanes hold; rows and columns are places in shared memory, and rows count
through the matrices, as in ``ldmatrix``. An m16n8 matrix is stored transposed: its 8 columns are
rows of 16 bytes, and the lanes hold it as they hold D of an m16n8 product.

Source: PTX ISA 9.1, 9.7.14.5.16 "Warp-level matrix store instruction: stmatrix". m16n8 is in a
picture there; independent of it: CUTLASS 4, cute/atom/copy_traits_sm100.hpp, SM100_U8x4_STSM_T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from attnprobe.formats import FORMATS
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.ldmatrix import m8n8
from attnprobe.layouts.mma_sync import SM_100A
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

SOURCE = "PTX ISA 9.1, 9.7.14.5.16, Warp-level matrix store instruction: stmatrix"


def _m16n8(count: int) -> Fragment:
    """Return ``count`` matrices, in memory 8 rows of 16 bytes each."""
    lane = (Digit(4, row=2), Digit(8, col=1))
    elem = (Digit(2, row=1), Digit(2, col=8), Digit(count, row=8))
    return Fragment(8 * count, 16, lane, elem)


def _store(ptx: str, count: int, transposed: bool, type_: str) -> Instruction:
    wide = type_ == "b16"
    fragment = m8n8(count, transposed) if wide else _m16n8(count)
    return Instruction(
        ptx=ptx,
        family="stmatrix",
        shape=(),
        operands=(Operand("R", fragment, FORMATS[type_], ("row", "col"), matrix_rows=8),),
        min_ptx="7.8" if wide else "8.6",
        min_cc=90 if wide else 100,
        source=SOURCE,
        addresses=8 * count,
        transposed=transposed,
        only_on=() if wide else SM_100A,
    )


def _specs() -> Iterator[tuple[str, Build]]:
    start = "stmatrix.sync.aligned"
    for count in (1, 2, 4):
        for trans in ("", ".trans"):
            ptx = f"{start}.m8n8.x{count}{trans}.shared.b16"
            yield ptx, partial(_store, ptx, count, bool(trans), "b16")
    for count in (1, 2, 4):
        ptx = f"{start}.m16n8.x{count}.trans.shared.b8"
        yield ptx, partial(_store, ptx, count, True, "b8")


SPECS: dict[str, Build] = dict(_specs())
