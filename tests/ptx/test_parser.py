# ruff: noqa: E501
"""What PTX text may look like, and what is refused at load."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from attnprobe import ptx
from attnprobe.errors import PtxSyntaxError, UnknownOpcodeError
from attnprobe.ptx.parser import parse
from tests.ptx.cuda import ARCHES, run_cuda
from tests.ptx.harness import HEAD, kernel, run

_OUT = "mov.u32 t, %tid.x; ld.param.u64 o, [out]; mul.wide.u32 w, t, 4; add.u64 o, o, w;"
_REGISTERS = ".reg .b32 t, r, %v<9>; .reg .b64 o, w; .reg .pred p, q;"


def result(code: str) -> list[int]:
    out = np.zeros(32, np.uint32)
    run(kernel(f"{_OUT}{code}\nst.global.u32 [o], r;", ".param .u64 out", _REGISTERS), [out])
    return [int(x) for x in out]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("mov.u32 r,1;{.reg .u32 r;mov.u32 r,2;}", 1),
        ("{ .reg .b32 x; mov.u32 x, 3; { .reg .b32 x; mov.u32 x, 4; } mov.u32 r, x; }", 3),
        (
            "mov.u32 r, 0; { bra L; mov.u32 r, 9; L: add.u32 r, r, 1; } { bra L; mov.u32 r, 9; L: add.u32 r, r, 2; }",
            3,
        ),
        ("mov.u32 r, 5; { { bra OUT; } } mov.u32 r, 6; OUT:", 5),
        ("mov.u32 r, 0; L: { add.u32 r, r, 1; setp.lt.u32 p, r, 7; @p bra L; }", 7),
        ("{\n// begin\n  mov.b32 r, 8; /* two\nlines */ add.u32 r, r, 1; } // end", 9),
        (
            "mov.u32 %v3, 0x1F; mov.u32 %v4, 0b101; mov.u32 %v5, 017; add.u32 r, %v3, %v4; add.u32 "
            "r, r, %v5;",
            51,
        ),
        ("mov.u32 r, 10U; sub.u32 r, r, WARP_SZ; neg.s32 r, r;", 22),
        ("mov.f32 r, 0f40000000; cvt.rzi.u32.f32 r, r;", 2),
        ("setp.eq.u32 p|q, t, t; mov.u32 r, 3; @q mov.u32 r, 4; @!p mov.u32 r, 5;", 3),
        ("mov.b64 w, {7, 8}; mov.b64 {_, r}, w;", 8),
        ("mov.b32 r, 1;;; add.u32 r, r, 1;", 2),
        ('.pragma "nounroll"; mov.b32 r, 4;', 4),
        ("mov.b32 r, 4; bra.uni $L__BB0_2;\n$L__BB0_2:\n", 4),
        ("@p mov.u32 %v1, 6; mov.u32 r, 2;", 2),
        ("{ .reg .b32 t<2>; mov.u32 t1, 9; mov.u32 r, t1; }", 9),
    ],
)
def test_text(code: str, expected: int) -> None:
    assert result(code) == [expected] * 32


def test_addresses_with_signs_sums_and_symbols() -> None:
    code = """
    mov.u32 r, table; mov.u32 %v1, 77; mov.u32 %v2, 78; st.shared.u32 [r+8], %v1; st.shared.u32
    [table+12], %v2;
    mov.u32 %v3, table+16; ld.shared.u32 %v4, [%v3+-8]; ld.shared.u32 %v5, [%v3-4]; ld.shared.u32
    %v6, [r + 4 + 4];
    sub.u32 r, %v5, %v4; add.u32 r, r, %v6;"""
    out = np.zeros(1, np.uint32)
    text = kernel(
        f"{_OUT}{code} st.global.u32 [o], r;",
        ".param .u64 out",
        _REGISTERS,
        ".shared .b8 table[32];",
    )
    run(text, [out], block=(1,))
    assert out[0] == 78


def test_inlined_asm_repeats_registers_and_labels() -> None:
    text = r"""
    __device__ __forceinline__ int count(int n) {
        int r;
        asm volatile("{.reg .pred p;.reg .b32 x; mov.u32 x, 0;\nmov.u32 %0, 0;\nLAB_WAIT: add.s32 %0, %0, 2;"
            "add.s32 x,x,1;\n setp.lt.s32 p, x, %1; @p bra LAB_WAIT;\n bra.uni DONE; DONE: }" : "=&r"(r) : "r"(n));
        return r; }
    extern "C" __global__ void k(int *out) {
        out[threadIdx.x] = count(threadIdx.x % 5 + 1) * 100 + count(3); }"""
    for cc in ARCHES:
        out = np.zeros(32, np.int32)
        run_cuda(text, [out], cc=cc)
        assert out.tolist() == [(t % 5 + 1) * 200 + 6 for t in range(32)]


def test_directives_around_kernels_are_understood() -> None:
    text = f"""{HEAD}
    .extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
    .global .align 8 .u64 pointer = other;
    .global .align 4 .b8 other[8] = {{1, 0, 0, 0, 255}};
    .const .f32 half = 0f3F000000;
    .global .align 8 .u64 both[2] = {{generic(other), other+4}};
    .visible .entry k(.param .u64 .ptr .align 1 out) .maxntid 128, 1, 1 .minnctapersm 2
    {{
      .reg .b64 %rd<9>; .reg .f32 f; .reg .b32 r;
      .loc 1 5 0
      ld.param.u64 %rd1, [out];
      ld.global.u64 %rd2, [pointer]; ld.global.u32 r, [%rd2]; st.global.u32 [%rd1], r;
      ld.global.u64 %rd3, [both+8]; ld.u32 r, [%rd3]; st.global.u32 [%rd1+4], r;
      ld.const.f32 f, [half]; st.global.f32 [%rd1+8], f;
      .loc 1 7 3, function_name $L__info_string0, inlined_at 1 5 0
      ret;
    }}
    .file 1 "a.cu"
    .section .debug_str {{
      .b8 1, 2
    }}
    """
    out = np.zeros(3, np.uint32)
    run(text, [out], block=(1,))
    assert out.tolist() == [1, 255, 0x3F000000]
    module = parse(text)
    assert module.files == {1: "a.cu"}
    assert module.target == "sm_90"
    assert module.version == "8.8"
    ret = module.kernels["k"].body[-1]
    assert ret.location.line == 7
    assert ret.location.inlined_at == (1, 5)


def test_dynamic_shared_memory_starts_behind_the_static_and_is_aligned() -> None:
    text = """
    extern __shared__ __align__(128) int dynamic[];
    extern "C" __global__ void k(u32 *out) {
        __shared__ int fixed[3];
        fixed[threadIdx.x % 3] = 1; dynamic[threadIdx.x] = 2;
        out[0] = smem(dynamic); out[1] = smem(fixed); }"""
    out = np.zeros(2, np.uint32)
    run_cuda(text, [out], block=(1,), shared_bytes=128)
    assert out[0] % 128 == 0
    assert abs(int(out[0]) - int(out[1])) >= 12


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("frobnicate.u32 r, t;", "PTX line 8: the emulator does not implement frobnicate.u32"),
        ("add.rz.f32 r, t, t;", "PTX line 8: the emulator does not implement add.rz.f32"),
        ("add.cc.u32 r, t, t;", "add.cc.u32"),
        ("tensormap.replace.tile.rank.global.b1024.b32 [w], 3;", "tensormap.replace"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f3 {r}, {r}, {r}, {r};",
            "no layout row has this name",
        ),
        (
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {r}, t, t, t, 0, p, 1, 1, 0, 0;",
            "no layout row has this name|not emulated",
        ),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [w], [r], t;", "cp.reduce"),
        ("call.uni (r), vprintf, (w, w);", "functions that are not inlined"),
        ("mul.rz.f32 r, t, t;", "mul.rz.f32"),
        ("fm.rn.f32 r, t, t, t;", "opcodes like it: fma"),
    ],
)
def test_what_is_not_implemented_is_refused_at_load(code: str, message: str) -> None:
    text = kernel(f"bra END; {code} END:", "", _REGISTERS)
    with pytest.raises(UnknownOpcodeError, match=message):
        ptx.load(text)


def test_printf_is_refused_by_name() -> None:
    text = 'extern "C" __device__ int printf(const char *, ...);\nextern "C" __global__ void k() { printf("a"); }'
    with pytest.raises(UnknownOpcodeError, match="printf among them"):
        run_cuda(text, [])


def test_unknown_special_registers_are_refused() -> None:
    with pytest.raises(UnknownOpcodeError, match=r"reads %pm0, a special register"):
        ptx.load(kernel("mov.u32 r, %pm0;", "", _REGISTERS))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("bra NOWHERE;", "line 8: bra goes to 'NOWHERE', which is no label here"),
        ("{ L: } bra L;", "'L', which is no label here"),
        ("L: L:", "label 'L' stands twice"),
        ("add.u32 r, t", "expected ','"),
        ("mov.u32 r, `;", "cannot read"),
        ("@nothing mov.u32 r, 1;", "no predicate register 'nothing'"),
        (".reg .b7 x;", "unknown register type .b7"),
        ("{ mov.u32 r, 1;", "line"),
    ],
)
def test_text_that_is_no_ptx_is_refused(code: str, message: str) -> None:
    with pytest.raises(PtxSyntaxError, match=message):
        ptx.load(kernel(code, "", _REGISTERS))


@pytest.mark.parametrize("cc", ARCHES)
def test_the_slow_way_of_sine_runs_with_its_tables_and_local_memory(cc: int) -> None:
    text = """extern "C" __device__ float sinf(float);
    extern "C" __global__ void k(const float *x, float *y) { y[threadIdx.x] = sinf(x[threadIdx.x]); }"""
    x = (10.0 ** np.linspace(-3, 9, 32)).astype(np.float32)
    y = np.zeros_like(x)
    run_cuda(text, [x, y], cc=cc)
    np.testing.assert_allclose(y, np.sin(x.astype(np.float64)), atol=3e-7)


def test_loading_twice_gives_the_same_program() -> None:
    text = kernel("", "")
    assert ptx.load(text) is ptx.load(text)


@pytest.mark.parametrize("on", [True, False])
def test_loading_leaves_the_garbage_collector_as_it_was(on: bool) -> None:
    try:
        gc.enable() if on else gc.disable()
        with pytest.raises(PtxSyntaxError):
            ptx.load("this is no PTX {")
        assert gc.isenabled() == on
        ptx.load(".version 8.0\n.target sm_90\n.address_size 64\n")
        assert gc.isenabled() == on
    finally:
        gc.enable()
