"""Blocks that meet in global memory: what they read of each other wants release and acquire."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import RaceError
from tests.ptx.cuda import run_cuda

BLOCKS, THREADS = 5, 64
# Every block writes a part and counts itself in; the last one adds up all parts.
_LAST = """
#line 1 "test/kernel.cu"
extern "C" __global__ void k(int *parts, unsigned *count, int *out) {{
    __shared__ unsigned before;
    const int t = threadIdx.x;
    parts[blockIdx.x * 64 + t] = blockIdx.x * 100 + t;
    {wrote}
    if (t == 0) {{ {arrive} }}
    __syncthreads();
    if (before != gridDim.x - 1) return;
    int sum = 0;
    for (int b = 0; b < gridDim.x; ++b) sum += parts[b * 64 + (t ^ 32)];
    out[t] = sum;
}}"""
BARRIER = "__syncthreads();"
FENCE, FENCE_CTA = "__threadfence();", "__threadfence_block();"


def atom(order: str) -> str:
    return (
        f'asm volatile("atom.{order}.global.add.u32 %0, [%1], 1;" '
        ': "=r"(before) : "l"(count) : "memory");'
    )


def last(wrote: str, arrive: str, **options: bool) -> np.ndarray:
    """Return what the last block adds up."""
    parts, count = np.full(BLOCKS * THREADS, -1, np.int32), np.zeros(1, np.uint32)
    out = np.full(THREADS, -1, np.int32)
    run_cuda(
        _LAST.format(wrote=wrote, arrive=arrive), [parts, count, out],
        grid=(BLOCKS,), block=(THREADS,), **options,
    )  # fmt: skip
    return out


SOUND = {
    "one instruction": (BARRIER, atom("acq_rel.gpu")),
    "of the system": (BARRIER, atom("acq_rel.sys")),
    "fences about a relaxed one": (BARRIER, f"{FENCE} {atom('relaxed.gpu')} {FENCE}"),
    "fences about one that says nothing": (
        BARRIER,
        f"{FENCE} before = atomicAdd(count, 1); {FENCE}",
    ),
    "release, and a fence to acquire": (BARRIER, f"{atom('release.gpu')} {FENCE}"),
    "a fence to release, and acquire": (BARRIER, f"{FENCE} {atom('acquire.gpu')}"),
}
FAULTY = {
    "nothing": (BARRIER, "before = atomicAdd(count, 1);"),
    "relaxed": (BARRIER, atom("relaxed.gpu")),
    "no acquire": (BARRIER, atom("release.gpu")),
    "no release": (BARRIER, atom("acquire.gpu")),
    "scope of a block": (BARRIER, atom("acq_rel.cta")),
    "fences of a block": (BARRIER, f"{FENCE_CTA} before = atomicAdd(count, 1); {FENCE_CTA}"),
    "fence only before": (BARRIER, f"{FENCE} before = atomicAdd(count, 1);"),
    "fence only after": (BARRIER, f"before = atomicAdd(count, 1); {FENCE}"),
    "no barrier before": ("", atom("acq_rel.gpu")),
    "a fence of others before the barrier": (
        FENCE + BARRIER,
        "before = atomicAdd(count, 1);" + FENCE,
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_release_and_acquire_hand_on_what_a_block_knows(name: str) -> None:
    expected = sum(block * 100 for block in range(BLOCKS)) + BLOCKS * (np.arange(THREADS) ^ 32)
    assert np.array_equal(last(*SOUND[name]), expected)


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_missing_is_found(name: str) -> None:
    with pytest.raises(RaceError) as caught:
        last(*FAULTY[name])
    message = str(caught.value)
    assert "accesses of two blocks" in message
    assert message.count("test/kernel.cu:") == 2
    assert message.count("block (") == 2
    assert message.count("warp") == 2


def test_fast_mode_does_not_look() -> None:
    assert (last(*FAULTY["nothing"], checked=False) >= 0).all()


_PASS = """
extern "C" __global__ void k(int *data, int *flag, int *out) {{
    if (blockIdx.x == 0) {{
        data[threadIdx.x] = 7;
        __syncwarp();
        if (threadIdx.x == 0) {{ {send} }}
    }} else {{
        int seen = 0;
        do {{ {wait} }} while (seen == 0);
        out[threadIdx.x] = data[threadIdx.x];
    }}
}}"""


def flag_store(order: str) -> str:
    return f'asm volatile("st.{order}.global.u32 [%0], 1;" :: "l"(flag) : "memory");'


def flag_load(order: str) -> str:
    return f'asm volatile("ld.{order}.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");'


def passed(send: str, wait: str) -> np.ndarray:
    data, flag, out = (np.zeros(size, np.int32) for size in (32, 1, 32))
    run_cuda(_PASS.format(send=send, wait=wait), [data, flag, out], grid=(2,), block=(32,))
    return out


@pytest.mark.parametrize(
    ("send", "wait"),
    [
        (flag_store("release.gpu"), flag_load("acquire.gpu")),
        (FENCE + flag_store("relaxed.gpu"), flag_load("acquire.gpu")),
        (flag_store("release.sys"), flag_load("relaxed.gpu") + FENCE),
        (FENCE + flag_store("volatile"), flag_load("volatile") + FENCE),
    ],
)
def test_a_message_through_a_flag(send: str, wait: str) -> None:
    assert (passed(send, wait) == 7).all()


@pytest.mark.parametrize(
    ("send", "wait"),
    [
        (flag_store("relaxed.gpu"), flag_load("acquire.gpu")),
        (flag_store("release.gpu"), flag_load("relaxed.gpu")),
        (FENCE + flag_store("volatile"), flag_load("volatile")),
        (flag_store("release.cta"), flag_load("acquire.gpu")),
    ],
)
def test_half_a_message(send: str, wait: str) -> None:
    with pytest.raises(RaceError, match="accesses of two blocks"):
        passed(send, wait)


def _run(body: str, blocks: int = 3) -> np.ndarray:
    out, count = np.zeros(256, np.int32), np.zeros(1, np.uint32)
    text = (
        'extern "C" __global__ void k(int *out, unsigned *count) { '
        f"if (threadIdx.x == 0) atomicAdd(count, 1); {body} }}"
    )
    run_cuda(text, [out, count], grid=(blocks,), block=(64,))
    return out


def test_two_blocks_that_write_one_place() -> None:
    with pytest.raises(RaceError, match="writes it"):
        _run("out[threadIdx.x] = 1;")


def test_bytes_beside_each_other_are_no_race() -> None:
    assert _run("((char *)out)[threadIdx.x * 3 + blockIdx.x] = 1;").view(np.int8)[:192].all()


def test_atomic_operations_may_meet_but_no_plain_access() -> None:
    assert _run("atomicAdd(out + threadIdx.x, 2);")[0] == 6
    with pytest.raises(RaceError, match="accesses of two blocks"):
        _run("if (blockIdx.x == 0) out[0] = 1; else if (threadIdx.x == 32) atomicAdd(out, 2);")


def test_blocks_that_run_one_after_the_other_are_looked_at_too() -> None:
    """There are more than the emulator runs at once."""
    with pytest.raises(RaceError, match="reads it"):
        _run("if (threadIdx.x == 0) out[blockIdx.x] = blockIdx.x ? out[0] : 1;", 200)
