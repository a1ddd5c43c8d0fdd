"""FlashInfer, where it is installed: its wrappers plan once and run many times.

Planning, which copies lengths to the host and back, is done when a call is made and not when it is
timed; what ``run`` launches can be captured. Its kernel for queries that share a K/V head is the
one of prefill, on the matrix units; on Hopper it takes the one written for that (``fa3``) in
prefill by itself.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense, not_found, version_of
from attnprobe.bench.engines.torch_sdpa import as_torch, torch_missing
from attnprobe.bench.inputs import Inputs

NAME = "FlashInfer"
_WORKSPACE_BYTES = 256 << 20
_CONTIGUOUS_PAGE = 16  # how a cache in one piece is told to a wrapper that knows pages alone


def _missing() -> str:
    return torch_missing() or not_found("flashinfer", "flashinfer-python")


def _refusal(case: Case) -> str:
    if case.layout == "paged" and case.kind == "decode" and not case.kv_format:
        return ""
    return dense(case)


def _make(inputs: Inputs) -> Call:
    return _decode(inputs) if inputs.case.kind == "decode" else _prefill(inputs)


@cache
def _workspace() -> Any:
    """Return the memory that all wrappers share: their calls follow each other in one stream."""
    import torch

    return torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")


def _prefill(inputs: Inputs) -> Call:
    """Return a call on sequences one after the other, which dense arrays are."""
    import flashinfer
    import torch

    case = inputs.case
    arrays = (as_torch(array) for array in (inputs.q, inputs.k, inputs.v))
    q, k, v = (array.reshape(-1, *array.shape[2:]) for array in arrays)
    ends = torch.arange(case.batch + 1, dtype=torch.int32, device="cuda")
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(_workspace(), "NHD")
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


def _decode(inputs: Inputs) -> Call:
    """Return a call on pages."""
    import flashinfer
    import torch

    case = inputs.case
    size = case.page_size or _CONTIGUOUS_PAGE
    pages = case.seqlen_k // size
    shape = (case.batch * pages, size, case.kv_heads, case.head_dim)
    k, v = (as_torch(array).reshape(shape) for array in (inputs.k, inputs.v))
    if inputs.table is None:
        indices = torch.arange(case.batch * pages, dtype=torch.int32, device="cuda")
    else:
        indices = as_torch(inputs.table).reshape(-1)
    ends = torch.arange(case.batch + 1, dtype=torch.int32, device="cuda") * pages
    full = torch.full((case.batch,), size, dtype=torch.int32, device="cuda")
    q = as_torch(inputs.q).reshape(case.batch, case.heads, case.head_dim)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        _workspace(), "NHD", use_tensor_cores=case.heads > case.kv_heads
    )
    sizes = (case.heads, case.kv_heads, case.head_dim, size)
    wrapper.plan(ends, indices, full, *sizes, q_data_type=q.dtype, kv_data_type=k.dtype)
    return lambda: wrapper.run(q, (k, v)).reshape(case.batch, 1, case.heads, case.head_dim)


def _versions() -> dict[str, str]:
    return version_of("flashinfer-python", "flashinfer")


# Source: FlashInfer's API reference, attention kernels.
ENGINES: tuple[Engine, ...] = (Engine(NAME, "torch", "", _missing, _versions, _refusal, _make),)
