# ruff: noqa: E501
"""Loads, stores, address spaces, and every way in which an access can be wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe import ptx
from attnprobe.errors import EmulatorError, MemoryFault, UsageError
from tests.ptx.cuda import ARCHES, run_cuda
from tests.ptx.harness import kernel, run


@pytest.mark.parametrize("cc", ARCHES)
@pytest.mark.parametrize("kind", ["u8", "u16", "u32", "u64", "uint2", "uint4", "double2"])
def test_a_copy_of_each_width_moves_every_byte(kind: str, cc: int) -> None:
    text = (
        f"extern \"C\" __global__ void k(const {kind} *in, {kind} *out)"
        "{ out[threadIdx.x] = in[threadIdx.x]; }"
    )  # fmt: skip
    size = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "uint2": 8, "uint4": 16, "double2": 16}[kind]
    source = np.random.default_rng(1).integers(0, 256, 64 * size, dtype=np.uint8)
    target = np.zeros_like(source)
    run_cuda(text, [source, target], block=(64,), cc=cc)
    np.testing.assert_array_equal(target, source)


def test_narrow_loads_extend_by_sign_or_zeros() -> None:
    body = """
    ld.param.u64 p, [in]; ld.param.u64 o, [out];
    ld.global.s8 r, [p]; st.global.u32 [o], r;
    ld.global.u8 r, [p]; st.global.u32 [o+4], r;
    ld.global.s16 r, [p]; st.global.u32 [o+8], r;
    ld.global.u16 w, [p]; st.global.u64 [o+16], w;
    ld.global.s32 w, [p]; st.global.u64 [o+24], w;
    ld.global.v2.s16 {r, s}, [p]; st.global.v2.u32 [o+32], {r, s};
    """
    text = kernel(body, ".param .u64 in, .param .u64 out", ".reg .b32 r, s; .reg .b64 p, o, w;")
    target = np.zeros(10, np.uint32)
    run(text, [np.array([0x8001_FFFE], np.uint32), target], block=(1,))
    assert [hex(x) for x in target] == [
        "0xfffffffe", "0xfe", "0xfffffffe", "0x0", "0xfffe", "0x0", "0x8001fffe", "0xffffffff",
        "0xfffffffe", "0xffff8001",
    ]  # fmt: skip


@pytest.mark.parametrize("cc", ARCHES)
def test_generic_addresses_reach_shared_local_and_global_memory(cc: int) -> None:
    text = """
    extern "C" __global__ void k(int *out, int n) {
        __shared__ int table[32];
        int own[4] = {1, 2, 3, 4};
        table[threadIdx.x] = 100 + threadIdx.x;
        out[threadIdx.x] = 1000 + threadIdx.x;
        __syncwarp();
        int *places[3] = {table + threadIdx.x, own + (n & 3), out + threadIdx.x};
        int *chosen = places[threadIdx.x % 3];
        *chosen += 5;
        out[threadIdx.x] = *chosen;
    }"""
    target = np.zeros(32, np.int32)
    run_cuda(text, [target], [np.int32(2)], cc=cc)
    lane = np.arange(32)
    np.testing.assert_array_equal(
        target, np.choose(lane % 3, [105 + lane, 8 + 0 * lane, 1005 + lane])
    )


@pytest.mark.parametrize("cc", ARCHES)
def test_structs_by_value_constants_and_globals_are_there(cc: int) -> None:
    text = """
    struct P { const float *in; float *out; int n; u64 stride[3]; float scale; };
    __constant__ float table[4] = {1.f, 2.f, 4.f, 8.f};
    __device__ int counter = 40;
    extern "C" __global__ void k(float *out, P p) {
        const int i = threadIdx.x;
        p.out[i] = p.in[i * p.stride[1]] * p.scale + table[(i + p.n) & 3];
        if (i == 0) out[0] = atomicAdd(&counter, 2);
    }"""
    source, target, other = (
        np.arange(64, dtype=np.float32),
        np.zeros(32, np.float32),
        np.zeros(1, np.float32),
    )
    memory = ptx.GlobalMemory()
    fields = [
        ("in", "u8"),
        ("out", "u8"),
        ("n", "i4"),
        ("_", "i4"),
        ("stride", "u8", 3),
        ("scale", "f4"),
        ("_2", "i4"),
    ]
    struct = np.zeros(1, np.dtype(fields))
    struct["in"], struct["out"] = (
        memory.map(source, writable=False).address,
        memory.map(target).address,
    )
    struct["n"], struct["stride"], struct["scale"] = 3, [0, 2, 0], 0.5
    from tests.ptx.cuda import program

    for _ in range(2):  # globals start anew with each launch
        ptx.launch(program(text, cc), "k", (1,), (32,), [memory.map(other), struct], memory=memory)
        assert other[0] == 40
    lane = np.arange(32)
    np.testing.assert_array_equal(target, lane * 2 * 0.5 + 2.0 ** ((lane + 3) % 4))


def test_a_strided_view_is_written_in_place_and_its_gaps_are_out_of_bounds() -> None:
    base = np.full((4, 8), 7, np.float32)
    view = base[:, 2:6]
    text = 'extern "C" __global__ void k(float *x, int n) { x[n] = 1.f; }'
    run_cuda(text, [view], [np.int32(8)], block=(1,))
    assert base[1, 2] == 1
    assert base.sum() == 7 * 31 + 1
    run_cuda(text, [view], [np.int32(4)], block=(1,))  # between two rows, but within the span
    for index in (-1, 28):
        with pytest.raises(MemoryFault, match="out of bounds"):
            run_cuda(text, [view], [np.int32(index)], block=(1,))
    backwards = np.arange(8, dtype=np.float32)[::-1]
    run_cuda(text, [backwards], [np.int32(-7)], block=(1,))
    assert backwards[7] == 1


def test_a_buffer_is_aligned_as_its_array_would_be_on_a_gpu() -> None:
    memory = ptx.GlobalMemory()
    array = np.zeros(64, np.float16)
    assert memory.map(array).address % 256 == 0
    assert memory.map(array[3:]).address % 256 == 6


_FAULTS = {
    "read past the end": (
        "out[i] = in[i + 40];",
        r"out of bounds: read of 4 bytes at global address 0x[0-9a-f]+, 0 bytes past the end of array 0 \(256 bytes\)"
        r"\n  by block \(0, 0, 0\), warp 0, lanes 24-31",
    ),
    "write past the end": (
        "out[i + 8] = 1;",
        r"out of bounds: write of 4 bytes .* array 1 .*\n  by .* lanes 24-31",
    ),
    "read before the start": (
        "out[i] = in[(int)i - 1];",
        r"4 bytes before array 0 .*\n  by .*lane 0\n",
    ),
    "null": (
        "out[i] = *(const int *)(u64(i) * 4);",
        r"read of 4 bytes at global address 0x0, .*\n  by .*lanes 0-31",
    ),
    "misaligned vector": (
        "int4 v = *(const int4 *)(in + 2); out[i] = v.x + v.y + v.z + v.w;",
        r"misaligned: 16 bytes at global address .* not a multiple of 16 \(8 bytes into array 0\)",
    ),
    "shared past the end": (
        "table[i + 16] = 1; out[i] = table[0];",
        r"out of bounds: 4 bytes at shared memory address",
    ),
    "shared misaligned": (
        "*(u64 *)(table + i % 4) = 1; out[i] = table[0];",
        r"misaligned: 8 bytes at shared memory address 4,",
    ),
    "shared never written": (
        "out[i] = ((volatile int *)table)[i];",
        r"nothing wrote: shared address 0\n  by .*lanes 0-31",
    ),
}


@pytest.mark.parametrize("name", _FAULTS)
@pytest.mark.parametrize("cc", [90, 100])
def test_a_wrong_access_names_place_and_lanes(name: str, cc: int) -> None:
    code, message = _FAULTS[name]
    text = (
        'extern "C" __global__ void k(const int *in, int *out) {\n'
        "__shared__ __align__(16) int table[32];\nconst u32 i = threadIdx.x;\n" + code + "\n}"
    )
    arrays = [np.arange(64, dtype=np.int32), np.zeros(32, np.int32)]
    with pytest.raises(MemoryFault) as caught:
        run_cuda(text, arrays, cc=cc)
    assert re.search(message, str(caught.value)), caught.value
    assert re.search(r"at PTX line \d+: (ld|st)\..*\n +from test/kernel.cu:4", str(caught.value)), (
        caught.value
    )


def test_a_fault_names_block_and_warp() -> None:
    text = """extern "C" __global__ void k(int *out) {
        const int i = blockIdx.x * 96 + threadIdx.x;
        out[i == 200 ? 1000 : i] = 1; }"""
    with pytest.raises(MemoryFault, match=r"block \(2, 0, 0\), warp 0, lane 8"):
        run_cuda(text, [np.zeros(288, np.int32)], grid=(3,), block=(96,))


def test_a_read_only_buffer_refuses_writes() -> None:
    text = 'extern "C" __global__ void k(int *out) { out[threadIdx.x] = 1; }'
    from tests.ptx.cuda import program

    memory = ptx.GlobalMemory()
    array = np.zeros(32, np.int32)
    with pytest.raises(MemoryFault, match="write to q, which is mapped read-only"):
        ptx.launch(
            program(text), "k", (1,), (32,), [memory.map(array, "q", writable=False)], memory=memory
        )
    assert not array.any()
    array.setflags(write=False)
    with pytest.raises(UsageError, match="read-only"):
        memory.map(array)


def test_inactive_lanes_touch_no_memory() -> None:
    text = 'extern "C" __global__ void k(int *x) { if (threadIdx.x % 4 == 1) x[threadIdx.x / 4] += 1; }'
    array = np.zeros(8, np.int32)
    run_cuda(text, [array])
    assert (array == 1).all()


def test_what_nothing_wrote_is_nan() -> None:
    body = """
    ld.param.u64 o, [out]; mov.u32 t, 0;
    ld.shared.b32 r, [table]; st.global.b32 [o], r; ld.local.b32 r, [own]; st.global.b32 [o+4], r;
    st.global.b32 [o+8], never; mov.b32 r, never; st.global.b32 [o+12], r;
    """
    text = kernel(body, ".param .u64 out", ".reg .b32 r, t, never; .reg .b64 o;",
                  ".shared .align 4 .b8 table[16]; .local .align 4 .b8 own[16];")  # fmt: skip
    out = np.zeros(4, np.float32)
    run(text, [out], block=(1,), checked=False)
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes 1 arguments, got 0"),
        ([np.int32(1)], "has 8 bytes; the int32 given has 4"),
        ([3], "not int"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: list[object], message: str) -> None:
    text = kernel("", ".param .u64 out")
    with pytest.raises(UsageError, match=message):
        ptx.launch(ptx.load(text), "k", (1,), (32,), arguments)  # type: ignore[arg-type]


def test_launch_shapes_that_do_not_fit_are_refused() -> None:
    program = ptx.load(kernel("", ""))
    for grid, block, message in (
        ((0,), (32,), "grid"),
        ((1,), (1, 2, 3, 4), "block"),
        ((1,), (2048,), "1024"),
    ):
        with pytest.raises(UsageError, match=message):
            ptx.launch(program, "k", grid, block, [])
    with pytest.raises(UsageError, match="no kernel 'q' in this PTX; it has: k"):
        ptx.launch(program, "q", (1,), (1,), [])
    with pytest.raises(UsageError, match="mma='sm90'"):
        ptx.launch(program, "k", (1,), (1,), [], mma="sm90")


def test_trap_is_an_error_with_its_place() -> None:
    with pytest.raises(
        EmulatorError, match=r"executed trap\n  by .* lanes 8-31\n  at PTX line \d+: .*trap"
    ):
        run_cuda('extern "C" __global__ void k() { if (threadIdx.x > 7) __trap(); }', [])
