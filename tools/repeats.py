"""Repeat calls of every kernel many times on a GPU: each must give the bits of the first.

    python tools/repeats.py                  # 10,000 times each
    python tools/repeats.py --repeats 100 --only wgmma

A kernel with a race gives other bits once in a while. The shapes are those that leave least time
between what must not meet: many short tiles to a block, rings that go round often, one tile alone,
parts that are combined. Every other hundred of repeats runs beside copies on another stream, which
shift the times at which data arrive. Results are compared on the device, word by word.

tools/gpu_evidence.py runs this and keeps what it says. Exits 1 if any result differed, 3 without a
GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # a checkout need not be installed

import attnprobe  # noqa: E402
from attnprobe.backends.gpu import GpuBackend  # noqa: E402
from attnprobe.engine.plan import Plan, on_kernel, plans_changed  # noqa: E402
from attnprobe.engine.variants import MMA_ENTRY  # noqa: E402
from attnprobe.errors import DeviceError  # noqa: E402
from attnprobe.numerics.calls import Pages  # noqa: E402
from attnprobe.numerics.cases import Case, Sizes  # noqa: E402
from attnprobe.numerics.fills import FILLS  # noqa: E402
from attnprobe.numerics.reference import Features  # noqa: E402
from attnprobe.rig.libraries import LIBRARIES  # noqa: E402

REPEATS = 10_000
IN_A_ROW = 100  # repeats with nothing beside them, then as many beside copies
COPY_BYTES, COPY_EVERY = 32 << 20, 4
COMPILERS = 16

WGMMA, MMA = "attention_fwd_wgmma", MMA_ENTRY
DECODE = "attention_decode_split"
MERGE, APPEND = "attention_merge_states", "attention_append_kv"
CAUSAL, WINDOW = Features(causal=True), Features(window_size=(70, 10))
ONE_EACH = tuple((1, length) for length in (1, 600, 900, 1025))
PACKED = tuple((length, length) for length in (1, 63, 64, 65, 200, 500))

Call = Callable[[], tuple[Any, ...]]

COMPARE = """
extern "C" __global__ void compare(const unsigned short *a, const unsigned short *b, unsigned n,
                                   unsigned long long *differing) {
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        if (a[i] != b[i]) atomicAdd(differing, 1ull);
}
"""


@dataclass(frozen=True)
class Row:
    """One call that is repeated.

    Attributes
    ----------
    case : the problem.
    kernels : entries that must have served it, so that no row tests another kernel than it says.
    forced : take this entry's first variant that fits, whichever the plan would take.
    more : further arguments.
    bytes_of : number format of K and V, "e4m3" or "int8", instead of Q's.
    appended : the last rows of the cache are written anew by every call.
    merged : two results are merged by every call.
    """

    case: Case
    kernels: tuple[str, ...]
    forced: str = ""
    more: tuple[tuple[str, Any], ...] = ()
    bytes_of: str = ""
    appended: bool = False
    merged: bool = False


def _wgmma(name: str, sizes: Sizes, features: Features = CAUSAL, dtype: str = "f16") -> Row:
    return Row(Case(f"wgmma: {name}", sizes, dtype, features), (WGMMA,))


def _mma(name: str, sizes: Sizes, features: Features = CAUSAL) -> Row:
    return Row(Case(f"mma.sync: {name}", sizes, features=features), (MMA,), MMA)


def _decode(name: str, kernels: tuple[str, ...] = (DECODE,), **more: Any) -> Row:
    case = Case(f"decode: {name}", Sizes(1, 3000, 8, 2, 128, batch=2), features=CAUSAL)
    return Row(replace(case, **more), kernels, more=(("num_splits", 13),))


# fmt: off
ROWS: tuple[Row, ...] = (
    _wgmma("head_dim 64, three warpgroups", Sizes(1100, 1100, 8, 2, 64), Features()),
    _wgmma("head_dim 64, causal, short tiles", Sizes(1000, 1000, 16, 4, 64)),
    _wgmma("head_dim 64, softcap", Sizes(700, 1300, 8, 8, 64), Features(causal=True, softcap=9.0)),
    _wgmma("head_dim 64, one tile", Sizes(192, 192, 1, 1, 64), Features()),
    _wgmma("head_dim 128", Sizes(1500, 2500, 8, 8, 128), Features(), "bf16"),
    _wgmma("head_dim 128, causal, many tiles a block", Sizes(700, 700, 64, 8, 128)),
    _wgmma("head_dim 128, window", Sizes(900, 900, 32, 8, 128), WINDOW),
    _wgmma("head_dim 192, V of 128", Sizes(600, 600, 16, 16, 192, v_head_dim=128)),
    _wgmma("head_dim 256, causal", Sizes(500, 700, 16, 4, 256)),
    _mma("head_dim 64, causal", Sizes(700, 700, 8, 2, 64)),
    _mma("head_dim 128, window", Sizes(500, 700, 8, 8, 128), WINDOW),
    _mma("head_dim 256", Sizes(300, 500, 4, 4, 256), Features()),
    _mma("head_dim 576, V of 512", Sizes(100, 300, 4, 1, 576, v_head_dim=512)),
    Row(Case("packed", Sizes(0, 0, 8, 2, 128), features=CAUSAL, lengths=PACKED), ()),
    Row(Case("pages of 16", Sizes(0, 0, 8, 2, 128), features=CAUSAL, lengths=PACKED,
             pages=Pages(16)), ()),
    _decode("13 parts"),
    _decode("head_dim 576", sizes=Sizes(1, 900, 16, 1, 576, v_head_dim=512)),
    replace(_decode("e4m3"), bytes_of="e4m3"),
    replace(_decode("int8"), bytes_of="int8"),
    _decode("pages of 16, parts by lengths", lengths=ONE_EACH, pages=Pages(16)),
    replace(_decode("pages of 16, appended to", (DECODE, APPEND), lengths=ONE_EACH,
                    pages=Pages(16)), appended=True),
    Row(Case("merge", Sizes(500, 300, 8, 8, 128)), (WGMMA, MERGE), merged=True),
)
# fmt: on


def main() -> int:
    """Run, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--only", default="", help="rows with this in their name")
    arguments = parser.parse_args()
    try:
        GpuBackend()
    except DeviceError as error:
        print(f"repeats: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if run(arguments.repeats, arguments.only)["ok"] else 1


def run(repeats: int = REPEATS, only: str = "") -> dict[str, Any]:
    """Repeat every row's call, print a line for each, and return what was found."""
    begin = time.monotonic()
    rows = [row for row in ROWS if only in row.case.name]
    with ThreadPoolExecutor(COMPILERS) as pool:
        prepared = list(pool.map(_prepared, rows))
    print(f"compiled: {time.monotonic() - begin:.1f} s", flush=True)
    found = []
    for row, (call, kernels) in zip(rows, prepared, strict=True):
        start = time.monotonic()
        differing = _differing(call, repeats)
        missing = sorted(set(row.kernels) - set(kernels))
        result = {
            "case": row.case.name,
            "kernels": list(kernels),
            "differing": differing,
            "seconds": round(time.monotonic() - start, 2),
        }
        if missing:
            result["not served by"] = missing
        found.append(result)
        print(*(f"{name}: {value}" for name, value in result.items()), sep="  ", flush=True)
    ok = bool(found) and not any(row["differing"] or "not served by" in row for row in found)
    seconds = round(time.monotonic() - begin, 1)
    return {"ok": ok, "repeats": repeats, "seconds": seconds, "cases": found}


def _prepared(row: Row) -> tuple[Call, tuple[str, ...]]:
    """Return the call, made once, and the entries of the kernels that served it."""
    call, seen = call_of(row), []

    def note(plan: Plan) -> Plan:
        chosen = forced(plan, row.forced)
        seen.extend(step.entry for step in chosen.steps)
        return chosen

    with plans_changed(note):
        call()
    seen += [APPEND] * row.appended + [MERGE] * row.merged
    if not row.forced:
        return call, tuple(dict.fromkeys(seen))

    def again() -> tuple[Any, ...]:
        with plans_changed(lambda plan: forced(plan, row.forced)):
            return call()

    return again, tuple(dict.fromkeys(seen))


def forced(plan: Plan, entry: str) -> Plan:
    """Return the plan with the first variant of ``entry`` that fits; as it is where "" is asked."""
    return on_kernel(entry, plan) if entry else plan


def call_of(row: Row) -> Call:
    """Return the row's call, its arrays in place."""
    call = row.case.call(FILLS["normal"], 1)
    arrays = dict(call.arrays)
    if row.bytes_of:
        for name in "kv":
            values = arrays[name].astype(np.float32)
            stored = (
                values.astype(ml_dtypes.float8_e4m3fn)
                if row.bytes_of == "e4m3"
                else np.clip(values * 30, -128, 127).astype(np.int8)
            )
            arrays[name] = stored.view(np.uint8)
    put = LIBRARIES["cupy"].put
    given = {name: put(array) for name, array in arrays.items()}
    given |= {
        name: put(value) if isinstance(value, np.ndarray) else value
        for name, value in {**call.options, **dict(row.more)}.items()
    }
    if row.bytes_of:
        given["kv_format"] = row.bytes_of
    if row.appended:
        given |= _appended(arrays, put)
    entry = getattr(attnprobe, call.entry)
    if row.merged:
        return lambda: _merged(entry, given)
    return lambda: entry(**given, return_lse=True)


def _appended(arrays: dict[str, Any], put: Callable[[Any], Any]) -> dict[str, Any]:
    """Return arguments that append a key and a value to each sequence, rotated."""
    q, cache, rng = arrays["q"], arrays["k_cache"], np.random.default_rng(5)
    batch, width = q.shape[0], q.shape[3]
    new = rng.standard_normal((2, batch, 1, *cache.shape[2:])).astype(q.dtype)
    angles = rng.uniform(0, 6, (2048, width // 2)).astype(np.float32)
    tables = {"rotary_cos": put(np.cos(angles)), "rotary_sin": put(np.sin(angles))}
    before = np.maximum(arrays["cache_seqlens"] - 1, 0).astype(np.int32)
    return {"k": put(new[0]), "v": put(new[1]), "cache_seqlens": put(before), **tables}


def _merged(entry: Callable[..., Any], given: dict[str, Any]) -> tuple[Any, ...]:
    first = entry(**given, return_lse=True)
    second = entry(given["q"], given["v"], given["k"], return_lse=True)
    merged: tuple[Any, ...] = attnprobe.merge_states(*first, *second)
    return merged


def _differing(call: Call, repeats: int) -> int:
    """Return how many elements of all repeats together differ from the first result's."""
    import cupy

    compare = cupy.RawKernel(COMPARE, "compare")
    beside = cupy.cuda.Stream(non_blocking=True)
    source, target = (cupy.zeros(COPY_BYTES, np.uint8) for _ in range(2))
    counter = cupy.zeros(1, np.uint64)
    first = [array.copy() for array in call()]
    cupy.cuda.Device().synchronize()
    for number in range(repeats):
        if number // IN_A_ROW % 2 and number % COPY_EVERY == 0:
            target.data.copy_from_device_async(source.data, COPY_BYTES, beside)
        for wanted, found in zip(first, call(), strict=True):
            halves = wanted.nbytes // 2
            blocks = max(1, min(256, halves // 1024))
            compare((blocks,), (256,), (wanted, found, np.uint32(halves), counter))
    cupy.cuda.Device().synchronize()
    return int(counter[0])


if __name__ == "__main__":
    raise SystemExit(main())
