"""Rows of instructions that do not exist, in the form of real ones."""

from attnprobe.formats import FORMATS
from attnprobe.layouts import Digit, Fragment, Instruction, Operand

QUAD_ROWS = (Digit(4, col=2), Digit(8, row=1))
QUAD_COLS = (Digit(4, row=2), Digit(8, col=1))


def made_up(k: int, ab: str) -> Instruction:
    """Return an ``mma.sync`` m16n8k<k> whose fragments go on as those of m16n8k16 do."""
    steps = k // 8
    a = Fragment(16, k, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8), Digit(steps, col=8)))
    b = Fragment(k, 8, QUAD_COLS, (Digit(2, row=1), Digit(steps, row=8)))
    d = Fragment(16, 8, QUAD_ROWS, (Digit(2, col=1), Digit(2, row=8)))
    operands = (
        Operand("D", d, FORMATS["f32"], ("m", "n")),
        Operand("A", a, FORMATS[ab], ("m", "k")),
        Operand("B", b, FORMATS[ab], ("k", "n")),
        Operand("C", d, FORMATS["f32"], ("m", "n")),
    )
    ptx = f"mma.sync.aligned.m16n8k{k}.row.col.f32.{ab}.{ab}.f32"
    return Instruction(ptx, "mma", (16, 8, k), operands, "7.0", 80, "made up for a test")


def narrow_row() -> Instruction:
    """Return a row with 512 slots of A in bf16, which holds integers up to 256."""
    return made_up(32, "bf16")
