"""Time attention forward beside torch's SDPA backends in one run, and write a record.

    python -m benchmarks.attention            # needs a GPU, CuPy and torch
    python -m benchmarks.attention --cases D128

Inputs are N(0, 1); before a case is timed, attnprobe's result on it is held against float64.
Source of the method: engines in turn on the same arrays, medians of batches between events.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attnprobe._paths import data_dir
from attnprobe.backends.gpu import GpuBackend
from attnprobe.numerics.error import check_attention
from benchmarks.cases import CASES, Case
from benchmarks.ceilings import library_product, mma_sync_loop
from benchmarks.engines import ENGINES
from benchmarks.timing import time_call

RESULTS = Path(__file__).parent / "results"
SCHEMA = "attnprobe.benchmark.attention/1"
CHECKED_QUERIES = 256


def main(argv: list[str] | None = None) -> int:
    """Run, print a table, write a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="", help="only cases whose name holds this text")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    arguments = parser.parse_args(argv)
    only = [f"--cases {arguments.cases}"] if arguments.cases else []
    where = environment(" ".join(["python -m benchmarks.attention", *only]))
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": where,
        "ceilings": [],
        "cases": [],
    }
    for name, measure in (("mma.sync loop", mma_sync_loop), ("matrix product", library_product)):
        flop, timing = measure()
        row = {
            "name": name,
            "tflop_per_s": flop / timing.median_s / 1e12,
            "samples_s": timing.samples_s,
        }
        record["ceilings"].append(row)
        print(f"ceiling: {name:40s} {row['tflop_per_s']:7.1f} TFLOP/s", flush=True)
    for case in CASES:
        if arguments.cases in case.name:
            record["cases"].append(_run_case(case))
    arguments.out.mkdir(parents=True, exist_ok=True)
    slug = where["device"].lower().replace(" ", "-")
    path = arguments.out / f"attention-{slug}-{where['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"record: {path.name}", file=sys.stderr)
    return 0


def _run_case(case: Case) -> dict[str, Any]:
    q, k, v = _inputs(case)
    error = _check(case, q, k, v)
    row: dict[str, Any] = {
        "name": case.name,
        "flop": case.flop,
        "max_abs_error": error,
        "engines": {},
    }
    for name, build in ENGINES.items():
        timing = time_call(build(case, q, k, v))
        rate = case.flop / timing.median_s / 1e12
        row["engines"][name] = {"tflop_per_s": rate, "samples_s": timing.samples_s}
    shown = "  ".join(f"{name} {cell['tflop_per_s']:.0f}" for name, cell in row["engines"].items())
    print(f"{case.name:44s} {shown}  (max |error| {error:.2e})", flush=True)
    return row


def _inputs(case: Case) -> tuple[Any, Any, Any]:
    import cupy
    import ml_dtypes

    dtype = np.float16 if case.dtype == "float16" else ml_dtypes.bfloat16
    rng = np.random.default_rng(case.seqlen + case.head_dim)
    shape = (case.batch, case.seqlen, case.num_heads, case.head_dim)
    q, k, v = (cupy.asarray(rng.standard_normal(shape, np.float32).astype(dtype)) for _ in range(3))
    return q, k, v


def _check(case: Case, q: Any, k: Any, v: Any) -> float:
    """Hold the last queries of the last head against float64; return the greatest error."""
    import cupy

    import attnprobe

    O, LSE = attnprobe.attention(q, k, v, causal=case.causal, return_lse=True)
    queries = slice(max(0, case.seqlen - CHECKED_QUERIES), None)
    head = slice(-1, None)
    report = check_attention(
        cupy.asnumpy(O[head, queries, head]),
        cupy.asnumpy(LSE[head, head, queries]),
        cupy.asnumpy(q[head, queries, head]),
        cupy.asnumpy(k[head, :, head]),
        cupy.asnumpy(v[head, :, head]),
        causal=case.causal,
    )
    return float(report.o.max_abs)


def environment(command: str) -> dict[str, str]:
    """Return what ran: device, driver, versions, kernel texts, command, date."""
    import torch

    cudnn = int(torch.backends.cudnn.version() or 0)
    return {
        **GpuBackend().environment(),
        "torch": torch.__version__,
        "cudnn": f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}",
        "kernels": _kernels_digest(),
        "command": command,
    }


def _kernels_digest() -> str:
    """Return a hash of the kernel texts that ran: what a commit number would say, without git."""
    digest = hashlib.sha256()
    root = data_dir("kernels")
    for path in sorted(root.rglob("*.cu*")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    raise SystemExit(main())
