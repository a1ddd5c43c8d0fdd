"""Rows of ``ldmatrix`` m8n8 with 16-bit elements: x1, x2, x4, each with and without ``.trans``.

Rows of the fragment count through the matrices: row 8 * j + r is row r of matrix j. Lane l supplies
the address of that row l, so x4 uses all 32 addresses and x1 the first eight.

Source: PTX ISA 9.1, section 9.7.14.5.15 "Warp-level matrix load instruction: ldmatrix".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attnprobe.formats import FORMATS
from attnprobe.layouts.fragment import Digit, Digits, Fragment
from attnprobe.layouts.instruction import Instruction, Operand

_SOURCE = "PTX ISA 9.1, 9.7.14.5.15, Warp-level matrix load instruction: ldmatrix"

_SM_75_NOTE = "on sm_75 the lanes whose addresses are ignored must supply valid ones all the same"

# Without .trans a quad of lanes holds a row in pairs; with .trans it holds a column in pairs.
_PLAIN: tuple[Digits, Digit] = ((Digit(4, col=2), Digit(8, row=1)), Digit(2, col=1))
_TRANS: tuple[Digits, Digit] = ((Digit(4, row=2), Digit(8, col=1)), Digit(2, row=1))


def _name(count: int, transposed: bool) -> str:
    trans = ".trans" if transposed else ""
    return f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16"


def _ldmatrix(count: int, transposed: bool) -> Instruction:
    lane, pair = _TRANS if transposed else _PLAIN
    fragment = Fragment(8 * count, 8, lane, (pair, Digit(count, row=8)))
    return Instruction(
        ptx=_name(count, transposed),
        family="ldmatrix",
        shape=(),
        operands=(Operand("D", fragment, FORMATS["b16"], ("row", "col"), matrix_rows=8),),
        min_ptx="6.5",
        min_cc=75,
        source=_SOURCE,
        addresses=8 * count,
        transposed=transposed,
        notes=() if count == 4 else (_SM_75_NOTE,),
    )


SPECS: dict[str, Callable[[], Instruction]] = {
    _name(count, transposed): partial(_ldmatrix, count, transposed)
    for transposed in (False, True)
    for count in (1, 2, 4)
}
