"""The row of ``movmatrix``: an 8 x 8 matrix of 16-bit elements, transposed across the warp.

Row and column of both operands are those of the matrix that A holds; D holds it by columns, so
that to its lanes it is the transpose.

Source: PTX ISA 9.1, 9.7.14.5.17 "Warp-level matrix transpose instruction: movmatrix".
"""

from __future__ import annotations

from collections.abc import Callable

from attnprobe.formats import FORMATS
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.ldmatrix import m8n8
from attnprobe.layouts.operand import Operand

_PTX = "movmatrix.sync.aligned.m8n8.trans.b16"


def _movmatrix() -> Instruction:
    axes = ("row", "col")
    return Instruction(
        ptx=_PTX,
        family="movmatrix",
        shape=(),
        operands=(
            Operand("D", m8n8(1, transposed=True), FORMATS["b16"], axes),
            Operand("A", m8n8(1, transposed=False), FORMATS["b16"], axes),
        ),
        min_ptx="7.8",
        min_cc=75,
        source="PTX ISA 9.1, 9.7.14.5.17, Warp-level matrix transpose instruction: movmatrix",
        transposed=True,
    )


SPECS: dict[str, Callable[[], Instruction]] = {_PTX: _movmatrix}
