"""O and LSE of the attention kernels on hardware, kept as hashes, and computed again to the bit.

A record names the kernel text, the plan and the inputs by hashes: where one of them has changed,
the record says nothing, and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import program_words
from attnprobe.engine import launch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import make_problem
from attnprobe.errors import UsageError
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import QKV, Sizes
from attnprobe.numerics.reference import Features

Array = npt.NDArray[Any]
Json = dict[str, Any]
Run = Callable[[Plan, Array, Array, Array], tuple[Array, Array]]

SAMPLE = 8  # elements of O and LSE that are kept as they are
COMMAND = "python tools/record_arithmetic.py --only attention"

_CAUSAL = Features(causal=True)
# what, sizes (queries, keys, heads, K/V heads, batch), features, fill
_KINDS: tuple[tuple[str, tuple[int, int, int, int, int], Features, str], ...] = (
    ("plain", (96, 130, 1, 1, 1), Features(), "normal"),
    ("causal", (130, 130, 1, 1, 1), _CAUSAL, "outliers"),
    ("window", (100, 150, 1, 1, 1), Features(window_size=(40, 20)), "normal"),
    ("softcap", (70, 90, 1, 1, 1), Features(None, True, softcap=20.0), "outliers"),
    ("four heads to two", (33, 70, 4, 2, 2), _CAUSAL, "normal"),
    ("real layers", (96, 96, 3, 1, 1), _CAUSAL, "real"),
    ("large scale", (64, 100, 1, 1, 1), Features(softmax_scale=1.0), "outliers"),
    ("negative scale", (64, 70, 1, 1, 1), Features(softmax_scale=-0.1), "normal"),
)


@dataclass(frozen=True)
class Changed:
    """Why a record says nothing about the present kernel."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} changed since the recording; record again on the GPU: {COMMAND}"


def cases() -> dict[str, tuple[Case, str]]:
    """Return name -> (case, fill) of all cases that are recorded."""
    found = {}
    for head_dim in (64, 128, 256):
        for dtype in ("f16", "bf16"):
            for what, (m, n, heads, kv_heads, batch), features, fill in _KINDS:
                sizes = Sizes(m, n, heads, kv_heads, head_dim, batch)
                name = f"{what}, head_dim {head_dim}, {dtype}"
                found[name] = (Case(name, sizes, dtype, features), fill)
    return found


def inputs(name: str) -> QKV:
    """Return q, k, v of a case."""
    case, fill = cases()[name]
    return case.inputs(fill, seed=1)


def plan_of(name: str, q: Array, k: Array, v: Array) -> Plan:
    """Return the plan that the recorded chip runs."""
    case, _ = cases()[name]
    query, key, value = (
        take(name, array).spec(name) for name, array in zip("qkv", (q, k, v), strict=True)
    )
    problem = make_problem(query, key, value, None, **case.features.arguments())
    return make_plan(problem, launch.emulated_arch())


def on_emulator(plan: Plan, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Return O and LSE with the bits that the hardware would give."""
    o, lse = np.empty_like(q), launch.empty_lse(plan, q)
    launch.run_emulator(plan, q, k, v, o, lse, checked=False, mma="exact")
    return o, lse


def on_gpu(plan: Plan, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Return O and LSE of the current CUDA device."""
    import cupy

    queries, keys, values = (cupy.asarray(array) for array in (q, k, v))
    o, lse = cupy.empty_like(queries), launch.empty_lse(plan, queries)
    launch.run_gpu(plan, queries, keys, values, o, lse)
    return cupy.asnumpy(o), cupy.asnumpy(lse)


def record(name: str, run: Run) -> tuple[Json, tuple[Array, Array]]:
    """Return the record of one case (what was run, hashes and samples of what came), and O, LSE."""
    q, k, v = inputs(name)
    plan = plan_of(name, q, k, v)
    o, lse = run(plan, q, k, v)
    found = {**_identity(plan, (q, k, v)), "O": _result(o), "LSE": _result(lse)}
    return found, (o, lse)


def _identity(plan: Plan, arrays: QKV) -> Json:
    words = hashlib.sha256(program_words(plan.source()).encode()).hexdigest()[:16]
    described = repr((plan.variant.entry, plan.grid, plan.block, plan.shared_bytes))
    fields = repr(sorted(plan.fields().items()))
    data = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]
    launched = hashlib.sha256((described + fields).encode()).hexdigest()[:16]
    return {"kernel": words, "plan": launched, "inputs": data}


def _result(array: Array) -> Json:
    raw = np.ascontiguousarray(array)
    bits = raw.view(np.dtype(f"u{raw.dtype.itemsize}"))
    sample = [f"{value:x}" for value in bits.ravel()[:SAMPLE].tolist()]
    return {"hash": hashlib.sha256(bits.tobytes()).hexdigest()[:16], "sample": sample}


def compare(name: str, recorded: Json, run: Run = on_emulator) -> str:
    """Return "" if ``run`` gives the very bits that are recorded, else what is not the same.

    Raises
    ------
    UsageError
        If kernel text, plan or inputs are not those of the record.
    """
    q, k, v = inputs(name)
    plan = plan_of(name, q, k, v)
    for what, value in _identity(plan, (q, k, v)).items():
        if recorded[what] != value:
            raise UsageError(f"{name}: {Changed(what)}")
    o, lse = run(plan, q, k, v)
    found = {"O": _result(o), "LSE": _result(lse)}
    return "; ".join(
        f"{name}: {what} begins {result['sample']}, recorded {recorded[what]['sample']}"
        for what, result in found.items()
        if result["hash"] != recorded[what]["hash"]
    )
