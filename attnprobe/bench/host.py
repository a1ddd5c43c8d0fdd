"""Host time of small calls whose plan is known, of torch's, and of first calls.

The calls are far too small for the GPU to matter; they are queued without waiting, fewer than the
queue holds, and a batch is divided by their number. All calls take turns batch by batch, so that a
busy host slows them alike. First calls are made in processes of their own, with CuPy imported and
the GPU in use before the clock starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attnprobe.bench.inputs import normal
from attnprobe.bench.record import Result
from attnprobe.rig.libraries import LIBRARIES

CALLS, BATCHES, WARM_UPS = 200, 31, 10
SHAPE = (1, 128, 8, 64)  # batch, seqlen, heads, head_dim
PAGE_SIZE = 16
FIRST_SHAPE = (1, 1024, 8)  # batch, seqlen, heads
FIRST_HEAD_DIMS = (64, 128)
COLD, WARM = "cold", "warm"  # with nothing compiled, and with what the run before compiled
KIND, FIRST = "host", "first call"

_FIRST_CALL = """
import sys, time, cupy, numpy as np
shape = (*map(int, sys.argv[1].split(",")), int(sys.argv[2]))
q, k, v = (cupy.zeros(shape, np.float16) for _ in range(3))
cupy.cuda.Device().synchronize()
start = time.perf_counter()
import attnprobe
attnprobe.attention(q, k, v, causal=True)
cupy.cuda.Device().synchronize()
print(time.perf_counter() - start)
"""


def measure(first_rounds: int) -> list[Result]:
    """Return the results: small calls, then first calls of ``first_rounds`` processes each."""
    found = [_small(name, samples) for name, samples in _in_turn(_calls()).items()]
    for head_dim in FIRST_HEAD_DIMS:
        found += _first_calls(head_dim, first_rounds)
    return found


def _small(name: str, samples_us: tuple[float, ...]) -> Result:
    batch, seqlen, heads, head_dim = SHAPE
    engine, _, call = name.partition(": ")
    return Result(
        f"host {call or name}",
        KIND,
        engine,
        head_dim=head_dim,
        batch=batch,
        heads=heads,
        kv_heads=heads,
        seqlen_q=seqlen,
        seqlen_k=seqlen,
        samples_us=samples_us,
        method="host clock",
    )


def _calls() -> dict[str, Callable[[], Any]]:
    """Return the calls by "engine: what is called"."""
    import cupy

    from attnprobe.engine import attention, attention_paged, attention_varlen

    q, k, v = (normal(SHAPE, "float16", seed) for seed in range(3))
    q1, k1, v1 = (array[0] for array in (q, k, v))
    ends = cupy.asarray([0, 50, SHAPE[1]], dtype=np.int32)
    pages = SHAPE[1] // PAGE_SIZE
    k2, v2 = (array.reshape(pages, PAGE_SIZE, *SHAPE[2:]) for array in (k1, v1))
    table = cupy.arange(pages, dtype=np.int32)[None]
    one, used, out = q[:, :1], cupy.asarray([SHAPE[1] - 3], dtype=np.int32), cupy.empty_like(q)
    text = 'extern "C" __global__ void empty(void *a, void *b, void *c, void *d, int n) {}'
    empty, number = cupy.RawModule(code=text).get_function("empty"), np.int32(0)
    calls: dict[str, Callable[[], Any]] = {
        "attnprobe: attention": lambda: attention(q, k, v),
        "attnprobe: attention, causal": lambda: attention(q, k, v, causal=True),
        "attnprobe: attention, with LSE": lambda: attention(q, k, v, return_lse=True),
        "attnprobe: attention, out given": lambda: attention(q, k, v, out=out),
        "attnprobe: attention_varlen": lambda: attention_varlen(q1, k1, v1, ends, ends),
        "attnprobe: attention_paged, one query": lambda: attention_paged(one, k2, v2, table, used),
        "CuPy: bare launch, five arguments": lambda: empty((1,), (128,), (q, k, v, out, number)),
        "CuPy: empty of O": lambda: cupy.empty(SHAPE, np.float16),
    }
    if not LIBRARIES["torch"].missing():
        import torch

        tensors = [torch.from_dlpack(array).transpose(1, 2) for array in (q, k, v)]
        sdpa = torch.nn.functional.scaled_dot_product_attention
        calls["torch: scaled_dot_product_attention"] = lambda: sdpa(*tensors)
    return calls


def _in_turn(calls: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, ...]]:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(BATCHES):
        for name, call in calls.items():
            samples[name].append(_batch(call))
    return {name: tuple(taken) for name, taken in samples.items()}


def _batch(call: Callable[[], Any]) -> float:
    """Return microseconds per call of one batch."""
    import cupy

    for _ in range(WARM_UPS):
        call()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    spent = time.perf_counter() - start
    cupy.cuda.Device().synchronize()
    return spent / CALLS * 1e6


def _first_calls(head_dim: int, rounds: int) -> list[Result]:
    """Return the time of a process's first call, importing attnprobe and waiting included.

    Bytecode of attnprobe counts as compiled with the kernels: the cold call may have to make it,
    the warm one has it.
    """
    package = str(Path(__file__).resolve().parent.parent.parent)  # whichever copy this is
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    samples: dict[str, list[float]] = {COLD: [], WARM: []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            own = {"ATTNPROBE_CACHE_DIR": folder, "ATTNPROBE_CACHE": "1", "PYTHONPATH": path}
            own["CUDA_CACHE_PATH"] = str(Path(folder) / "cuda")  # NVRTC 13 keeps cubins as well
            own["PYTHONDONTWRITEBYTECODE"] = ""  # an installed package has its bytecode
            command = (sys.executable, "-W", "ignore", "-c", _FIRST_CALL)
            for taken in samples.values():
                done = subprocess.run(
                    [*command, ",".join(map(str, FIRST_SHAPE)), str(head_dim)],
                    env={**os.environ, **own},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                taken.append(1e6 * float(done.stdout))
    batch, seqlen, heads = FIRST_SHAPE
    return [
        Result(
            f"first call d{head_dim} causal, {state}",
            FIRST,
            "attnprobe",
            head_dim=head_dim,
            causal=True,
            batch=batch,
            heads=heads,
            kv_heads=heads,
            seqlen_q=seqlen,
            seqlen_k=seqlen,
            feature=state,
            samples_us=tuple(taken),
            method="host clock",
        )
        for state, taken in samples.items()
    ]
