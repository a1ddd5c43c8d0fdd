"""FlashInfer, where it is installed: its wrappers, which plan once and run many times, and XQA.

Planning, which copies lengths to the host and back, is done when a call is made and not when it is
timed; what ``run`` launches can be captured. Its kernel for queries that share a K/V head is the
one of prefill, on the matrix units; on Hopper it takes the one written for that (``fa3``) in
prefill by itself. XQA is its other kernel for decode, which needs no plan and knows some sizes of
pages alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from math import gcd
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense, not_found, version_of
from attnprobe.bench.engines.torch_sdpa import as_torch, torch_missing
from attnprobe.bench.inputs import Inputs

NAME, XQA_NAME = "FlashInfer", "FlashInfer XQA"
_WORKSPACE_BYTES = 256 << 20
# A cache in one piece is told as pages of so many keys, since both know pages alone; on an H200 the
# wrapper is up to 4 % faster so, in small cases, than with pages of 16.
_LARGEST_PAGE = 256
_XQA_PAGE = 16
_XQA_PAGES = (16, 32, 64, 128)


def _missing() -> str:
    return torch_missing() or not_found("flashinfer", "flashinfer-python")


def _refusal(case: Case) -> str:
    if case.kind != "decode":
        return dense(case)
    return "takes no int8 cache" if case.kv_format == "int8" else ""


def _make(inputs: Inputs) -> Call:
    return _decode(inputs) if inputs.case.kind == "decode" else _prefill(inputs)


def _xqa_refusal(case: Case) -> str:
    if case.kind != "decode":
        return "takes decode alone"
    if case.kv_format:
        rounds = " without rounding Q to e4m3" if case.kv_format == "e4m3" else ""
        return f"takes no {case.kv_format} cache{rounds}"
    fits = (case.page_size or _XQA_PAGE) in _XQA_PAGES
    return "" if fits else f"pages of {', '.join(map(str, _XQA_PAGES))} keys are taken"


@cache
def _workspace(name: str) -> Any:
    """Return the memory that all calls of an engine share: they follow each other in one stream.

    It is zero at first: XQA counts in it, and leaves it so.
    """
    import torch

    return torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")


def _prefill(inputs: Inputs) -> Call:
    """Return a call on sequences one after the other, which dense arrays are."""
    import flashinfer
    import torch

    case = inputs.case
    arrays = (as_torch(array) for array in (inputs.q, inputs.k, inputs.v))
    q, k, v = (array.reshape(-1, *array.shape[2:]) for array in arrays)
    ends = torch.arange(case.batch + 1, dtype=torch.int32, device="cuda")
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(_workspace(NAME), "NHD")
    wrapper.plan(
        ends * case.seqlen_q,
        ends * case.seqlen_k,
        case.heads,
        case.kv_heads,
        case.head_dim,
        causal=case.causal,
        q_data_type=q.dtype,
        kv_data_type=k.dtype,
    )
    shape = (case.batch, case.seqlen_q, case.heads, case.head_dim)
    return lambda: wrapper.run(q, k, v).reshape(shape)


@dataclass(frozen=True)
class _Pages:
    """K and V of a case as pages, (num_pages, page_size, kv_heads, head_dim).

    ``table`` is (batch, pages of a sequence), int32.
    """

    k: Any
    v: Any
    table: Any

    @classmethod
    def of(cls, inputs: Inputs, largest: int) -> _Pages:
        """Return the pages; for a cache in one piece those of ``largest`` keys that are the same.

        Where that does not divide its length they are as large as they can be.
        """
        import torch

        case = inputs.case
        size = case.page_size or gcd(case.seqlen_k, largest)
        count = case.seqlen_k // size
        shape = (case.batch * count, size, case.kv_heads, case.head_dim)
        k, v = (as_torch(array, case.kv_format).reshape(shape) for array in (inputs.k, inputs.v))
        if inputs.table is not None:
            return cls(k, v, as_torch(inputs.table))
        numbers = torch.arange(case.batch * count, dtype=torch.int32, device="cuda")
        return cls(k, v, numbers.reshape(case.batch, count))


def _decode(inputs: Inputs) -> Call:
    """Return a call on pages."""
    import flashinfer
    import torch

    case, pages = inputs.case, _Pages.of(inputs, _LARGEST_PAGE)
    size, count = pages.k.shape[1], pages.table.shape[1]
    ends = torch.arange(case.batch + 1, dtype=torch.int32, device="cuda") * count
    full = torch.full((case.batch,), size, dtype=torch.int32, device="cuda")
    q = as_torch(inputs.q).reshape(case.batch, case.heads, case.head_dim)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        _workspace(NAME), "NHD", use_tensor_cores=case.heads > case.kv_heads
    )
    sizes = (case.heads, case.kv_heads, case.head_dim, size)
    types = {"q_data_type": q.dtype, "kv_data_type": pages.k.dtype}
    wrapper.plan(ends, pages.table.reshape(-1), full, *sizes, **types)
    shape = (case.batch, 1, case.heads, case.head_dim)
    return lambda: wrapper.run(q, (pages.k, pages.v)).reshape(shape)


def _xqa(inputs: Inputs) -> Call:
    """Return a call of XQA; ``bmm1_scale`` is softmax's."""
    from flashinfer.decode import trtllm_batch_decode_with_kv_cache

    case, pages = inputs.case, _Pages.of(inputs, _XQA_PAGE)
    q = as_torch(inputs.q).reshape(case.batch, case.heads, case.head_dim)
    call = partial(
        trtllm_batch_decode_with_kv_cache,
        q,
        (pages.k, pages.v),
        _workspace(XQA_NAME),
        pages.table,
        as_torch(inputs.used),
        case.seqlen_k,
        bmm1_scale=case.head_dim**-0.5,
        bmm2_scale=1.0,
        kv_layout="NHD",
        backend="xqa",
    )
    shape = (case.batch, 1, case.heads, case.head_dim)
    return lambda: call().reshape(shape)


def _versions() -> dict[str, str]:
    return version_of("flashinfer-python", "flashinfer")


# Source: FlashInfer's API reference, attention kernels.
ENGINES: tuple[Engine, ...] = (
    Engine(NAME, "torch", "", _missing, _versions, _refusal, _make),
    Engine(XQA_NAME, "torch", "mma.sync", _missing, _versions, _xqa_refusal, _xqa),
)
