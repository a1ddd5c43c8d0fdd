"""Attention calls for compute-sanitizer: a case of every kernel and feature, on small arrays.

    python tools/sanitizer_target.py               # all cases
    python tools/sanitizer_target.py 3             # one: how kernels are compiled side by side;
                                                   # past the last there is none
    python tools/sanitizer_target.py rest          # all but those of ARRIVING
    python tools/sanitizer_target.py arriving      # those, with a word from every lane
    python tools/sanitizer_target.py "one lane"    # a control of what racecheck understands
    python tools/sanitizer_target.py "each lane"   # the other

CuPy's memory pool is switched off, so that every array is an allocation with an end of its own.
Words that count arrivals may hold anything (kernels/attention/arrivals.cuh); here they are filled
with garbage, since initcheck cannot know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import cupy
import ml_dtypes
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # a checkout need not be installed

import attnprobe  # noqa: E402
from attnprobe.compile import Source, load_source  # noqa: E402
from attnprobe.engine.plan import on_kernel, plans_changed  # noqa: E402
from attnprobe.engine.variants import MMA_ENTRY  # noqa: E402
from attnprobe.mutants.apply import applied, edited  # noqa: E402
from attnprobe.mutants.catalogue import find  # noqa: E402
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
    Case("head_dim 576, bias", Sizes(70, 90, 2, 1, 576, v_head_dim=512), features=Features(
        bias=RNG.standard_normal((1, 2, 70, 90)).astype(np.float16))),
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


# Where warps of the mma.sync kernel read stages apart and lane 0 says for its warp that one is read
# (kernels/attention/key_stages.cuh). racecheck takes that for the word of lane 0 alone and names
# what the other lanes have read; so it runs these cases with a word from every lane, and CONTROLS,
# which are right by their numbers, show the difference (docs/design/asynchronous-proxy.md).
ARRIVING = {"head_dim 576, bias": CASES[-1]}
EACH_LANE = "apart_each_lane_says_so"
CONTROLS = ("one lane", "each lane")
ROUNDS = 9


def control(which: str) -> None:
    """Copy 64 chunks a round into one of two stages, and sum what other threads have copied."""
    given = np.random.default_rng(7).integers(0, 1000, (ROUNDS, 64, 4)).astype(np.float32)
    out = cupy.full(64, np.nan, np.float32)
    kernel = cupy.RawKernel(control_source(which).text, "stages_control", ("-std=c++17",))
    kernel((1,), (64,), (cupy.asarray(given), out, np.int32(ROUNDS)))
    assert (cupy.asnumpy(out) == given[:, ::-1, 0].sum(0)).all()


def control_source(which: str) -> Source:
    """Return the text of one of CONTROLS."""
    source = load_source("bench/stages_control.cu", {"ATTN_ALIGNED": 1})
    changes = find(EACH_LANE).changes if which == CONTROLS[1] else ()
    return reduce(edited, changes, source)


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
    asked = sys.argv[1:]
    runs = chosen(asked[0]) if asked else list(RUNS.items())
    for number, (name, run) in enumerate(runs):
        run()
        print(f"case {number}: {name}", flush=True)


def chosen(which: str) -> list[tuple[str, Callable[[], None]]]:
    """Return the cases that one word of the command line names."""
    if which in CONTROLS:
        return [(f"control, {which}", partial(control, which))]
    if which == "rest":
        return [(name, run) for name, run in RUNS.items() if name not in ARRIVING]
    if which == "arriving":
        return [(name, partial(told_by_each_lane, case)) for name, case in ARRIVING.items()]
    return list(RUNS.items())[int(which) :][:1]


def told_by_each_lane(case: Case) -> None:
    """Run a case on the mma.sync kernel whose lanes each say what they have read."""
    with applied(find(EACH_LANE)):
        of_case(case)


if __name__ == "__main__":
    main()
