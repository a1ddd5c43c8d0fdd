"""attnprobe itself: as a caller gets it, and with the mma.sync kernel whatever the plan takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine
from attnprobe.bench.features import FEATURES
from attnprobe.bench.inputs import Inputs
from attnprobe.bench.problems import problem_of
from attnprobe.engine.plan import Plan, make_plan, on_kernel, plans_changed
from attnprobe.engine.variants import MMA_ENTRY
from attnprobe.errors import ProblemError, UnsupportedError

NAME, MMA_NAME = "attnprobe", "attnprobe mma.sync"


def plan_of(case: Case, *, mma: bool = False) -> Plan:
    """Return the plan of a case on the current device.

    Raises
    ------
    ProblemError, UnsupportedError
        For a case that attention does not take.
    """
    import cupy

    from attnprobe.engine.launch import gpu_arch

    plan = make_plan(problem_of(case), gpu_arch(int(cupy.cuda.Device().id)))
    return on_kernel(MMA_ENTRY, plan) if mma else plan


def _missing() -> str:
    from attnprobe.backends.gpu import usable

    return usable()


def _versions() -> Mapping[str, str]:
    from attnprobe import __version__

    return {"attnprobe": __version__}


def _refusal(case: Case) -> str:
    try:
        plan_of(case)
    except (ProblemError, UnsupportedError) as error:
        return str(error)
    return ""


def _mma_refusal(case: Case) -> str:
    if case.kind != "prefill":
        return "for prefill alone"
    try:
        if plan_of(case).variant.entry == MMA_ENTRY:
            return f"what {NAME} takes here by itself"
        plan_of(case, mma=True)
    except (ProblemError, UnsupportedError) as error:
        return str(error)
    return ""


def call_of(inputs: Inputs) -> Call:
    """Return the call of a case."""
    from attnprobe.engine import attention, attention_paged, attention_varlen

    case, q, k, v = inputs.case, inputs.q, inputs.k, inputs.v
    given: dict[str, Any] = {"causal": case.causal}
    if case.feature:
        row = FEATURES[case.feature]
        given |= dict(row.options) | {name: make(inputs) for name, make in row.arrays}
    if case.kv_format:
        given |= {"kv_format": case.kv_format}
        given |= {"k_descale": inputs.descale, "v_descale": inputs.descale}
    if case.dtype == "e4m3":  # CuPy holds it as bytes; O is of another dtype
        given["kv_format"] = case.dtype
    elif "out_dtype" not in given:
        given["out"] = inputs.xp.empty_like(q)
    if case.layout == "packed":
        ends = inputs.xp.arange(0, case.batch * case.seqlen_q + 1, case.seqlen_q, dtype="int32")
        q, k, v = (array.reshape(-1, *array.shape[2:]) for array in (q, k, v))
        if "out" in given:
            given["out"] = given["out"].reshape(q.shape)
        return lambda: attention_varlen(q, k, v, ends, ends, **given)
    if case.layout == "paged":
        return lambda: attention_paged(q, k, v, inputs.table, inputs.used, **given)
    return lambda: attention(q, k, v, **given)


def o_of(result: Any) -> Any:
    """Return O with a batch axis."""
    O = result[0] if isinstance(result, tuple) else result
    return O if O.ndim == 4 else O[None]


def _on_mma(inputs: Inputs) -> Call:
    call = call_of(inputs)

    def run() -> Any:
        with plans_changed(partial(on_kernel, MMA_ENTRY)):
            return call()

    return run


ENGINES: tuple[Engine, ...] = (
    Engine(NAME, "cupy", "", _missing, _versions, _refusal, call_of, o_of),
    Engine(MMA_NAME, "cupy", "mma.sync", _missing, _versions, _mma_refusal, _on_mma, o_of),
)
