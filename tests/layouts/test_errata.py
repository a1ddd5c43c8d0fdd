"""What docs/errata.md says of the manual, as far as it can be evaluated or compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe import compile as compiler
from attnprobe import layouts
from attnprobe.errors import CompileError
from attnprobe.layouts import Instruction
from tests.layouts import isa_dense
from tests.layouts.test_rows_assemble import source


def test_the_printed_formula_of_m16n8k256_is_wrong_in_a_quarter_of_a() -> None:
    row = layouts.find("m16n8k256.row.col.s32.b1.b1.s32.and.popc")
    lane, i = np.indices((32, 128))
    printed = np.stack(np.broadcast_arrays(*isa_dense.a_m16n8k256_as_printed(lane, i)), axis=-1)
    differ = (printed != row["A"].coords()).any(axis=-1)
    reached = {tuple(position) for position in printed.reshape(-1, 2).tolist()}
    assert (int(differ.sum()), differ.size, len(reached)) == (1024, 4096, 3840)


def renamed(row: Instruction, old: str, new: str) -> Instruction:
    assert old in row.ptx
    return replace(row, ptx=row.ptx.replace(old, new))


def takes(row: Instruction, target: str) -> bool:
    try:
        compiler.cubin(source([row]), target)
    except CompileError:
        return False
    return True


def find(name: str) -> Instruction:
    row = layouts.exact(name)
    assert row is not None
    return row


STORE = "stmatrix.sync.aligned.m16n8.x4.trans.shared.b8"
SPARSE = "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.f16.e4m3.e4m3.f16"
BITS = "wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc"


@pytest.mark.parametrize(
    ("row", "target"),
    [
        (find("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64"), "sm_90a"),
        (find(STORE), "sm_100a"),
        (find("wgmma.mma_async.sync.aligned.m64n240k32.s32.s8.s8"), "sm_90a"),
        (find("wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.u8"), "sm_90a"),
        (find(SPARSE), "sm_120a"),
        (find(BITS), "sm_90a"),
    ],
    ids=lambda value: getattr(value, "ptx", value),
)
def test_ptxas_takes_what_the_manual_leaves_out(row: Instruction, target: str) -> None:
    assert takes(row, target)


@pytest.mark.parametrize(
    ("row", "target"),
    [
        (renamed(find("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64"), "8k4", "84"), "sm_90a"),
        (renamed(find(STORE), ".trans", ""), "sm_100a"),
        (renamed(find(SPARSE), "k64", "k32"), "sm_120a"),
        (renamed(find(BITS), "and", "xor"), "sm_90a"),
    ],
    ids=lambda value: getattr(value, "ptx", value),
)
def test_ptxas_refuses_what_the_manual_prints(row: Instruction, target: str) -> None:
    assert not takes(row, target)
