# ruff: noqa: E501
"""wgmma.fence: where the PTX ISA wants one, checked emulation does too; elsewhere it wants none."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import EmulatorError
from tests.ptx.hopper import run

# In shared memory rows of 128 bytes, all ones: A is rows 0-63 and B rows 64-79.
FILL = "for (int i = t; i < 80 * 32; i += blockDim.x) box[i] = 0x3c003c00;\nfence_async(); __syncthreads();\n"
BEGIN = FILL + "float d[8] = {0, 0, 0, 0, 0, 0, 0, 0}; u32 a[4] = {0, 0, 0, in[0]};\n"
END = "group_commit(); GROUP_WAIT(0);\nfor (int i = 0; i < 8; ++i) reinterpret_cast<float *>(out)[t * 8 + i] = d[i];\n"
# The kernel's D is in d[0..3], and in d[0..7] of the wider shape.
HEAD = """
#define SETTLE for (int i = 0; i < 8; ++i) asm volatile("" : "+f"(d[i]) :: "memory"); for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[i]) :: "memory");
#define MMA mma(reinterpret_cast<float (&)[4]>(d), at, at + 8192, 1);
#define MMA_RS mma_rs(reinterpret_cast<float (&)[4]>(d), a, at + 8192);
#define MMA_16 ASM("wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, 1, 1, 1, 0, 0;" \\
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]) : "l"(told(at)), "l"(told(at + 8192)));
"""

# name -> what stands between the setting of d and the wait. Ones: each product adds 16.
SOUND: dict[str, tuple[str, float]] = {
    "one product": ("SETTLE group_fence(); MMA", 16),
    "products of one shape need none between them": ("SETTLE group_fence(); MMA MMA MMA", 48),
    "nor across a wait that nobody looks behind": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); MMA", 32),
    "scaled, and fenced": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); SETTLE d[0] *= 2; d[1] *= 2; d[2] *= 2; d[3] *= 2; SETTLE group_fence(); MMA", 48),
    "another shape, fenced": ("SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); group_fence(); MMA_16", 32),
    "a loop that fences": (
        "for (int n = 0; n < in[1]; ++n) { SETTLE for (int i = 0; i < 8; ++i) d[i] += 1; SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); }", 51),
    "a branch that touches and fences, not taken": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); if (in[1] == 9) { SETTLE d[0] = 7; SETTLE } MMA", 32),
}  # fmt: skip
FAULTY: dict[str, tuple[str, str]] = {
    "none at all": ("SETTLE MMA", "latest access to"),
    "before the registers are set": ("group_fence(); SETTLE for (int i = 0; i < 8; ++i) d[i] += in[0]; SETTLE MMA", "latest access to"),
    "A is written behind it": ("SETTLE group_fence(); a[1] = in[2]; SETTLE MMA_RS", r"latest access to (.|\n)*ld.global"),
    "D is scaled between two": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); SETTLE d[1] *= 2; SETTLE MMA", r"latest access to (.|\n)*(add|mul)\S*.f32"),
    "D is read between two": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); SETTLE reinterpret_cast<float *>(out)[t] = d[2]; SETTLE MMA", r"latest access to (.|\n)*st.global"),
    "another shape": ("SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); MMA_16", "a wgmma of another shape"),
    "D becomes A": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); for (int i = 0; i < 4; ++i) a[i] = __float_as_uint(d[i]); SETTLE MMA_RS", "wgmma of another shape|latest access to"),
    "the second turn of a loop": (
        "SETTLE group_fence(); for (int n = 0; n < in[1]; ++n) { MMA group_commit(); GROUP_WAIT(0); SETTLE d[3] += 1; SETTLE }", "latest access to"),
    "a branch that touches, taken by one warp": (
        "SETTLE group_fence(); MMA group_commit(); GROUP_WAIT(0); if (warp == 3 && in[1] == 3) { SETTLE d[0] = 7; SETTLE } MMA", "latest access to"),
}  # fmt: skip
IN = np.array([1, 3, 5], np.uint32)


def go(code: str, **options: object) -> np.ndarray:
    out = np.zeros(128 * 8, np.uint32)
    text = HEAD + BEGIN + code + "\n" + END
    run(text, [IN, out], shared_bytes=80 * 128, **options)  # type: ignore[arg-type]
    return out.view(np.float32).reshape(128, 8)[:, :4]


@pytest.mark.parametrize("name", SOUND)
def test_where_a_fence_is_enough_none_more_is_asked_for(name: str) -> None:
    code, wanted = SOUND[name]
    assert (go(code, checked=True) == wanted).all()


@pytest.mark.parametrize("name", FAULTY)
def test_a_missing_fence_is_an_error(name: str) -> None:
    code, what = FAULTY[name]
    with pytest.raises(EmulatorError, match=f"no wgmma.fence stands (.|\n)*{what}"):
        go(code, checked=True)


@pytest.mark.parametrize("name", FAULTY)
def test_unchecked_emulation_does_not_look(name: str) -> None:
    go(FAULTY[name][0], checked=False)
