"""The record of machine code: complete for its targets, and what it says of known instructions."""

from __future__ import annotations

import pytest

from attnprobe import layouts
from attnprobe.layouts import hardware
from tests.layouts.test_rows_assemble import runs_on, version

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")


def test_every_row_is_recorded_on_every_target_that_takes_it() -> None:
    for row in layouts.rows():
        if row.measured or version(row) > (8, 8):
            continue  # wmma is measured in another way; the newest PTX is later than the record's
        recorded = [each.target for each in hardware.codes(row)]
        assert recorded == [target for target in TARGETS if runs_on(row, target)], row.ptx


@pytest.mark.parametrize(
    ("name", "target", "how", "sass"),
    [
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "sm_80", "native", "HMMA.16816.F32"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", "sm_90a", "split", "2x HMMA.16816"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", "sm_89", "native", "QMMA.16832"),
        ("mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32", "sm_90a", "split", "2x IMMA.16832"),
        ("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32", "sm_90a", "emulated", "no tensor core"),
        ("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32", "sm_75", "split", "HMMA.884.F32.F32"),
        ("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc", "sm_90a", "split", "2x BMMA"),
        (
            "wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16",
            "sm_90a",
            "native",
            "HGMMA.64x24x16.F32",
        ),
    ],
)
def test_what_ptxas_makes_of_an_instruction(name: str, target: str, how: str, sass: str) -> None:
    row = layouts.exact(name)
    assert row is not None
    code = hardware.code(row, target)
    assert code is not None
    assert (code.how, code.native) == (how, how == "native")
    assert code.sass.startswith(sass)


def test_a_target_that_does_not_take_it_has_no_code() -> None:
    row = layouts.exact("wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16")
    assert row is not None
    assert hardware.code(row, "sm_80") is None
    assert [each.target for each in hardware.codes(row)] == ["sm_90a"]


def test_rows_of_wgmma_that_differ_in_n_share_an_entry() -> None:
    keys = {hardware.key(row) for row in layouts.rows("wgmma", "wgmma.sp")}
    assert len(keys) < 100
    assert hardware.compiler() != ""
