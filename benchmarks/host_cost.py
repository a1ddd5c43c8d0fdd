"""Host time of one small attention call: ours with its plan known, torch's SDPA, a bare launch.

    python -m benchmarks.host_cost            # needs a GPU, CuPy and torch

The call is far too small for the GPU to matter; calls are queued without waiting, fewer than the
queue holds, and the batch is divided by their number. Writes benchmarks/results/host-cost-*.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attention import RESULTS, environment

SCHEMA = "attnprobe.benchmark.host-cost/1"
CALLS, BATCHES = 200, 21
SHAPE = (1, 128, 8, 64)  # batch, seqlen, heads, head_dim


def main(argv: list[str] | None = None) -> int:
    """Run, print a table, write a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    arguments = parser.parse_args(argv)
    where = environment("python -m benchmarks.host_cost")
    rows = []
    for name, call in _calls().items():
        samples = [_batch(call) for _ in range(BATCHES)]
        rows.append({"name": name, "median_us": statistics.median(samples), "samples_us": samples})
        print(f"{name:34s} {rows[-1]['median_us']:7.1f} us", flush=True)
    record = {"schema": SCHEMA, "environment": where, "calls": rows}
    arguments.out.mkdir(parents=True, exist_ok=True)
    slug = where["device"].lower().replace(" ", "-")
    path = arguments.out / f"host-cost-{slug}-{where['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"record: {path.name}", file=sys.stderr)
    return 0


def _calls() -> dict[str, Callable[[], Any]]:
    import cupy
    import torch

    import attnprobe

    rng = np.random.default_rng(0)
    q, k, v = (cupy.asarray(rng.standard_normal(SHAPE).astype(np.float16)) for _ in range(3))
    tensors = [torch.from_dlpack(array).transpose(1, 2) for array in (q, k, v)]
    empty = cupy.RawModule(code='extern "C" __global__ void empty(int n) {}').get_function("empty")
    number = np.int32(0)
    return {
        "attnprobe.attention, CuPy": lambda: attnprobe.attention(q, k, v),
        "attnprobe.attention with LSE, CuPy": lambda: attnprobe.attention(q, k, v, return_lse=True),
        "torch SDPA": lambda: torch.nn.functional.scaled_dot_product_attention(*tensors),
        "bare launch of an empty kernel": lambda: empty((1,), (128,), (number,)),
    }


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


if __name__ == "__main__":
    raise SystemExit(main())
