"""Rows of ``mma.sync`` with block scaling: D = (A * SFA) (B * SFB) + C, for sm_120 and its kin.

A scale factor belongs to a row of A (a column of B) and a block of k / ``vector`` elements.

Source: PTX ISA 9.1, 9.7.14.3 "Block Scaling for mma.sync"; fragments as of dense ``mma``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from attnprobe.formats import FORMATS
from attnprobe.layouts import shapes
from attnprobe.layouts.choice import Immediate
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.mma_sync import F8F6F4, SM_120A, container, product_operands
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

_SOURCE = "PTX ISA 9.1, 9.7.14.3, Block Scaling for mma.sync"

# kind, scales per row, their type, least PTX version
MXF4 = (
    ("mxf4", 2, "ue8m0", "8.7"),
    ("mxf4nvf4", 2, "ue8m0", "8.7"),
    ("mxf4nvf4", 4, "ue4m3", "8.7"),
    ("mxf4nvf4", 4, "ue8m0", "9.1"),
)

SCALE_ARGUMENTS = (
    "SFA",
    ("byte-id-a", "thread-id-a"),
    "SFB",
    ("byte-id-b", "thread-id-b"),
)


def scale_operands(vector: int, type_: str) -> tuple[Operand, Operand]:
    """Return SFA and SFB with ``vector`` scales for each row of A and column of B."""
    form = FORMATS[type_]
    choices = shapes.scale_choices
    return (
        Operand("SFA", shapes.scale_a(vector), form, ("m", "block"), choices=choices("a", vector)),
        Operand("SFB", shapes.scale_b(vector), form, ("block", "n"), choices=choices("b", vector)),
    )


def scale_immediates(vector: int) -> tuple[Immediate, ...]:
    """Return byte-id and thread-id of both scale operands."""
    bytes_ = tuple(range(0, 4, vector))
    return (
        Immediate("byte-id-a", bytes_, "first byte of SFA that is read"),
        Immediate("thread-id-a", (0, 1), "lower or upper two lanes of each quad give SFA"),
        Immediate("byte-id-b", bytes_, "first byte of SFB that is read"),
        Immediate("thread-id-b", (0, 1, 2, 3), "lane of each quad that gives SFB"),
    )


def scaled_name(start: str, kind: str, vector: int, types: str, scale: str) -> str:
    """Return the mnemonic of a block-scaled product."""
    return f"{start}.kind::{kind}.block_scale.scale_vec::{vector}X.{types}.{scale}"


def _scaled(
    ptx: str, k: int, ab: tuple[str, str], kind: str, vector: int, scale: str, min_ptx: str
) -> Instruction:
    types = ("f32", *ab, "f32")
    return Instruction(
        ptx,
        "mma.block_scale",
        (16, 8, k),
        (*product_operands(16, k, types), *scale_operands(vector, scale)),
        min_ptx,
        120,
        _SOURCE,
        only_on=SM_120A,
        kind=kind,
        arguments=("D", "A", "B", "C", *SCALE_ARGUMENTS),
        immediates=scale_immediates(vector),
    )


def _mxf8f6f4() -> Iterator[tuple[str, Build]]:
    for a, b in product(F8F6F4, F8F6F4):
        start = "mma.sync.aligned.m16n8k32.row.col"
        ptx = scaled_name(start, "mxf8f6f4", 1, f"f32.{a}.{b}.f32", "ue8m0")
        ab = (container(a), container(b))
        yield ptx, partial(_scaled, ptx, 32, ab, "mxf8f6f4", 1, "ue8m0", "8.7")


def _mxf4() -> Iterator[tuple[str, Build]]:
    for kind, vector, scale, min_ptx in MXF4:
        start = "mma.sync.aligned.m16n8k64.row.col"
        ptx = scaled_name(start, kind, vector, "f32.e2m1.e2m1.f32", scale)
        yield ptx, partial(_scaled, ptx, 64, ("e2m1", "e2m1"), kind, vector, scale, min_ptx)


SPECS: dict[str, Build] = {**dict(_mxf8f6f4()), **dict(_mxf4())}
