"""flash-attn 2, 3 (``flash_attn_interface``) and 4 (``flash_attn.cute``), where installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense, not_found, version_of
from attnprobe.bench.engines.torch_sdpa import as_torch, torch_missing
from attnprobe.bench.inputs import Inputs


def _missing(module: str, package: str) -> str:
    return torch_missing() or not_found(module, package)


def _first(result: Any) -> Any:
    """Return O of what a version returns: O, or a tuple that begins with it."""
    return result[0] if isinstance(result, tuple | list) else result


def _make(module: str, table_name: str, inputs: Inputs) -> Call:
    """Return a call of ``flash_attn_func``, or of ``flash_attn_with_kvcache`` for a cache."""
    found = importlib.import_module(module)
    case = inputs.case
    q, k, v = (as_torch(array, case.dtype) for array in (inputs.q, inputs.k, inputs.v))
    cached = getattr(found, "flash_attn_with_kvcache", None)
    if case.kind == "decode" and cached is not None:
        more: dict[str, Any] = {"cache_seqlens": as_torch(inputs.used)}
        if inputs.table is not None:
            more[table_name] = as_torch(inputs.table)
        return lambda: cached(q, k, v, **more)
    return lambda: found.flash_attn_func(q, k, v, causal=case.causal)


def _refusal(page_step: int, dtypes: tuple[str, ...], case: Case) -> str:
    """Return why a version does not take ``case``.

    Its pages are multiples of ``page_step``; 0 where it has no ``flash_attn_with_kvcache``.
    """
    if case.layout == "paged" and case.kind == "decode" and not case.kv_format and page_step:
        fits = case.page_size % page_step == 0
        return "" if fits else f"pages of {page_step} keys are taken"
    if case.layout == "paged" and not page_step:
        return "its flash_attn_func takes no pages"
    return dense(case, dtypes)


def _engine(
    name: str,
    unit: str,
    module: str,
    packages: tuple[str, ...],
    table_name: str,
    page_step: int,
    dtypes: tuple[str, ...] = ("float16", "bfloat16"),
) -> Engine:
    missing: Callable[[], str] = partial(_missing, module, packages[0])
    versions: Callable[[], Mapping[str, str]] = partial(version_of, *packages)
    refusal: Callable[[Case], str] = partial(_refusal, page_step, dtypes)
    make: Callable[[Inputs], Call] = partial(_make, module, table_name)
    return Engine(name, "torch", unit, missing, versions, refusal, make, _first)


# Source: the signatures of flash-attn 2.8, of its hopper/ folder and of flash_attn/cute.
ENGINES: tuple[Engine, ...] = (
    _engine(
        "flash-attn 2",
        "mma.sync",
        "flash_attn.flash_attn_interface",  # flash_attn alone is there with version 4 as well
        ("flash-attn",),
        "block_table",
        256,
    ),
    _engine(
        "flash-attn 3",
        "",
        "flash_attn_interface",
        ("flash-attn-3", "flash_attn_3"),
        "page_table",
        1,
        ("float16", "bfloat16", "e4m3"),
    ),
    _engine(
        "flash-attn 4", "", "flash_attn.cute", ("flash-attn-4", "flash-attn-cute"), "page_table", 0
    ),
)
