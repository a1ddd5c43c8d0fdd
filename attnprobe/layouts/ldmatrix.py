"""Rows of ``ldmatrix``: m8n8 of 16-bit elements, m16n16 and m8n16 of 8-bit and narrower ones.

Rows and columns are places in shared memory, and rows count through the matrices: of m8n8, row
8 * j + r is row r of matrix j. Lane l supplies the address of row l, 16 bytes; with ``.trans`` the
lanes hold columns. Elements of 6 and 4 bits lie densely at the start of their 16 bytes and get a
byte each in the register, in its low bits.

Source: PTX ISA 9.1, 9.7.14.5.15 "Warp-level matrix load instruction: ldmatrix". Which byte of an
m16n16 goes where is in a picture there; the words agree with the row, and so does what CUTLASS 4
makes of the registers (cute/arch/copy_sm100.hpp, SM100_U8x8_LDSM_T, which exchanges bytes after the
load).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from attnprobe.formats import FORMATS
from attnprobe.layouts.fragment import Digit, Digits, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.mma_sync import SM_100A
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

SOURCE = "PTX ISA 9.1, 9.7.14.5.15, Warp-level matrix load instruction: ldmatrix"

_SM_75_NOTE = "on sm_75 the lanes whose addresses are ignored must supply valid ones all the same"
_NARROW_NOTE = "elements of {} bits lie densely at the start of a 16-byte row, the rest is padding"

# Without .trans a quad of lanes holds a row in pairs; with .trans it holds a column in pairs.
PLAIN: tuple[Digits, Digit] = ((Digit(4, col=2), Digit(8, row=1)), Digit(2, col=1))
TRANS: tuple[Digits, Digit] = ((Digit(4, row=2), Digit(8, col=1)), Digit(2, row=1))


def m8n8(count: int, transposed: bool) -> Fragment:
    """Return ``count`` matrices of 8 x 8 elements of 16 bits, one in each register."""
    lane, pair = TRANS if transposed else PLAIN
    return Fragment(8 * count, 8, lane, (pair, Digit(count, row=8)))


def _m8n16(count: int) -> Fragment:
    """Return ``count`` matrices of 8 rows of 16 bytes: a lane has four bytes of a row."""
    lane = (Digit(4, col=4), Digit(8, row=1))
    return Fragment(8 * count, 16, lane, (Digit(4, col=1), Digit(count, row=8)))


def _m16n16(count: int) -> Fragment:
    """Return ``count`` matrices of 16 rows of 16 bytes: a lane has four rows of two columns."""
    lane = (Digit(4, row=4), Digit(8, col=1))
    elem = (Digit(4, row=1), Digit(2, col=8), Digit(count, row=16))
    return Fragment(16 * count, 16, lane, elem)


def _b16(ptx: str, count: int, transposed: bool) -> Instruction:
    d = Operand("D", m8n8(count, transposed), FORMATS["b16"], ("row", "col"), matrix_rows=8)
    return Instruction(
        ptx=ptx,
        family="ldmatrix",
        shape=(),
        operands=(d,),
        min_ptx="6.5",
        min_cc=75,
        source=SOURCE,
        addresses=8 * count,
        transposed=transposed,
        notes=() if count == 4 else (_SM_75_NOTE,),
    )


def _b8(ptx: str, rows: int, count: int, memory: str) -> Instruction:
    fragment = _m8n16(count) if rows == 8 else _m16n16(count)
    narrow = {"b6x16_p32": 6, "b4x16_p64": 4}.get(memory)
    return Instruction(
        ptx=ptx,
        family="ldmatrix",
        shape=(),
        operands=(Operand("D", fragment, FORMATS["b8"], ("row", "col"), matrix_rows=rows),),
        min_ptx="8.6",
        min_cc=100,
        source=SOURCE,
        addresses=rows * count,
        transposed=rows == 16,
        notes=(_NARROW_NOTE.format(narrow),) if narrow else (),
        only_on=SM_100A,
        memory=memory,
    )


def _specs() -> Iterator[tuple[str, Build]]:
    start = "ldmatrix.sync.aligned"
    for transposed in (False, True):
        for count in (1, 2, 4):
            ptx = f"{start}.m8n8.x{count}{'.trans' if transposed else ''}.shared.b16"
            yield ptx, partial(_b16, ptx, count, transposed)
    for count in (1, 2):
        for types, memory in (
            ("b8", ""),
            ("b8x16.b6x16_p32", "b6x16_p32"),
            ("b8x16.b4x16_p64", "b4x16_p64"),
        ):
            ptx = f"{start}.m16n16.x{count}.trans.shared.{types}"
            yield ptx, partial(_b8, ptx, 16, count, memory)
    for count in (1, 2, 4):
        for memory in ("b6x16_p32", "b4x16_p64"):
            ptx = f"{start}.m8n16.x{count}.shared.b8x16.{memory}"
            yield ptx, partial(_b8, ptx, 8, count, memory)


SPECS: dict[str, Build] = dict(_specs())
