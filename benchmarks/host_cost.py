"""Host time of small attention calls whose plan is known, of torch's, and of first calls.

    python -m benchmarks.host_cost            # needs a GPU, CuPy and torch

The calls are far too small for the GPU to matter; they are queued without waiting, fewer than the
queue holds, and a batch is divided by their number. All calls take turns batch by batch, so that a
busy host slows them alike. First calls are made in processes of their own, with CuPy imported and
the GPU in use before the clock starts. Writes benchmarks/results/host-cost-*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attention import RESULTS, environment

SCHEMA = "attnprobe.benchmark.host-cost/2"
CALLS, BATCHES = 200, 41
SHAPE = (1, 128, 8, 64)  # batch, seqlen, heads, head_dim
PAGE_SIZE = 16
FIRST_HEAD_DIMS = (64, 128)

_FIRST_CALL = """
import sys, time, cupy, numpy as np
q, k, v = (cupy.zeros((1, 1024, 8, int(sys.argv[1])), np.float16) for _ in range(3))
cupy.cuda.Device().synchronize()
start = time.perf_counter()
import attnprobe
attnprobe.attention(q, k, v, causal=True)
cupy.cuda.Device().synchronize()
print(time.perf_counter() - start)
"""


def main(argv: list[str] | None = None) -> int:
    """Run, print tables, write a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    parser.add_argument("--first-rounds", type=int, default=3, metavar="N", help="processes")
    arguments = parser.parse_args(argv)
    rounds = arguments.first_rounds
    where = environment(f"python -m benchmarks.host_cost --first-rounds {rounds}")
    calls = _measured(_calls())
    for row in calls:
        print(f"{row['name']:42s} {row['median_us']:7.1f} us", flush=True)
    firsts = [_first_call(head_dim, rounds) for head_dim in FIRST_HEAD_DIMS]
    for row in firsts:
        cold, warm = row["cold_median_ms"], row["warm_median_ms"]
        print(f"{row['name']:42s} {cold:7.0f} ms cold, {warm:5.0f} ms warm", flush=True)
    record = {"schema": SCHEMA, "environment": where, "calls": calls, "first_calls": firsts}
    arguments.out.mkdir(parents=True, exist_ok=True)
    slug = where["device"].lower().replace(" ", "-")
    path = arguments.out / f"host-cost-{slug}-{where['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"record: {path.name}", file=sys.stderr)
    return 0


def _calls() -> dict[str, Callable[[], Any]]:
    import cupy
    import torch

    from attnprobe.engine import attention, attention_paged, attention_varlen

    rng = np.random.default_rng(0)
    q, k, v = (cupy.asarray(rng.standard_normal(SHAPE).astype(np.float16)) for _ in range(3))
    packed = [array[0] for array in (q, k, v)]
    ends = cupy.asarray([0, 50, SHAPE[1]], dtype=np.int32)
    pages = SHAPE[1] // PAGE_SIZE
    caches = [array.reshape(pages, PAGE_SIZE, *SHAPE[2:]) for array in packed[1:]]
    table = cupy.arange(pages, dtype=np.int32)[None]
    one, used, out = q[:, :1], cupy.asarray([SHAPE[1] - 3], dtype=np.int32), cupy.empty_like(q)
    tensors = [torch.from_dlpack(array).transpose(1, 2) for array in (q, k, v)]
    text = 'extern "C" __global__ void empty(void *a, void *b, void *c, void *d, int n) {}'
    empty, number = cupy.RawModule(code=text).get_function("empty"), np.int32(0)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return {
        "attention": lambda: attention(q, k, v),
        "attention, causal": lambda: attention(q, k, v, causal=True),
        "attention, with LSE": lambda: attention(q, k, v, return_lse=True),
        "attention, out given": lambda: attention(q, k, v, out=out),
        "attention_varlen": lambda: attention_varlen(*packed, ends, ends),
        "attention_paged, one query": lambda: attention_paged(one, *caches, table, used),
        "torch SDPA": lambda: sdpa(*tensors),
        "bare CuPy launch, five arguments": lambda: empty((1,), (128,), (q, k, v, out, number)),
        "cupy.empty of O": lambda: cupy.empty(SHAPE, np.float16),
    }


def _measured(calls: dict[str, Callable[[], Any]]) -> list[dict[str, Any]]:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(BATCHES):
        for name, call in calls.items():
            samples[name].append(_batch(call))
    return [
        {"name": name, "median_us": statistics.median(taken), "samples_us": taken}
        for name, taken in samples.items()
    ]


def _batch(call: Callable[[], Any]) -> float:
    """Return microseconds per call of one batch."""
    import cupy

    for _ in range(10):
        call()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    spent = time.perf_counter() - start
    cupy.cuda.Device().synchronize()
    return spent / CALLS * 1e6


def _first_call(head_dim: int, rounds: int) -> dict[str, Any]:
    """Return milliseconds of a process's first call, importing attnprobe and waiting included."""
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for times in (cold, warm):
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", _FIRST_CALL, str(head_dim)],
                    env={**os.environ, "ATTNPROBE_CACHE_DIR": folder, "ATTNPROBE_CACHE": "1"},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                times.append(1e3 * float(done.stdout))
    return {
        "name": f"first call, head_dim {head_dim}, causal",
        "cold_median_ms": statistics.median(cold),
        "warm_median_ms": statistics.median(warm),
        "cold_samples_ms": cold,
        "warm_samples_ms": warm,
    }


if __name__ == "__main__":
    raise SystemExit(main())
