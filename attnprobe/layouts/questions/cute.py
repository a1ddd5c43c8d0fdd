"""A layout in CuTe's notation: (thread, value) -> offset in the column-major operand.

CuTe writes a layout as ``shape:stride``, lowest mode first, which is what a row of digits is: each
digit becomes a mode with the digit's extent, and its step becomes a stride. CuTe's coordinates of A
are (m, k), of B (n, k), of C and D (m, n).

Source: CUTLASS documentation, "CuTe's support for Matrix Multiply-Accumulate instructions".
"""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.layouts.fragment import Digits
from attnprobe.layouts.instruction import Operand


@dataclass(frozen=True)
class Notation:
    """One operand's layout as CuTe writes it.

    Attributes
    ----------
    operand : name of the operand.
    axes : CuTe's coordinates; the first has stride 1.
    sizes : their extents.
    shape, stride : the two halves of the notation.
    """

    operand: str
    axes: tuple[str, str]
    sizes: tuple[int, int]
    shape: str
    stride: str

    @property
    def text(self) -> str:
        """The whole notation."""
        return f"{self.shape}:{self.stride}"


def notation(operand: Operand) -> Notation:
    """Return the operand's (thread, value) layout in CuTe's notation."""
    fragment = operand.fragment
    rows, cols = fragment.rows, fragment.cols
    if operand.axes == ("k", "n"):  # CuTe's B is (n, k)
        axes, sizes, row_stride, col_stride = ("n", "k"), (cols, rows), cols, 1
    else:
        axes, sizes, row_stride, col_stride = operand.axes, (rows, cols), 1, rows
    shapes, strides = [], []
    for digits in (fragment.lane, fragment.elem):
        steps = [digit.row * row_stride + digit.col * col_stride for digit in digits]
        shape, stride = _modes(digits, steps)
        shapes.append(shape)
        strides.append(stride)
    return Notation(operand.name, axes, sizes, f"({','.join(shapes)})", f"({','.join(strides)})")


def _modes(digits: Digits, steps: list[int]) -> tuple[str, str]:
    extents = [digit.extent for digit in digits] or [1]
    steps = steps or [0]
    if len(extents) == 1:
        return str(extents[0]), str(steps[0])
    return f"({','.join(map(str, extents))})", f"({','.join(map(str, steps))})"
