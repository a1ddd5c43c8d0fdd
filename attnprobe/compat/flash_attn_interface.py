"""``flash_attn_func`` of flash-attn 3 with the same name and arguments, on any DLPack arrays.

    from attnprobe.compat.flash_attn_interface import flash_attn_func

This is the interface that takes Q, K and V of e4m3, with ``q_descale``, ``k_descale`` and
``v_descale``. What differs from ``flash_attn_interface``: there is no backward pass, every call is
deterministic, and ``qv`` and ``attention_chunk`` are not supported.

Source: flash-attn 3, ``hopper/flash_attn_interface.py``, for the signature and what the arguments
mean.
"""

from __future__ import annotations

from typing import Any

from attnprobe.engine import attention
from attnprobe.errors import ProblemError

__all__ = ["flash_attn_func"]


def flash_attn_func(
    q: Any,
    k: Any,
    v: Any,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: Any = None,
    q_descale: Any = None,
    k_descale: Any = None,
    v_descale: Any = None,
    window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Any:
    """Return O of padded sequences, or (O, LSE).

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim): float16, bfloat16 or e4m3; of e4m3 O is bfloat16.
    k, v : (batch, seqlen_k, num_kv_heads, head_dim).
    q_descale, k_descale, v_descale : (batch, num_kv_heads): what e4m3 is multiplied by.
    softmax_scale, causal, window_size, softcap : as in ``attnprobe.attention``; a window with
        ``causal`` closes its right side, whatever was given.
    num_splits : 1, or 0 where the plan chooses.
    qv, attention_chunk : None and 0; nothing else is supported.
    pack_gqa, deterministic, sm_margin : taken and without meaning.
    return_attn_probs : return (O, LSE); LSE (batch, num_heads, seqlen_q), float32.

    Raises
    ------
    ProblemError
        For what is not supported, and where ``attnprobe.attention`` does.
    """
    if qv is not None:
        raise ProblemError("qv is given, which is not supported: concatenate it to q and k")
    if attention_chunk:
        raise ProblemError(f"attention_chunk is {attention_chunk}; it is not supported: pass 0")
    left, right = window_size
    return attention(
        q,
        k,
        v,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=(left, 0 if causal and right > 0 else right),
        softcap=softcap,
        num_splits=num_splits or None,
        q_descale=q_descale,
        k_descale=k_descale,
        v_descale=v_descale,
        return_lse=return_attn_probs,
    )
