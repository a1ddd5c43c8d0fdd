"""torch's SDPA, pinned to one backend, with the LSE that it keeps to itself.

The public call gives O alone. The operators below it give LSE as well, so where no mask is passed
the backend's own operator is called a second time, for LSE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

# (q, k, v, is_causal, scale) -> LSE, (batch, heads, at least seqlen_q, ...) of torch's operator.
LseOf = Callable[[Any, Any, Any, bool, float | None], Any]


def _flash_lse(q: Any, k: Any, v: Any, is_causal: bool, scale: float | None) -> Any:
    import torch

    call = torch.ops.aten._scaled_dot_product_flash_attention
    return call(q, k, v, 0.0, is_causal, False, scale=scale)[1]


def _cudnn_lse(q: Any, k: Any, v: Any, is_causal: bool, scale: float | None) -> Any:
    import torch

    call = torch.ops.aten._scaled_dot_product_cudnn_attention
    return call(q, k, v, None, True, 0.0, is_causal, False, scale=scale)[1]


def _efficient_lse(q: Any, k: Any, v: Any, is_causal: bool, scale: float | None) -> Any:
    import torch

    call = torch.ops.aten._scaled_dot_product_efficient_attention
    return call(q, k, v, None, True, 0.0, is_causal, scale=scale)[1]


@dataclass(frozen=True)
class Backend:
    """One backend of SDPA.

    Attributes
    ----------
    member : its name in ``torch.nn.attention.SDPBackend``.
    lse : how its LSE is asked for; None where it has none.
    width_step : what head_dim must be a multiple of in the operator; the public call pads.
    """

    member: str
    lse: LseOf | None = None
    width_step: int = 8

    def pinned(self) -> AbstractContextManager[Any]:
        """Return the context in which torch may use this backend and no other."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        context: AbstractContextManager[Any] = sdpa_kernel(getattr(SDPBackend, self.member))
        return context

    def load(self) -> Mapping[str, Callable[..., Any]]:
        """Return the callable."""
        import torch

        sdpa = torch.nn.functional.scaled_dot_product_attention

        def attention(
            q: Any,
            k: Any,
            v: Any,
            *,
            attn_mask: Any = None,
            is_causal: bool = False,
            scale: float | None = None,
            enable_gqa: bool = False,
            return_lse: bool = False,
        ) -> Any:
            O = sdpa(
                q,
                k,
                v,
                attn_mask=attn_mask,
                is_causal=is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
            plain = attn_mask is None and q.shape[-1] == v.shape[-1]
            if not return_lse or self.lse is None or not plain or q.shape[-1] % self.width_step:
                return O, None
            if enable_gqa:
                many = q.shape[1] // k.shape[1]
                k, v = (array.repeat_interleave(many, dim=1) for array in (k, v))
            LSE = self.lse(q, k, v, is_causal, scale)
            # (batch, heads, seqlen_q), or padded to whole tiles, or with an axis of one more.
            return O, LSE.reshape(*LSE.shape[:2], -1)[..., : q.shape[2]]

        return {"attention": attention}


FLASH = Backend("FLASH_ATTENTION", _flash_lse)
CUDNN = Backend("CUDNN_ATTENTION", _cudnn_lse)
EFFICIENT = Backend("EFFICIENT_ATTENTION", _efficient_lse)
MATH = Backend("MATH")
