"""JAX's dot_product_attention on cuDNN. It has streams of its own: the host's clock times it."""

from __future__ import annotations

import os
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense, not_found, version_of
from attnprobe.bench.inputs import Inputs

NAME = "JAX cuDNN"


def _missing() -> str:
    reason = not_found("jax", "jax")
    if reason:
        return reason
    # Its allocator would take most of the device's memory from everybody else.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    try:
        jax.devices("gpu")
    except RuntimeError as error:
        return f"jax sees no GPU: {str(error).splitlines()[0]}"
    return ""


def _versions() -> dict[str, str]:
    return version_of("jax")


def _refusal(case: Case) -> str:
    if case.kind != "prefill":
        return "its dispatch takes longer than such a call"
    return dense(case)


def _make(inputs: Inputs) -> Call:
    import jax

    q, k, v = (jax.dlpack.from_dlpack(array) for array in (inputs.q, inputs.k, inputs.v))
    causal = inputs.case.causal

    def attend(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")

    compiled = jax.jit(attend).lower(q, k, v).compile()
    return lambda: compiled(q, k, v)


ENGINES: tuple[Engine, ...] = (Engine(NAME, "jax", "", _missing, _versions, _refusal, _make),)
