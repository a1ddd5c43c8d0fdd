# ruff: noqa: E501
"""Bulk copies: where bytes go, when they land, and every way to use them too early or too late."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from attnprobe import ptx
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.errors import EmulatorError, MemoryFault, RaceError
from attnprobe.probing import evidence, tensor_copies
from attnprobe.ptx import tensor_maps
from tests.ptx.hopper import READY, run

CASES = {case.name: case for case in tensor_copies.cases()}


RECORD = json.loads(tensor_copies.record_path().read_text(encoding="utf-8"))["cases"]


def test_the_maps_say_what_hardware_does() -> None:
    """An H200's answers to all cases: the words, or that the copy is refused."""
    assert set(RECORD) == set(CASES)
    for name, entry in RECORD.items():
        case = CASES[name]
        assert ("error" in entry) == case.refused, name
        if not case.refused:
            assert entry["hash"] == evidence.digest(tensor_copies.expected(case)), name


@pytest.mark.parametrize("case", list(CASES.values())[::3], ids=lambda case: case.name)
def test_boxes_go_where_their_maps_say(case: tensor_copies.Case) -> None:
    if case.refused:
        with pytest.raises(EmulatorError, match=r"no multiple of 16|begins before the tensor"):
            tensor_copies.ask(case, EmulatorBackend())
        return
    found = tensor_copies.ask(case, EmulatorBackend())
    assert (found == tensor_copies.expected(case)).all()


def test_maps_survive_their_bytes() -> None:
    for case in CASES.values():
        data = tensor_maps.encoded(case.tensor)
        assert len(data) == 128
        assert tensor_maps.decoded(data) == case.tensor


MAP = ptx.TensorMap(0, "u32", (64, 64), (256,), (32, 16), "128B")


def go(code: str, threads: int = 64, told: ptx.TensorMap = MAP, **options: object) -> np.ndarray:
    out = np.zeros(4096, np.uint32)
    table = np.arange(4096, dtype=np.uint32)
    run(code, [table, out], [(0, told), (1, told)], threads, **options)  # type: ignore[arg-type]
    return out


def chunk(row: int, column: int) -> int:
    """The word of the box at which a 32-wide row's element lies."""
    return row * 32 + ((column // 4) ^ (row % 8)) * 4 + column % 4


LOAD = "if (t == 0) { expect(bar, 2048); load2(at, m0, bar, 32, 16); }\n"


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("cc", [90, 100])
def test_a_box_is_there_when_its_phase_is_complete(checked: bool, cc: int) -> None:
    out = go(
        LOAD + "wait(bar, 0); for (int i = t; i < 512; i += 64) out[i] = box[i];",
        checked=checked,
        cc=cc,
    )
    for row, column in ((0, 0), (3, 9), (15, 31)):
        assert out[chunk(row, column)] == (16 + row) * 64 + 32 + column


@pytest.mark.parametrize("checked", [True, False])
def test_boxes_come_back(checked: bool) -> None:
    code = (
        LOAD
        + """
    wait(bar, 0);
    if (t == 0) { store2(m1, at, 0, 40); bulk_commit(); BULK_WAIT(0); }"""
    )
    out = go(code, checked=checked).reshape(64, 64)
    table = np.arange(4096, dtype=np.uint32).reshape(64, 64)
    assert (out[40:56, :32] == table[16:32, 32:]).all()
    assert not np.delete(out, range(40, 56), axis=0).any()


@pytest.mark.parametrize("checked", [True, False])
def test_runs_of_bytes_go_in_and_out(checked: bool) -> None:
    code = """
    if (t == 0) {
        expect(bar, 192); load_bytes(at + 16, in + 4, 128, bar); load_bytes(at + 512, in, 64, bar);
        wait(bar, 0);
        store_bytes(out + 100, at + 16, 128); store_bytes(out, at + 512, 64); bulk_commit(); BULK_WAIT(0);
    }"""
    out = go(code, checked=checked)
    assert (out[100:132] == np.arange(4, 36)).all()
    assert (out[:16] == np.arange(16)).all()


def test_one_phase_waits_for_all_its_copies() -> None:
    code = """
    if (t < 4) { if (t == 0) expect(bar, 8192); __syncwarp(15); load2(at + t * 2048, m0, bar, 0, t * 16); }
    wait(bar, 0);
    for (int i = t; i < 2048; i += 64) out[i] = box[i];"""
    out = go(code)
    assert all(out[t * 512 + chunk(5, 7)] == (t * 16 + 5) * 64 + 7 for t in range(4))


_EARLY = {
    "read before the phase": LOAD + "out[t] = box[t];",
    "written before the phase": LOAD + "box[t] = 1;",
    "two copies to one place": LOAD
    + "if (t == 0) { expect(bar + 8, 2048); load2(at + 1024, m0, bar + 8, 0, 0); }",
    "the other copy's phase": "if (t == 0) { expect(bar + 8, 64); load_bytes(at + 8192, in, 64, bar + 8); }\n"
    + LOAD
    + "wait(bar + 8, 0); out[t] = box[t];",
}


@pytest.mark.parametrize("name", _EARLY)
def test_what_is_under_way_may_not_be_touched(name: str) -> None:
    with pytest.raises(
        RaceError,
        match=r"a bulk copy is still under way(.|\n)*issued a bulk copy that copied to it(.|\n)*test/kernel.cu:\d",
    ):
        go(_EARLY[name])


def test_a_landed_copy_is_seen_by_those_alone_who_waited() -> None:
    """Warp 1 knows that warp 0 has waited at one barrier, and reads what came to the other."""
    code = """
    if (t == 0) {
        expect(bar, 2048); load2(at, m0, bar, 0, 0);
        expect(bar + 8, 2048); load2(at + 2048, m0, bar + 8, 0, 0);
        wait(bar + 8, 0);
        arrive(bar + 16);
    }
    if (warp == 1) { wait(bar + 16, 0); out[lane] = box[lane]; }"""
    with pytest.raises(RaceError, match="nobody here waited at its mbarrier"):
        go(code)
    go(code.replace("box[lane]", "box[512 + lane]"))


_FENCES = {
    "box": "box[t] = t;\n__syncthreads(); if (t == 0) { store2(m1, at, 0, 0); bulk_commit(); BULK_WAIT(0); }",
    "run": "box[t] = t;\n__syncthreads(); if (t == 0) { store_bytes(out, at, 256); bulk_commit(); BULK_WAIT(0); }",
    "overwriting": "box[t] = t;\n__syncthreads(); " + LOAD + "wait(bar, 0);",
}


@pytest.mark.parametrize("name", _FENCES)
def test_copies_see_what_warps_wrote_only_behind_a_fence(name: str) -> None:
    code = "for (int i = t; i < 512; i += 64) box[i] = 0;\n" + _FENCES[name]
    with pytest.raises(
        RaceError,
        match=r"no fence.proxy.async between a write and a bulk copy(.|\n)*after block(.|\n)*wrote it",
    ):
        go(code)
    go(code.replace("\n__syncthreads();", "\nfence_async(); __syncthreads();"))
    go(code.replace("\n__syncthreads();", "\n__syncthreads(); fence_async();"))


_STILL_READ = {
    "by a warp": "store_bytes(out, at, 256); bulk_commit(); box[3] = 1;",
    "by a group too few": "store_bytes(out, at, 256); bulk_commit(); store_bytes(out + 64, at + 256, 256); bulk_commit(); BULK_WAIT(1); box[80] = 1;",
    "not committed": "store_bytes(out, at, 256); BULK_WAIT(0); box[3] = 1;",
}


@pytest.mark.parametrize("name", _STILL_READ)
def test_what_a_copy_still_reads_may_not_be_written(name: str) -> None:
    code = (
        "for (int i = t; i < 512; i += 64) box[i] = 0;\nfence_async(); __syncthreads(); if (t == 0) { "
        + _STILL_READ[name]
        + " BULK_WAIT(0); }"
    )
    with pytest.raises(RaceError, match="a bulk copy still reads this: nobody has waited for it"):
        go(code)


def test_a_copy_into_what_another_still_reads_is_found() -> None:
    code = (
        LOAD
        + "if (t == 0) { wait(bar, 0); store2(m1, at, 0, 0); bulk_commit(); expect(bar, 2048);\n load2(at, m0, bar, 0, 0);\n BULK_WAIT(0); }"
    )
    with pytest.raises(
        RaceError, match=r"a bulk copy still reads that(.|\n)*issued a bulk copy that read it"
    ):
        go(code)
    go(code.replace("bulk_commit();", "bulk_commit(); BULK_WAIT(0);") + "wait(bar, 1);")


def test_a_stage_that_a_warp_still_reads_is_found() -> None:
    """Warp 1 reads the stage, and says too early that it has."""
    code = (
        LOAD
        + """
    if (t == 0) { wait(bar, 0); wait(bar + 8, 0); expect(bar, 2048); load2(at, m0, bar, 0, 0); wait(bar, 1); }
    if (warp == 1) { wait(bar, 0); ARRIVE_EARLY out[lane] = box[lane]; __syncwarp(); ARRIVE_LATE }"""
    )
    early = code.replace("ARRIVE_EARLY", "if (lane == 0) arrive(bar + 8);").replace(
        "ARRIVE_LATE", ""
    )
    late = code.replace("ARRIVE_LATE", "if (lane == 0) arrive(bar + 8);").replace(
        "ARRIVE_EARLY", ""
    )
    go(late)
    with pytest.raises(
        RaceError, match=r"race: no barrier orders two accesses|a bulk copy is still under way"
    ):
        go(early)


def test_a_block_may_not_end_before_its_copies() -> None:
    with pytest.raises(
        EmulatorError, match="a block has ended while a bulk copy still uses its shared memory"
    ):
        go(LOAD)


def test_copies_report_only_to_barriers_that_they_see() -> None:
    ready = READY.replace("fence_init();", "")
    with pytest.raises(RaceError, match=re.escape("no fence.mbarrier_init or fence.proxy.async")):
        go(LOAD + "wait(bar, 0);", ready=ready)


_WRONG = {
    "misaligned in shared memory": (
        "expect(bar, 2048); load2(at + 64, m0, bar, 0, 0);",
        MemoryFault,
        "no multiple of 128",
    ),
    "past shared memory": (
        "expect(bar, 2048); load2(at + 15 * 1024 + 512, m0, bar, 0, 0);",
        MemoryFault,
        "out of bounds: 2048 bytes at shared memory address",
    ),
    "a run past its array": (
        "expect(bar, 64); load_bytes(at, in + 4088, 64, bar);",
        MemoryFault,
        "past the end of array 0",
    ),
    "a run of 20 bytes": (
        "expect(bar, 20); load_bytes(at, in, 20, bar);",
        MemoryFault,
        "multiples of 16",
    ),
    "no map": (
        "expect(bar, 2048); load2(at, *reinterpret_cast<const Map *>(in), bar, 0, 0);",
        EmulatorError,
        "no tensor map of the emulator",
    ),
    "coordinates": (
        'ASM("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];" :: "r"(at), "l"(&m0), "r"(0), "r"(bar));',
        EmulatorError,
        "1 coordinates for a tensor of 2 axes",
    ),
    "a barrier that is none": ("load2(at, m0, at, 0, 0);", EmulatorError, "is not initialised"),
}


@pytest.mark.parametrize("name", _WRONG)
@pytest.mark.parametrize("checked", [True, False])
def test_misuse_is_an_error(name: str, checked: bool) -> None:
    code, kind, what = _WRONG[name]
    with pytest.raises(kind, match=what):
        go(f"if (t == 0) {{ {code} wait(bar, 0); }}", checked=checked)


def test_a_map_beyond_its_array_is_found() -> None:
    told = ptx.TensorMap(0, "u32", (64, 80), (256,), (32, 16), "128B")
    with pytest.raises(MemoryFault, match="a bulk copy's read of global addresses"):
        go("if (t == 0) { expect(bar, 2048); load2(at, m0, bar, 0, 60); wait(bar, 0); }", told=told)


def test_cp_async_reports_to_an_mbarrier() -> None:
    code = """
    ASM("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(at + t * 4), "l"(in + t));
    ASM("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" :: "r"(bar));
    wait(bar, 0);
    out[t] = box[t ^ 32];"""
    ready = READY.replace("init(bar + 8 * i, 1)", "init(bar + 8 * i, 64)")
    assert (go(code, ready=ready)[:64] == np.arange(64) ^ 32).all()
    with pytest.raises(RaceError):
        go(code.replace("wait(bar, 0);", ""), ready=ready)


def test_copies_of_one_group_report_to_two_mbarriers() -> None:
    code = """
    ASM("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(at + t * 4), "l"(in + t));
    ASM("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" :: "r"(bar));
    ASM("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(at + 256 + t * 4), "l"(in + 64 + t));
    ASM("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" :: "r"(bar + 8));
    wait(bar, 0); wait(bar + 8, 0);
    out[t] = box[t ^ 32]; out[64 + t] = box[64 + (t ^ 32)];"""
    ready = READY.replace("init(bar + 8 * i, 1)", "init(bar + 8 * i, 64)")
    assert (go(code, ready=ready)[:128] == np.arange(128) ^ 32).all()
    with pytest.raises(RaceError):
        go(code.replace("wait(bar + 8, 0);", ""), ready=ready)
