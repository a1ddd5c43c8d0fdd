"""What is timed: attnprobe and its peers, each a function from inputs to a call that runs once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case

Call = Callable[[], Any]


def attnprobe_call(case: Case, q: Any, k: Any, v: Any) -> Call:
    """attnprobe.attention on CuPy arrays, O allocated beforehand."""
    import cupy

    import attnprobe

    out = cupy.empty_like(q)
    return lambda: attnprobe.attention(q, k, v, causal=case.causal, out=out)


def _sdpa_call(backend: str) -> Callable[[Case, Any, Any, Any], Call]:
    def build(case: Case, q: Any, k: Any, v: Any) -> Call:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        q, k, v = (torch.from_dlpack(array).transpose(1, 2) for array in (q, k, v))

        def call() -> Any:
            with sdpa_kernel(getattr(SDPBackend, backend)):
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, is_causal=case.causal
                )

        return call

    return build


ENGINES: dict[str, Callable[[Case, Any, Any, Any], Call]] = {
    "attnprobe": attnprobe_call,
    "torch SDPA flash (FlashAttention-2)": _sdpa_call("FLASH_ATTENTION"),
    "torch SDPA cuDNN": _sdpa_call("CUDNN_ATTENTION"),
}
