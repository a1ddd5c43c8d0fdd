"""Attention calls for compute-sanitizer: a case of every kernel and feature, on small arrays.

    python tools/sanitizer_target.py               # all cases
    python tools/sanitizer_target.py 3             # one: how kernels are compiled side by side;
                                                   # past the last there is none
    python tools/sanitizer_target.py rest          # all but those of ARRIVING
    python tools/sanitizer_target.py arriving      # those
    python tools/sanitizer_target.py control       # one round of copies that arrive at a barrier

CuPy's memory pool is switched off, so that every array is an allocation with an end of its own.
Words that count arrivals may hold anything (kernels/attention/arrivals.cuh); here they are filled
with garbage, since initcheck cannot know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cupy
import ml_dtypes
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # a checkout need not be installed

import attnprobe  # noqa: E402
from attnprobe.engine.plan import on_kernel, plans_changed  # noqa: E402
from attnprobe.engine.variants import MMA_ENTRY  # noqa: E402
from attnprobe.numerics.calls import Pages  # noqa: E402
from attnprobe.numerics.cases import Case, Sizes  # noqa: E402
from attnprobe.numerics.fills import FILLS  # noqa: E402
from attnprobe.numerics.reference import Features  # noqa: E402

LENGTHS = ((5, 9), (0, 3), (70, 150), (1, 33))
ONE_EACH = ((1, 90), (1, 0), (1, 333))
RNG = np.random.default_rng(3)
ALL_SCORES = Features(
    RNG.normal(0, 0.3, 4).astype(np.float32),
    True,
    (60, -1),
    8.0,
    alibi_slopes=RNG.random(4).astype(np.float32),
    sinks=RNG.normal(0, 1, 4).astype(np.float32),
)
PLANES = Features(
    bias=RNG.standard_normal((1, 4, 100, 140)).astype(np.float32),
    mask=RNG.random((1, 1, 100, 140)) < 0.8,
)
CAUSAL, CAPPED = Features(causal=True), Features(causal=True, softcap=20.0)

# fmt: off
CASES: tuple[Case, ...] = (
    Case("head_dim 64", Sizes(200, 333, 2)),
    Case("head_dim 64, causal", Sizes(129, 257, 2, 2), "bf16", CAUSAL),
    Case("head_dim 128, causal", Sizes(200, 333, 2, head_dim=128), features=CAUSAL),
    Case("head_dim 128, window", Sizes(65, 190, 3, 1, 128), "bf16", Features(window_size=(40, 9))),
    Case("rows of odd lengths", Sizes(130, 70, 2, 2, 128), features=CAPPED, layout="unaligned"),
    Case("head_dim 256, causal", Sizes(140, 200, 2, head_dim=256), features=CAUSAL),
    Case("scores", Sizes(100, 140, 4, 2), features=ALL_SCORES),
    Case("planes", Sizes(100, 140, 4, 2, 32), features=PLANES),
    Case("head_dim 576, V of 512", Sizes(70, 90, 2, 1, 576, v_head_dim=512), features=CAUSAL),
    Case("packed", Sizes(0, 0, 4, 2), features=CAUSAL, lengths=LENGTHS),
    Case("pages of 3", Sizes(0, 0, 4, 2, 128), features=CAUSAL, lengths=LENGTHS, pages=Pages(3)),
    Case("decode", Sizes(0, 0, 8, 2, 128), features=CAUSAL, lengths=ONE_EACH, pages=Pages(0)),
    Case("decode, pages of 16", Sizes(0, 0, 8, 2), "bf16", lengths=ONE_EACH, pages=Pages(16)),
    Case("decode, head_dim 576", Sizes(0, 0, 16, 1, 576, v_head_dim=512), lengths=ONE_EACH,
         pages=Pages(0)),
    Case("pages of 16", Sizes(0, 0, 4, 2, 128), features=CAUSAL, lengths=LENGTHS, pages=Pages(16)),
    Case("bias in tiles", Sizes(130, 200, 4, 2, 128), features=Features(
        bias=RNG.standard_normal((1, 4, 130, 200)).astype(np.float16))),
    Case("mask in tiles", Sizes(130, 208, 4, 2), features=Features(
        mask=RNG.random((1, 1, 130, 208)) < 0.8)),
    Case("tiles that blocks pass by", Sizes(400, 1100, 2), features=Features(window_size=(70, 0))),
    Case("many keys, causal", Sizes(450, 1100, 2), features=CAUSAL),
)
# fmt: on


def of_case(case: Case, **more: Any) -> None:
    """Run a case and hold it against float64."""
    call = case.call(FILLS["normal"], 1, np.nan)
    given = {
        name: cupy.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in {**call.arrays, **call.options, **more}.items()
    }
    for name in ("q", "k", "v"):  # strides of a view are kept, and what lies between
        if name in call.arrays and case.layout == "unaligned":
            given[name] = _with_gaps(call.arrays[name])
    O, LSE = getattr(attnprobe, call.entry)(**given, return_lse=True)
    verdict = call.judge(cupy.asnumpy(O), cupy.asnumpy(LSE), diagnose=False)
    assert verdict.ok, str(verdict)


def _with_gaps(array: Any) -> Any:
    room = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    room[..., 1:-2] = array
    return cupy.asarray(room)[..., 1:-2]


def on_mma_sync(case: Case) -> Callable[[], None]:
    """Return the case on the mma.sync kernel, whichever the plan would take."""

    def run() -> None:
        with plans_changed(partial(on_kernel, MMA_ENTRY)):
            of_case(case)

    return run


def of_bytes(kv_format: str) -> Callable[[], None]:
    """Return decode from a cache of bytes that is appended to, rotated and split."""

    def run() -> None:
        rng = np.random.default_rng(2)
        pages = [cupy.asarray(rng.integers(0, 100, (9, 16, 2, 64), np.uint8)) for _ in range(2)]
        table = cupy.asarray(rng.permutation(9).reshape(3, 3), np.int32)
        q, k, v = (
            cupy.asarray(rng.standard_normal((3, 1, heads, 64)).astype(ml_dtypes.bfloat16))
            for heads in (8, 2, 2)
        )
        tables = {name: cupy.asarray(rng.random((48, 32)), np.float32) for name in ("cos", "sin")}
        O = attnprobe.attention_paged(
            q,
            *pages,
            table,
            cupy.asarray([40, 0, 17], np.int32),
            k=k,
            v=v,
            rotary_cos=tables["cos"],
            rotary_sin=tables["sin"],
            causal=True,
            num_splits=3,
            kv_format=kv_format,
            k_descale=cupy.asarray([0.02, 0.03], np.float32),
            v_descale=cupy.asarray([0.02, 0.03], np.float32),
        )
        assert np.isfinite(cupy.asnumpy(O).astype(np.float32)).all()

    return run


def of_e4m3(head_dim: int, window_size: tuple[int, int]) -> Callable[[], None]:
    """Return attention with Q, K and V of e4m3, on Hopper."""

    def run() -> None:
        rng = np.random.default_rng(3)
        q, k, v = (
            cupy.asarray(
                rng.standard_normal((1, rows, heads, head_dim))
                .astype(ml_dtypes.float8_e4m3fn)
                .view(np.uint8)
            )
            for rows, heads in ((200, 4), (1700, 2), (1700, 2))
        )
        descales = {f"{name}_descale": cupy.asarray([0.5, 2.0], np.float32) for name in "qkv"}
        O = attnprobe.attention(q, k, v, window_size=window_size, kv_format="e4m3", **descales)
        assert np.isfinite(cupy.asnumpy(O).astype(np.float32)).all()

    return run


def merged() -> None:
    """Merge two states."""
    rng = np.random.default_rng(5)
    o = [cupy.asarray(rng.standard_normal((1, 33, 4, 64)), np.float16) for _ in range(2)]
    lse = [cupy.asarray(rng.standard_normal((1, 4, 33)), np.float32) for _ in range(2)]
    O, _ = attnprobe.merge_states(o[0], lse[0], o[1], lse[1])
    assert np.isfinite(cupy.asnumpy(O)).all()


RUNS: dict[str, Callable[[], None]] = {
    **{case.name: (lambda case=case: of_case(case)) for case in CASES},  # type: ignore[misc]
    **{f"{case.name}, mma.sync": on_mma_sync(case) for case in CASES[:7]},
    "decode in 3 splits": lambda: of_case(CASES[11], num_splits=3),
    "e4m3 cache, appended": of_bytes("e4m3"),
    "int8 cache, appended": of_bytes("int8"),
    "merge of two states": merged,
    **{
        f"e4m3, head_dim {width}, window {window}": of_e4m3(width, window)
        for width in (64, 128, 256)
        for window in ((-1, -1), (300, 0))
    },
}


# Where copies of the mma.sync kernel arrive at mbarriers, stage by stage. racecheck names
# cp.async into V's stages and the ldmatrix that read them, although the reader has waited for the
# barrier at which the copies arrived; in CONTROL, one round of copy, arrival and wait, it names
# nothing. docs/design/asynchronous-proxy.md has what is known.
ARRIVING = ("head_dim 576, V of 512", "head_dim 256, causal, mma.sync")
CONTROL = """
extern "C" __global__ void control(const float4 *from, float *to) {
    __shared__ float4 tile[64];
    __shared__ unsigned long long barrier;
    const unsigned place = static_cast<unsigned>(__cvta_generic_to_shared(&tile[threadIdx.x]));
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 64;" ::"r"(at) : "memory");
    __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from + threadIdx.x));
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at) : "memory");
    for (unsigned done = 0; done == 0;) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], 0;"
                     " selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(at) : "memory");
    }
    to[threadIdx.x] = tile[63 - threadIdx.x].x;
}
"""


def control() -> None:
    """Copy 64 chunks, arrive, wait, and read what other threads have copied."""
    given = cupy.arange(256, dtype=np.float32)
    out = cupy.full(64, np.nan, np.float32)
    cupy.RawKernel(CONTROL, "control")((1,), (64,), (given, out))
    assert (cupy.asnumpy(out) == 4 * np.arange(63, -1, -1)).all()


def _filled_counts(shape: Any, dtype: Any = float, **more: Any) -> Any:
    array = _EMPTY(shape, dtype, **more)
    if np.dtype(dtype) == np.uint64:
        array.view(np.uint8)[...] = 0xA5
    return array


_EMPTY = cupy.empty


def main() -> None:
    """Run the cases that are named, or all."""
    cupy.cuda.set_allocator(None)
    cupy.empty = _filled_counts
    names = list(RUNS)
    asked = sys.argv[1:]
    if asked == ["control"]:
        control()
        print("case 0: control")
        return
    if asked in (["rest"], ["arriving"]):
        apart = asked == ["arriving"]
        asked = [str(n) for n, name in enumerate(names) if (name in ARRIVING) == apart]
    wanted = [int(number) for number in asked] or range(len(names))
    for number in wanted:
        if number >= len(names):
            continue
        RUNS[names[number]]()
        print(f"case {number}: {names[number]}", flush=True)


if __name__ == "__main__":
    main()
