# ruff: noqa: E501
"""Races in shared memory and copies that are used too early: each kind is found, and named."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe.errors import MemoryFault, RaceError
from tests.ptx.cuda import ARCHES, run_cuda

_HEAD = """
__device__ __forceinline__ void copy16(u32 to, const void *from, int n = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(n) : "memory"); }
#define COMMIT asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(n) asm volatile("cp.async.wait_group %0;" :: "n"(n) : "memory")
#define WAIT_ALL asm volatile("cp.async.wait_all;" ::: "memory")
#define BAR(id, n) asm volatile("bar.sync %0, %1;" :: "n"(id), "n"(n) : "memory")
#define ARRIVE(id, n) asm volatile("bar.arrive %0, %1;" :: "n"(id), "n"(n) : "memory")
"""
_KERNEL = """
#line 1 "test/kernel.cu"
extern "C" __global__ void k(const int *in, int *out) {{
    __shared__ __align__(16) int box[256];
    volatile int *b = box;
    const int t = threadIdx.x, warp = t / 32;
    {0}
}}"""


def go(code: str, threads: int = 64, cc: int = 90, **options: bool) -> np.ndarray:
    out = np.zeros(256, np.int32)
    run_cuda(
        _HEAD + _KERNEL.format(code),
        [np.arange(256, dtype=np.int32), out],
        block=(threads,),
        cc=cc,
        **options,
    )
    return out


# name: (code, what the access does, its line, what the earlier one did, its line); the code
# starts at line 5.
_RACES = {
    "read after write": ("b[t] = t;\nout[t] = b[t ^ 32];", "reads it", 6, "wrote it", 5),
    "write after read": (
        "b[t] = t; __syncthreads();\nout[t] = b[t ^ 32];\nb[t] = 1;",
        "writes it",
        7,
        "read it",
        6,
    ),
    "write after write": (
        "b[t] = t;\nif (warp == 1) b[t - 32] = 3;",
        "writes it",
        6,
        "wrote it",
        5,
    ),
    "one instruction, two warps": ("b[t % 32] = t;", "writes it", 5, "wrote it", 5),
    "after a barrier of others": (
        "b[t] = t;\nif (warp < 2) BAR(1, 64);\nout[t] = b[t ^ 64];",
        "reads it",
        7,
        "wrote it",
        5,
    ),
    "after arriving": (
        "b[t] = t; __syncthreads();\nif (warp == 0) { ARRIVE(1, 64);\n b[t] = 1; }\n"
        "else { BAR(1, 64);\n out[t] = b[t - 32]; }",
        "(reads|writes) it",
        0,
        "(wrote|read) it",
        0,
    ),
}


@pytest.mark.parametrize("name", _RACES)
@pytest.mark.parametrize("cc", [90, 100])
def test_a_race_names_both_accesses(name: str, cc: int) -> None:
    code, this, this_line, that, that_line = _RACES[name]
    with pytest.raises(RaceError) as caught:
        go(code, 128 if "others" in name else 64, cc)
    message = str(caught.value)
    assert "race: no barrier orders two accesses; shared address" in message
    place = r"block \(0, 0, 0\), warp \d, lanes? [0-9, -]+"
    at = r"\n +at PTX line \d+: (ld|st)\.[^\n]*\n +from test/kernel.cu:"
    first, second = this_line or r"\d+", that_line or r"\d+"
    assert re.search(
        rf"  {place} {this}{at}{first}\n  after {place} {that}{at}{second}", message
    ), message


_GOOD = {
    "barrier between": "b[t] = t; __syncthreads(); out[t] = b[t ^ 32]; __syncthreads(); b[t] = 1;",
    "own warp": "b[t] = t; __syncwarp(); out[t] = b[t ^ 31]; __syncwarp(); b[t ^ 7] = 3; out[t] += b[t];",
    "own lane": "b[t] = t; out[t] = b[t]; b[t] = 2; out[t] += b[t];",
    "named barrier": "b[t] = t; BAR(3, 64); out[t] = b[t ^ 32]; BAR(4, 64); b[t] = 5;",
    "arrive then sync": "if (warp == 0) { b[t] = 5; ARRIVE(1, 64); } else { BAR(1, 64); out[t] = b[t - 32]; }",
    "atomics with atomics": "b[t] = 0; __syncthreads(); atomicAdd(box + t % 8, t); __syncthreads(); out[t] = b[t % 8];",
    "through a third warp": """
        if (warp == 0) { b[t] = 1; BAR(1, 64); }
        else if (warp == 1) { BAR(1, 64); BAR(2, 64); }
        else { BAR(2, 64); out[t] = b[t - 64]; }""",
    "reads of all": "if (warp == 0) b[t] = t; __syncthreads(); out[t] = b[t % 32] + b[t % 32];",
    "two blocks of words": "b[t * 2] = t; __syncthreads(); if (warp) out[t] = b[t * 2]; else b[t * 2 + 1] = 1;",
}


@pytest.mark.parametrize("name", _GOOD)
@pytest.mark.parametrize("cc", [90, 100])
def test_ordered_accesses_are_no_race(name: str, cc: int) -> None:
    go(_GOOD[name], 96 if "third" in name else 64, cc)


def test_atomic_and_plain_accesses_race() -> None:
    with pytest.raises(RaceError, match=r"atomically updates it(.|\n)*after (.|\n)*wrote it"):
        go("b[t] = 0; atomicAdd(box + (t ^ 32), 1);")
    with pytest.raises(RaceError, match=r"reads it(.|\n)*after (.|\n)*atomically updated it"):
        go("b[t] = 0; __syncthreads(); atomicAdd(box + t, 1); out[t] = b[t ^ 32];")


def test_unchecked_mode_looks_for_no_races() -> None:
    go(_RACES["read after write"][0], checked=False)


def test_a_warp_that_has_exited_still_races() -> None:
    with pytest.raises(RaceError, match="warp 0, lane"):
        go(
            "if (warp < 2) b[t] = 0; __syncthreads(); if (warp == 0) { b[t] = 1; return; }\nif (warp == 1) BAR(1, 64); else if (warp == 2) BAR(1, 64);\n"
            "out[t] = b[t % 32];",
            96,
        )


_PIPELINE = """
    const u32 at = smem(box);
    copy16(at + t * 16, in + t * 4); COMMIT;
    WAIT(0);
    __syncthreads();
    for (int i = 0; i < 4; ++i) out[t * 4 + i] = b[(t ^ 33) * 4 + i];
"""


@pytest.mark.parametrize("cc", ARCHES)
def test_copies_land_at_their_wait(cc: int) -> None:
    expected = np.arange(256).reshape(64, 4)[np.arange(64) ^ 33].ravel()
    np.testing.assert_array_equal(go(_PIPELINE, cc=cc), expected)
    np.testing.assert_array_equal(go(_PIPELINE, cc=cc, checked=False), expected)


_EARLY = {
    "no wait": (_PIPELINE.replace("WAIT(0);", ""), "still under way"),
    "no commit": (_PIPELINE.replace("COMMIT;", ""), "still under way"),
    "wait of the wrong group": (_PIPELINE.replace("WAIT(0)", "WAIT(1)"), "still under way"),
    "no barrier": (
        _PIPELINE.replace("__syncthreads();", ""),
        r"reads it(.|\n)*issued a copy \(cp.async\) to it",
    ),
    "barrier before the wait": (
        _PIPELINE.replace("WAIT(0);\n    __syncthreads();", "__syncthreads();\n    WAIT(0);"),
        r"still under way|reads it(.|\n)*issued a copy",
    ),
    "write to the target": (
        "copy16(smem(box) + t * 16, in); COMMIT; b[t * 4 + 1] = 3; WAIT(0);",
        "still under way",
    ),
    "two copies to one place": (
        "for (int i = 0; i < 2; ++i) { copy16(smem(box) + t * 16, in); COMMIT; } WAIT(0);",
        r"copies \(cp.async\) to it",
    ),
    "issue while others read": (
        "b[t] = t; __syncthreads(); out[t] = b[t ^ 32]; copy16(smem(box) + t * 16, in); COMMIT; WAIT(0);",
        r"copies \(cp.async\) to it(.|\n)*after (.|\n)*(read|wrote) it",
    ),
    "issue while others read, read last": (
        "b[t] = t; b[t + 64] = t; __syncthreads(); out[t] = b[t ^ 32];\n"
        "if (t < 16) copy16(smem(box) + t * 16, in); COMMIT; WAIT(0);",
        r"copies \(cp.async\) to it(.|\n)*after (.|\n)*read it",
    ),
    "one lane's wait is not another's": (
        "if (t < 32) copy16(smem(box) + t * 16, in); COMMIT; if (t < 16) WAIT(0); __syncwarp();\n"
        "if (t == 31) out[t] = b[t * 4];",
        "still under way",
    ),
}


@pytest.mark.parametrize("name", _EARLY)
@pytest.mark.parametrize("cc", [90, 100])
def test_a_copy_used_too_early_is_found(name: str, cc: int) -> None:
    code, message = _EARLY[name]
    with pytest.raises(RaceError, match=message):
        go(code, cc=cc)


def test_groups_complete_in_order() -> None:
    code = """
    const u32 at = smem(box);
    for (int g = 0; g < 4; ++g) { copy16(at + (g * 16 + t % 16) * 16, in + (g * 16 + t % 16) * 4); COMMIT; }
    WAIT(2);
    __syncwarp();
    out[t] = b[t % 16 * 4 + 64];
    {0}
    WAIT_ALL;
    out[t] += b[t % 16 * 4 + 192];"""
    out = go(code.replace("{0}", ""), 16)
    t = np.arange(16)
    np.testing.assert_array_equal(out[:16], (t * 4 + 64) + (t * 4 + 192))
    with pytest.raises(RaceError, match="still under way"):
        go(code.replace("{0}", "out[t] += b[t * 4 + 128];"), 16)


def test_wait_all_covers_copies_that_were_not_committed() -> None:
    out = go(
        "copy16(smem(box) + t * 16, in + t * 4); WAIT_ALL; __syncwarp(); out[t] = b[t * 4];", 32
    )
    np.testing.assert_array_equal(out[:32], np.arange(32) * 4)


@pytest.mark.parametrize("checked", [True, False])
def test_source_sizes_fill_with_zeros_and_read_nothing_more(checked: bool) -> None:
    code = """
    const int sizes[4] = {16, 0, 4, 10};
    copy16(smem(box) + t * 16, t % 4 == 1 ? (const int *)8 : t == 62 ? in + 255 : in + t * 4, sizes[t % 4]);
    COMMIT; WAIT(0); __syncwarp();
    for (int i = 0; i < 4; ++i) out[t * 4 + i] = b[t * 4 + i];"""
    out = go(code, checked=checked).reshape(64, 4)
    expected = np.arange(256, dtype=np.int32).reshape(64, 4).copy()
    expected[62, 0] = 255
    for kind, size in ((1, 0), (2, 4), (3, 10)):
        raw = expected[kind::4].view(np.uint8)
        raw[:, size:] = 0
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_copies_of_each_size(size: int) -> None:
    code = f"""
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], {size};"
        :: "r"(smem(box) + t * {size}), "l"((const char *)in + t * {size}) : "memory");
    COMMIT; WAIT(0); __syncwarp(); for (int i = 0; i < {size // 4}; ++i) out[t * {size // 4} + i] = b[t * {size // 4} + i];"""
    out = go(code, 32)
    np.testing.assert_array_equal(out[: 8 * size], np.arange(8 * size))


def test_copies_out_of_bounds_are_faults_at_their_issue() -> None:
    with pytest.raises(
        MemoryFault, match=r"read of 16 bytes .* past the end of array 0(.|\n)*cp\.async"
    ):
        go("copy16(smem(box) + t * 16, in + t * 4 + 4); COMMIT; WAIT(0);")
    with pytest.raises(MemoryFault, match=r"out of bounds: 16 bytes at shared(.|\n)*cp\.async"):
        go("copy16(smem(box) + t * 16 + 16, in + t * 4); COMMIT; WAIT(0);")
    with pytest.raises(MemoryFault, match=r"misaligned: 16 bytes at global(.|\n)*cp\.async"):
        go("copy16(smem(box) + t * 16, in + t * 2); COMMIT; WAIT(0);")
