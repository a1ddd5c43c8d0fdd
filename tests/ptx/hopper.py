# ruff: noqa: E501
"""CUDA helpers around what Hopper adds, for tests: mbarriers, bulk copies, wgmma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnprobe import ptx
from tests.ptx.cuda import program

HEAD = """
struct alignas(64) Map { u64 words[16]; };
#define ASM(...) asm volatile(__VA_ARGS__ : "memory")
__device__ __forceinline__ void init(u32 bar, int n) { ASM("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(n)); }
__device__ __forceinline__ void arrive(u32 bar) { ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar)); }
__device__ __forceinline__ void expect(u32 bar, u32 n) { ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(n)); }
__device__ __forceinline__ void wait(u32 bar, u32 parity) {
    ASM("{\\n.reg .pred p;\\nAGAIN:\\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\\n@p bra DONE;\\nbra AGAIN;\\nDONE:\\n}" :: "r"(bar), "r"(parity)); }
__device__ __forceinline__ void load2(u32 to, const Map &map, u32 bar, int x, int y) {
    ASM("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" :: "r"(to), "l"(&map), "r"(x), "r"(y), "r"(bar)); }
__device__ __forceinline__ void store2(const Map &map, u32 from, int x, int y) {
    ASM("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" :: "l"(&map), "r"(x), "r"(y), "r"(from)); }
__device__ __forceinline__ void load_bytes(u32 to, const void *from, int n, u32 bar) {
    ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(to), "l"(from), "r"(n), "r"(bar)); }
__device__ __forceinline__ void store_bytes(void *to, u32 from, int n) {
    ASM("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(to), "r"(from), "r"(n)); }
__device__ __forceinline__ void bulk_commit() { ASM("cp.async.bulk.commit_group;" ::); }
#define BULK_WAIT(n) ASM("cp.async.bulk.wait_group.read %0;" :: "n"(n))
__device__ __forceinline__ void fence_init() { ASM("fence.mbarrier_init.release.cluster;" ::); }
__device__ __forceinline__ void fence_async() { ASM("fence.proxy.async.shared::cta;" ::); }
__device__ __forceinline__ void group_fence() { ASM("wgmma.fence.sync.aligned;" ::); }
__device__ __forceinline__ void group_commit() { ASM("wgmma.commit_group.sync.aligned;" ::); }
// No instructions: values are in registers from here on, so no constant is written behind a fence.
__device__ __forceinline__ void settle(float (&d)[4]) { for (int i = 0; i < 4; ++i) ASM("" : "+f"(d[i]) :); }
__device__ __forceinline__ void settle(u32 (&a)[4]) { for (int i = 0; i < 4; ++i) ASM("" : "+r"(a[i]) :); }
#define GROUP_WAIT(n) ASM("wgmma.wait_group.sync.aligned %0;" :: "n"(n))
// D += A B with A and B in shared memory: 64 x 8 x 16, K-major, 128-byte swizzle.
__device__ __forceinline__ u64 told(u32 at) { return 1ull << 62 | 64ull << 32 | (at >> 4 & 0x3fff); }
__device__ __forceinline__ void mma(float (&d)[4], u32 a, u32 b, int add) {
    ASM("{.reg .pred p; setp.ne.b32 p, %6, 0; wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, 0, 0;}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(told(a)), "l"(told(b)), "r"(add)); }
__device__ __forceinline__ void mma_rs(float (&d)[4], const u32 *a, u32 b) {
    ASM("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, 1, 1, 1, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(told(b))); }
"""

FRAME = """
extern "C" __global__ void __launch_bounds__({threads}) k({maps}const u32 *in, u32 *out) {{
    extern __shared__ __align__(1024) u32 box[];
    __shared__ __align__(8) u64 bars[8];
    const u32 at = smem(box), bar = smem(bars);
    const int t = threadIdx.x, warp = t / 32, lane = t % 32;
    {before}
#line 1 "test/kernel.cu"
{code}
}}"""
READY = "if (t == 0) { for (int i = 0; i < 8; ++i) init(bar + 8 * i, 1); fence_init(); } __syncthreads();"


def run(
    code: str,
    arrays: Sequence[np.ndarray[Any, Any]],
    maps: Sequence[tuple[int, ptx.TensorMap]] = (),
    threads: int = 128,
    grid: int = 1,
    shared_bytes: int = 16384,
    ready: str = READY,
    cc: int = 90,
    **options: Any,
) -> ptx.LaunchReport:
    """Run ``code`` as the body of a kernel of (maps, in, out); a map lies over array ``number``."""
    memory = ptx.GlobalMemory()
    buffers = [memory.map(array, name=f"array {number}") for number, array in enumerate(arrays)]
    told = [
        ptx.TensorMap(
            buffers[number].address, one.element, one.shape, one.strides, one.box, one.swizzle,
            one.element_strides, one.fill,
        )
        for number, one in maps
    ]  # fmt: skip
    names = "".join(f"const __grid_constant__ Map m{number}, " for number in range(len(told)))
    text = HEAD + FRAME.format(threads=threads, maps=names, before=ready, code=code)
    args = [*told, *buffers]
    return ptx.launch(
        program(text, cc), "k", (grid,), (threads,), args, shared_bytes, memory=memory, **options
    )
