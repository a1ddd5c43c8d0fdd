# ruff: noqa: E501
"""Divergence, reconvergence, barriers, deadlock, chunking."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe.errors import DeadlockError, EmulatorError
from attnprobe.ptx import machine
from attnprobe.ptx.machine import FAIRNESS
from tests.ptx.cuda import ARCHES, run_cuda
from tests.ptx.harness import kernel, run


@pytest.mark.parametrize("cc", ARCHES)
def test_lanes_warps_and_blocks_may_all_take_their_own_way(cc: int) -> None:
    text = """extern "C" __global__ void k(int *out) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        int value = 0;
        for (int j = 0; j < i % 7 + blockIdx.x; ++j) {
            if ((i + j) % 3 == 0) value += j * i;
            else if (threadIdx.x / 32 == 1) { value ^= j; if (j == 5) break; }
            else continue;
            value += 1;
        }
        switch (i & 7) { case 0: value += 3; break; case 1: value *= 2; case 2: value -= 9; break;
            case 3: out[i] = -1; return; case 5: value ^= 5; break; case 6: value += 77; break; default: break; }
        out[i] = value; }"""

    def one(i: int, block: int, thread: int) -> int:
        value = 0
        for j in range(i % 7 + block):
            if (i + j) % 3 == 0:
                value += j * i
            elif thread // 32 == 1:
                value ^= j
                if j == 5:
                    break
            else:
                continue
            value += 1
        kind = i & 7
        if kind == 1:
            value *= 2
        if kind in (1, 2):
            value -= 9
        return {0: value + 3, 3: -1, 5: value ^ 5, 6: value + 77}.get(kind, value)

    out = np.zeros(6 * 80, np.int32)
    run_cuda(text, [out], grid=(6,), block=(80,), cc=cc)
    assert out.tolist() == [one(b * 80 + t, b, t) for b in range(6) for t in range(80)]


@pytest.mark.parametrize("fairness", [FAIRNESS, 1])
def test_ways_meet_again(fairness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is always the turn of those that have waited longest."""
    monkeypatch.setattr(machine, "FAIRNESS", fairness)
    text = """extern "C" __global__ void k(int *out) {
        int v = threadIdx.x;
        if (v & 1) for (int i = 0; i < v; ++i) out[threadIdx.x] = v + i;
        out[threadIdx.x + 64] = __shfl_xor_sync(~0u, v, 1); }"""
    out = np.zeros(128, np.int32)
    report = run_cuda(text, [out], block=(64,))
    np.testing.assert_array_equal(out[64:], np.arange(64) ^ 1)
    assert report.splits > 1
    assert report.merges >= 1


def test_brx_idx_goes_where_the_index_says() -> None:
    body = """
    mov.u32 t, %tid.x; ld.param.u64 o, [out]; mul.wide.u32 w, t, 4; add.u64 o, o, w; and.b32 i, t,
    3;
    targets: .branchtargets L0, L1, L2, L0;
    @p brx.idx i, targets;
    mov.u32 r, 99; bra L3;
    L0: mov.u32 r, 10; bra L3;
    L1: mov.u32 r, 11; bra L3;
    L2: mov.u32 r, 12;
    L3: st.global.u32 [o], r;
    """
    text = kernel(
        "setp.ne.u32 p, 1, 2; mov.u32 t, %tid.x; setp.lt.u32 p, t, 24;" + body,
        ".param .u64 out",
        ".reg .pred p; .reg .b32 t, i, r; .reg .b64 o, w;",
    )
    out = np.zeros(32, np.uint32)
    run(text, [out])
    assert out.tolist() == [10, 11, 12, 10] * 6 + [99] * 8


_NAMED = """extern "C" __global__ void k(int *out) {
    __shared__ int box[64];
    const int t = threadIdx.x, warp = t / 32;
    for (int round = 0; round < 3; ++round) {
        if (warp < 2) {           // producers: wait for empty (2), write, signal full (1)
            if (round) asm volatile("bar.sync 2, 128;" ::: "memory");
            box[t] = round * 1000 + t;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        } else {                  // consumers
            asm volatile("bar.sync 1, 128;" ::: "memory");
            out[round * 64 + t - 64] = box[(t - 64) ^ 33];
            if (round < 2) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
    }
}"""


def test_named_barriers_pass_data_from_producers_to_consumers() -> None:
    out = np.zeros(192, np.int32)
    run_cuda(_NAMED, [out], block=(128,))
    t = np.arange(64)
    np.testing.assert_array_equal(out, np.concatenate([r * 1000 + (t ^ 33) for r in range(3)]))


def test_barriers_of_part_of_a_block() -> None:
    text = """extern "C" __global__ void k(int *out) {
        __shared__ int box[128];
        const int t = threadIdx.x, half = t / 64;
        box[t] = t * 3;
        asm volatile("bar.sync %0, 64;" :: "r"(half + 1) : "memory");
        out[t] = box[t ^ 32];
        asm volatile("barrier.sync.aligned %0, 64;" :: "r"(half + 1) : "memory");
        box[t ^ 32] = 7; __syncthreads(); out[t] += box[127 - t]; }"""
    out = np.zeros(128, np.int32)
    run_cuda(text, [out], block=(128,))
    np.testing.assert_array_equal(out, (np.arange(128) ^ 32) * 3 + 7)


def test_barrier_reductions() -> None:
    text = """extern "C" __global__ void k(int *out) {
        const int t = threadIdx.x;
        out[t] = __syncthreads_count(t % 3 == 0) * 100 + __syncthreads_and(t < 96 - blockIdx.x) * 10
               + __syncthreads_or(t == 95 + blockIdx.x); }"""
    out = np.zeros(96, np.int32)
    run_cuda(text, [out], block=(96,))
    assert set(out.tolist()) == {3200 + 10 + 1}
    one = np.zeros(96, np.int32)
    text = text.replace("blockIdx.x", "1")
    run_cuda(text, [one], block=(96,))
    assert set(one.tolist()) == {3200}


def test_threads_that_have_exited_are_not_waited_for() -> None:
    text = """extern "C" __global__ void k(int *out) {
        if (threadIdx.x < 40) return;
        __syncthreads();
        out[threadIdx.x] = 1; }"""
    out = np.zeros(96, np.int32)
    run_cuda(text, [out], block=(96,))
    assert out.sum() == 56


def test_a_deadlock_says_who_waits_on_what() -> None:
    text = """extern "C" __global__ void k(int *out) {
        if (threadIdx.x / 32 == 1) asm volatile("bar.sync 3, 64;");
        else if (threadIdx.x / 32 == 2) asm volatile("bar.sync 4, 96;");
        __syncthreads(); }"""
    with pytest.raises(DeadlockError) as caught:
        run_cuda(text, [np.zeros(1, np.int32)], block=(128,), grid=(2,))
    message = str(caught.value)
    assert "no warp can run" in message
    for block in (0, 1):
        for warps, barrier, arrived, wanted in (
            ("0, 3", 0, 64, 128),
            ("1", 3, 32, 64),
            ("2", 4, 32, 96),
        ):
            assert re.search(
                rf"block \({block}, 0, 0\): warp {warps} at barrier {barrier}: {arrived} of {wanted} threads",
                message,
            ), message
    assert re.search(
        r"not there: warp 1, 2\n +at PTX line \d+: bar\.sync.*\n +from .*kernel.cu:4", message
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('asm volatile("bar.sync 1, 33;");', "multiple of 32"),
        ('asm volatile("bar.sync %0;" :: "r"(16));', "no barrier 16"),
        (
            'if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;"); else asm volatile("bar.sync 1, 96;");',
            "two thread counts",
        ),
    ],
)
def test_wrong_barriers_are_refused(code: str, message: str) -> None:
    with pytest.raises(EmulatorError, match=message):
        run_cuda(f'extern "C" __global__ void k() {{ {code} }}', [], block=(96,))


def test_spinning_on_a_flag_does_not_starve_the_writer() -> None:
    text = """extern "C" __global__ void k(int *flag) {
        if (threadIdx.x < 32) { while (atomicAdd(flag, 0) == 0) {} flag[1 + threadIdx.x] = 5; }
        else if (threadIdx.x == 40) { for (int i = 0; i < 50; ++i) flag[64] += i; atomicExch(flag, 1); } }"""
    flag = np.zeros(65, np.int32)
    run_cuda(text, [flag], block=(64,))
    assert flag[0] == 1
    assert (flag[1:33] == 5).all()


_SUMS = """extern "C" __global__ void k(const float *in, float *out) {
    __shared__ float part[96];
    const int i = blockIdx.x * 96 + threadIdx.x;
    float v = in[i];
    for (int j = 0; j < int(blockIdx.x) % 5 + 1; ++j) {
        part[threadIdx.x] = v;
        __syncthreads();
        v = v * 0.7f + part[(threadIdx.x * 5 + j) % 96];
        if (threadIdx.x % 11 < blockIdx.x % 4) v = -v;
        __syncthreads();
    }
    out[i] = v + __shfl_xor_sync(~0u, v, 3); }"""


def test_results_do_not_depend_on_the_chunks() -> None:
    source = np.random.default_rng(3).normal(size=23 * 96).astype(np.float32)
    results = []
    for lanes in (1, 200, 960, 1 << 14):
        out = np.zeros_like(source)
        report = run_cuda(_SUMS, [source, out], grid=(23,), block=(96,), chunk_lanes=lanes)
        results.append((report.chunks, out.tobytes()))
    assert [chunks for chunks, _ in results] == [23, 12, 3, 1]
    assert len({data for _, data in results}) == 1


def test_blocks_and_grids_of_three_extents() -> None:
    text = """extern "C" __global__ void k(int *out) {
        const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        const int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        out[b * 30 + t] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z
            + 1000 * blockIdx.x + 10000 * blockIdx.y + 100000 * blockIdx.z; }"""
    out = np.zeros((4, 3, 2, 2, 3, 5), np.int32)
    run_cuda(text, [out], grid=(2, 3, 4), block=(5, 3, 2))
    z, y, x, c, b, a = np.indices(out.shape)
    np.testing.assert_array_equal(out, a + 10 * b + 100 * c + 1000 * x + 10000 * y + 100000 * z)


def test_special_registers() -> None:
    names = [
        "laneid",
        "warpid",
        "nwarpid",
        "ntid.x",
        "nctaid.x",
        "lanemask_eq",
        "lanemask_lt",
        "lanemask_le",
        "lanemask_gt",
        "lanemask_ge",
        "dynamic_smem_size",
    ]
    stores = "\n".join(
        f"mov.u32 r, %{name}; st.global.u32 [o+{4 * i}], r;" for i, name in enumerate(names)
    )
    body = f"ld.param.u64 o, [out]; mov.u32 r, %tid.x; mul.wide.u32 w, r, 44; add.u64 o, o, w;\n{stores}"
    out = np.zeros((64, 11), np.uint32)
    run(
        kernel(body, ".param .u64 out", ".reg .b32 r; .reg .b64 o, w;"),
        [out],
        block=(64,),
        shared_bytes=48,
    )
    t = np.arange(64)
    lane = (t % 32).astype(np.uint64)
    bit = np.uint64(1) << lane
    top = np.uint64(0xFFFFFFFF)
    expected = [
        lane,
        t // 32,
        2,
        64,
        1,
        bit,
        bit - 1,
        2 * bit - 1,
        top ^ (2 * bit - 1),
        top ^ (bit - 1),
        48,
    ]
    for column, (name, value) in enumerate(zip(names, expected, strict=True)):
        np.testing.assert_array_equal(out[:, column], np.broadcast_to(value, 64), err_msg=name)
