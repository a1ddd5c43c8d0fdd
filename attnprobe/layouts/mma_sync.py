"""Rows of dense ``mma.sync`` with 16-bit operands: m16n8k8 and m16n8k16.

Source: PTX ISA 9.1, sections 9.7.14.5.7 "Matrix Fragments for mma.m16n8k8" and 9.7.14.5.8 "Matrix
Fragments for mma.m16n8k16 with floating point type"; least versions: 9.7.14.5.14.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attnprobe.formats import FORMATS
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction, Operand

_SOURCE_K8 = "PTX ISA 9.1, 9.7.14.5.7, Matrix Fragments for mma.m16n8k8"
_SOURCE_K16 = "PTX ISA 9.1, 9.7.14.5.8, Matrix Fragments for mma.m16n8k16 with floating point type"

# lane % 4: a pair of columns; lane // 4: the row.
QUAD_ROWS = (Digit(4, col=2), Digit(8, row=1))
# lane % 4: a pair of rows; lane // 4: the column.
QUAD_COLS = (Digit(4, row=2), Digit(8, col=1))

A_16x8_B16 = Fragment(16, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8)))
A_16x16_B16 = Fragment(16, 16, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8), Digit(2, col=8)))
B_8x8_B16 = Fragment(8, 8, QUAD_COLS, (Digit(2, row=1),))
B_16x8_B16 = Fragment(16, 8, QUAD_COLS, (Digit(2, row=1), Digit(2, row=8)))
CD_16x8 = Fragment(16, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8)))


def _name(k: int, ab: str, cd: str) -> str:
    return f"mma.sync.aligned.m16n8k{k}.row.col.{cd}.{ab}.{ab}.{cd}"


def _mma(k: int, ab: str, cd: str, min_ptx: str, min_cc: int) -> Instruction:
    a, b = {8: (A_16x8_B16, B_8x8_B16), 16: (A_16x16_B16, B_16x8_B16)}[k]
    operands = (
        Operand("D", CD_16x8, FORMATS[cd], ("m", "n")),
        Operand("A", a, FORMATS[ab], ("m", "k")),
        Operand("B", b, FORMATS[ab], ("k", "n")),
        Operand("C", CD_16x8, FORMATS[cd], ("m", "n")),
    )
    ptx = _name(k, ab, cd)
    source = {8: _SOURCE_K8, 16: _SOURCE_K16}[k]
    return Instruction(ptx, "mma", (16, 8, k), operands, min_ptx, min_cc, source)


_VARIANTS = (
    (16, "f16", "f32", "7.0", 80),
    (16, "bf16", "f32", "7.0", 80),
    (16, "f16", "f16", "7.0", 80),
    (8, "f16", "f32", "6.5", 75),
    (8, "bf16", "f32", "7.0", 80),
    (8, "f16", "f16", "6.5", 75),
)

SPECS: dict[str, Callable[[], Instruction]] = {
    _name(k, ab, cd): partial(_mma, k, ab, cd, min_ptx, min_cc)
    for k, ab, cd, min_ptx, min_cc in _VARIANTS
}
