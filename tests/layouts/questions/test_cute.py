"""CuTe's notation, against the layouts that CUTLASS prints for its own atoms."""

from __future__ import annotations

import pytest

from attnprobe import layouts
from attnprobe.layouts.questions.cute import notation

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"

# Source: CUTLASS 3.5, include/cute/atom/mma_traits_sm80.hpp and mma_traits_sm90_gmma.hpp.
CUTLASS = [
    (F16, "A", "((4,8),(2,2,2)):((32,1),(16,8,128))"),
    (F16, "B", "((4,8),(2,2)):((16,1),(8,64))"),
    (F16, "C", "((4,8),(2,2)):((32,1),(16,8))"),
    (M + "m16n8k8.row.col.f32.tf32.tf32.f32", "A", "((4,8),(2,2)):((16,1),(8,64))"),
    (M + "m16n8k32.row.col.s32.s8.s8.s32", "A", "((4,8),(4,2,2)):((64,1),(16,8,256))"),
    (M + "m16n8k32.row.col.s32.s8.s8.s32", "B", "((4,8),(4,2)):((32,1),(8,128))"),
    (M + "m8n8k4.row.col.f64.f64.f64.f64", "C", "((4,8),2):((16,1),8)"),
]
WGMMA = "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16"


@pytest.mark.parametrize(("ptx", "operand", "text"), CUTLASS)
def test_the_notation_is_that_of_cutlass(ptx: str, operand: str, text: str) -> None:
    assert notation(layouts.find(ptx)[operand]).text == text


def test_the_accumulator_of_a_warpgroup() -> None:
    row = layouts.exact(WGMMA)
    assert row is not None
    assert notation(row["D"]).text == "((4,8,4),(2,2,8)):((128,1,16),(64,8,512))"


@pytest.mark.parametrize("operand", layouts.find(F16).operands, ids=lambda each: each.name)
def test_the_strides_lead_to_the_positions(operand: layouts.Operand) -> None:
    said = notation(operand)
    shape, stride = eval(said.shape), eval(said.stride)
    for lane, positions in enumerate(operand.coords().tolist()):
        for i, (row, col) in enumerate(positions):
            offset = 0
            for number, extents, steps in ((lane, shape[0], stride[0]), (i, shape[1], stride[1])):
                for extent, step in zip(extents, steps, strict=True):
                    offset += number % extent * step
                    number //= extent
            second, first = divmod(offset, said.sizes[0])
            at = dict(zip(said.axes, (first, second), strict=True))
            assert at == dict(zip(operand.axes, (row, col), strict=True))
