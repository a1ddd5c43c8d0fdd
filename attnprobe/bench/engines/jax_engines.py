"""Engines that JAX calls: they run in streams of its own, so the host's clock times them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense, not_found, version_of
from attnprobe.bench.inputs import Inputs

CUDNN, FLASH_3 = "JAX cuDNN", "flash-attn 3 in JAX"

Attend = Callable[[Any, Any, Any, bool], Any]  # q, k, v, whether causal -> O


def _missing(module: str, package: str) -> str:
    # Its allocator would take most of the device's memory from everybody else.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    reason = not_found("jax", "jax") or not_found(module, package)
    if reason:
        return reason
    import jax

    try:
        jax.devices("gpu")
    except RuntimeError as error:
        return f"jax sees no GPU: {str(error).splitlines()[0]}"
    return ""


def _refusal(case: Case) -> str:
    if case.kind != "prefill":
        return "its dispatch takes longer than such a call"
    return dense(case)


def _make(attend: Attend, inputs: Inputs) -> Call:
    import jax

    q, k, v = (jax.dlpack.from_dlpack(array) for array in (inputs.q, inputs.k, inputs.v))
    causal = inputs.case.causal
    compiled = jax.jit(lambda q, k, v: attend(q, k, v, causal)).lower(q, k, v).compile()
    return lambda: compiled(q, k, v)


def _cudnn(q: Any, k: Any, v: Any, causal: bool) -> Any:
    import jax

    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")


def _flash_3(q: Any, k: Any, v: Any, causal: bool) -> Any:
    """Source: README of flash-attn3-jax, "flash_mha"."""
    from flash_attn3_jax import flash_mha

    return flash_mha(q, k, v, is_causal=causal)


def _engine(name: str, module: str, packages: tuple[str, ...], attend: Attend) -> Engine:
    missing: Callable[[], str] = partial(_missing, module, packages[0])
    versions: Callable[[], dict[str, str]] = partial(_versions, packages)
    make: Callable[[Inputs], Call] = partial(_make, attend)
    return Engine(name, "jax", "", missing, versions, _refusal, make)


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: number for each in packages for name, number in version_of(each).items()}


ENGINES: tuple[Engine, ...] = (
    _engine(CUDNN, "jax", ("jax",), _cudnn),
    _engine(FLASH_3, "flash_attn3_jax", ("flash-attn3-jax", "jax"), _flash_3),
)
