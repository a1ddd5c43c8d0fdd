"""O and LSE of the attention kernels on hardware, kept as hashes, and computed again to the bit.

A record names the kernel text, the plan and the inputs by hashes, and its launches are kept beside
it whole: ``replay`` runs what ran then. Of the kernels as they are now a record says something only
where no hash has changed (``compare``, ``changed``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import program_words
from attnprobe.compile import Source
from attnprobe.engine import launch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import make_problem
from attnprobe.errors import UsageError
from attnprobe.numerics import recorded_launches
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import QKV, Sizes
from attnprobe.numerics.reference import Features

Array = npt.NDArray[Any]
Json = dict[str, Any]
Run = Callable[[Plan, Array, Array, Array], tuple[Array, Array]]

SAMPLE = 8  # elements of O and LSE that are kept as they are
LAUNCHES = "attention_launches.xz"  # beside the record
COMMAND = "python tools/record_arithmetic.py --only attention"

_CAUSAL = Features(causal=True)
Widths = tuple[tuple[int, str], ...]

ALL: Widths = tuple((width, dtype) for width in (64, 128, 256) for dtype in ("f16", "bf16"))
# What, sizes, features, fill, and widths. Every kernel text takes seconds to compile: those without
# a window and with a softcap run for some widths only.
# fmt: off
_KINDS: tuple[tuple[str, Sizes, Features, str, Widths], ...] = (
    ("causal", Sizes(130, 130), _CAUSAL, "outliers", ALL),
    ("window", Sizes(100, 150), Features(window_size=(40, 20)), "normal", ALL),
    ("four heads to two", Sizes(33, 70, 4, 2, batch=2), _CAUSAL, "normal", ALL),
    ("real layers", Sizes(96, 96, 3, 1), _CAUSAL, "real", ALL),
    ("large scale", Sizes(64, 100), Features(1.0, True), "outliers", ALL),
    ("decode", Sizes(1, 130, 8, 2), _CAUSAL, "normal", ALL),
    ("plain", Sizes(96, 130), Features(), "normal", ((64, "f16"), (128, "bf16"), (256, "f16"))),
    ("softcap", Sizes(70, 90), Features(None, True, softcap=20.0), "outliers",
     ((64, "bf16"), (128, "f16"), (256, "bf16"))),
    ("negative scale", Sizes(64, 70), Features(softmax_scale=-0.1), "normal", ((64, "f16"),)),
)
# fmt: on


@dataclass(frozen=True)
class Changed:
    """Why a record says nothing about the present kernel."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} changed since the recording; record again on the GPU: {COMMAND}"


def cases() -> dict[str, tuple[Case, str]]:
    """Return name -> (case, fill) of all cases that are recorded."""
    found = {}
    for what, sizes, features, fill, widths in _KINDS:
        for head_dim, dtype in widths:
            name = f"{what}, head_dim {head_dim}, {dtype}"
            found[name] = (Case(name, replace(sizes, head_dim=head_dim), dtype, features), fill)
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


def launch_of(name: str) -> Json:
    """Return the launch that the present plan of a case makes, whole."""
    q, k, v = inputs(name)
    plan = plan_of(name, q, k, v)
    arrays = {"Q": q, "K": k, "V": v, "O": np.empty_like(q), "LSE": launch.empty_lse(plan, q)}
    return recorded_launches.describe(plan, arrays)


def changed(name: str, recorded: Json, launched: Json) -> tuple[str, ...]:
    """Return what is not what was recorded any more: of "kernel", "inputs" and "plan"."""
    q, k, v = inputs(name)
    identity = _identity(plan_of(name, q, k, v), (q, k, v))
    found = [what for what in ("kernel", "inputs") if recorded[what] != identity[what]]
    if not recorded_launches.same_plan(launched, launch_of(name)):
        found.append("plan")
    return tuple(found)


def replay(name: str, recorded: Json, launched: Json) -> str:
    """Return "" if the launch of the record gives its very bits on the emulator, else what differs.

    Raises
    ------
    UsageError
        If the launch or the inputs are not those of the record.
    """
    q, k, v = inputs(name)
    words = _words(recorded_launches.source_of(launched))
    for what, value in {"kernel": words, "inputs": _data((q, k, v))}.items():
        if recorded[what] != value:
            raise UsageError(f"{name}: {Changed(what)}")
    return _differences(name, recorded, recorded_launches.replay(launched, q, k, v))


def _words(source: Source) -> str:
    return hashlib.sha256(program_words(source).encode()).hexdigest()[:16]


def _data(arrays: QKV) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def _identity(plan: Plan, arrays: QKV) -> Json:
    described = repr((plan.variant.entry, plan.grid, plan.block, plan.shared_bytes))
    known = plan.fields().items()
    fields = repr(sorted(each for each in known if each[0] != recorded_launches.DRAWN))
    launched = hashlib.sha256((described + fields).encode()).hexdigest()[:16]
    return {"kernel": _words(plan.source()), "plan": launched, "inputs": _data(arrays)}


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
    return _differences(name, recorded, run(plan, q, k, v))


def _differences(name: str, recorded: Json, results: tuple[Array, Array]) -> str:
    o, lse = results
    found = {"O": _result(o), "LSE": _result(lse)}
    return "; ".join(
        f"{name}: {what} begins {result['sample']}, recorded {recorded[what]['sample']}"
        for what, result in found.items()
        if result["hash"] != recorded[what]["hash"]
    )
