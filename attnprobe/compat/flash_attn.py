"""The functions of flash-attn 2.8 with the same names and arguments, on any DLPack arrays.

    from attnprobe.compat.flash_attn import flash_attn_func

torch tensors come back as torch tensors, CuPy arrays as CuPy arrays; nothing here imports torch.
What differs: there is no dropout and no backward pass, every call is deterministic, and head_dim
may be larger than 256.

Source: flash-attn 2.8, ``flash_attn/flash_attn_interface.py``, for the signatures and what the
arguments mean.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from attnprobe.engine import attention, attention_paged, attention_varlen
from attnprobe.engine.arrays import Operand, library_of, take
from attnprobe.engine.checks import WIDTH_STEP
from attnprobe.errors import ProblemError

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_with_kvcache",
]

_OPEN = (-1, -1)


def flash_attn_func(
    q: Any,
    k: Any,
    v: Any,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = _OPEN,
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """Return O of padded sequences.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), float16 or bfloat16. A head_dim that is no multiple
        of 16 is padded in a copy.
    k, v : (batch, seqlen_k, num_kv_heads, head_dim).
    dropout_p : 0; nothing else is supported.
    softmax_scale, causal, window_size, softcap, alibi_slopes : as in ``attnprobe.attention``; a
        window with ``causal`` closes its right side, whatever was given.
    deterministic : taken and without meaning: every call is.
    return_attn_probs : return (O, LSE, None); LSE (batch, num_heads, seqlen_q), float32.

    Raises
    ------
    ProblemError
        For a dropout, and where ``attnprobe.attention`` does.
    """
    _refuse_dropout(dropout_p)
    arrays, width = _widened(q, k, v)
    result = attention(
        *arrays,
        softmax_scale=softmax_scale if width is None else _scale(softmax_scale, q),
        causal=causal,
        window_size=_window(window_size, causal),
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        return_lse=return_attn_probs,
    )
    return _results(result, return_attn_probs, width)


def flash_attn_qkvpacked_func(qkv: Any, *args: Any, **options: Any) -> Any:
    """Return ``flash_attn_func`` of qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], without a copy.

    ``qkv`` : (batch, seqlen, 3, num_heads, head_dim); the other arguments follow as there.
    """
    return flash_attn_func(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], *args, **options)


def flash_attn_kvpacked_func(q: Any, kv: Any, *args: Any, **options: Any) -> Any:
    """Return ``flash_attn_func`` of q, kv[:, :, 0], kv[:, :, 1], without a copy.

    ``kv`` : (batch, seqlen_k, 2, num_kv_heads, head_dim); the other arguments follow as there.
    """
    return flash_attn_func(q, kv[:, :, 0], kv[:, :, 1], *args, **options)


def flash_attn_varlen_func(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = _OPEN,
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Any = None,
) -> Any:
    """Return O of packed sequences.

    Parameters
    ----------
    q : (total_q, num_heads, head_dim).
    k, v : (total_k, num_kv_heads, head_dim); with ``block_table`` pages, (num_pages, page_size,
        num_kv_heads, head_dim), of which sequence b uses cu_seqlens_k[b + 1] - cu_seqlens_k[b]
        keys.
    cu_seqlens_q, cu_seqlens_k : (batch + 1,) int32.
    max_seqlen_q, max_seqlen_k : not needed here.
    block_table : (batch, max_pages) int32.
    others : as in ``flash_attn_func``; LSE is (num_heads, total_q).
    """
    _refuse_dropout(dropout_p)
    options: dict[str, Any] = {
        "softmax_scale": softmax_scale,
        "causal": causal,
        "window_size": _window(window_size, causal),
        "softcap": softcap,
        "alibi_slopes": alibi_slopes,
        "return_lse": return_attn_probs,
    }
    if block_table is not None:
        ends = take("cu_seqlens_k", cu_seqlens_k).array
        used = ends[1:] - ends[:-1]
        result = attention_paged(q, k, v, block_table, used, cu_seqlens_q=cu_seqlens_q, **options)
        return _results(result, return_attn_probs, None)
    arrays, width = _widened(q, k, v)
    if width is not None:
        options["softmax_scale"] = _scale(softmax_scale, q)
    result = attention_varlen(*arrays, cu_seqlens_q, cu_seqlens_k, **options)
    return _results(result, return_attn_probs, width)


def flash_attn_with_kvcache(
    q: Any,
    k_cache: Any,
    v_cache: Any,
    k: Any = None,
    v: Any = None,
    rotary_cos: Any = None,
    rotary_sin: Any = None,
    cache_seqlens: Any = None,
    cache_batch_idx: Any = None,
    cache_leftpad: Any = None,
    block_table: Any = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = _OPEN,
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Any = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:
    """Return O of queries against a cache, after writing k and v into it.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), head_dim a multiple of 16.
    k_cache, v_cache : (batch_cache, seqlen_cache, num_kv_heads, head_dim), or with ``block_table``
        pages (num_pages, page_size, num_kv_heads, head_dim) of any page_size; written in place.
    k, v : (batch, seqlen_new, num_kv_heads, head_dim), appended at ``cache_seqlens``.
    rotary_cos, rotary_sin : (positions, rotary_dim / 2).
    cache_seqlens : (batch,) int32, or one number for all; None: the whole cache is in use.
    cache_batch_idx : (batch,) int32: entry of the cache that each sequence uses; not with pages.
    cache_leftpad : (batch,) int32: where each sequence begins in the cache.
    block_table : (batch, max_pages) int32.
    num_splits : 0 lets the plan choose.
    return_softmax_lse : return (O, LSE); LSE (batch, num_heads, seqlen_q), float32.
    others : as in ``flash_attn_func``.
    """
    if block_table is not None and cache_batch_idx is not None:
        raise ProblemError("cache_batch_idx and block_table both say where a sequence's keys are")
    if cache_batch_idx is not None:
        # An entry of the cache is a page that holds a whole sequence.
        block_table = take("cache_batch_idx", cache_batch_idx).array[:, None]
    if cache_seqlens is None and (block_table is None or cache_batch_idx is not None):
        cache_seqlens = int(k_cache.shape[1])
    if isinstance(cache_seqlens, (int, np.integer)):
        cache_seqlens = np.full(int(q.shape[0]), cache_seqlens, np.int32)
    return attention_paged(
        q,
        k_cache,
        v_cache,
        block_table,
        cache_seqlens,
        k=k,
        v=v,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        rotary_interleaved=rotary_interleaved,
        cache_leftpad=cache_leftpad,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=_window(window_size, causal),
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        num_splits=num_splits or None,
        return_lse=return_softmax_lse,
    )


def _refuse_dropout(dropout_p: float) -> None:
    if dropout_p != 0.0:
        raise ProblemError(f"dropout_p is {dropout_p}; there is no dropout here: pass 0.0")


def _window(window_size: tuple[int, int], causal: bool) -> tuple[int, int]:
    """With ``causal`` flash-attn closes the right side, whatever was given."""
    left, right = window_size
    return (left, 0) if causal and right > 0 else (left, right)


def _scale(softmax_scale: float | None, q: Any) -> float:
    width = int(q.shape[-1])
    return 1.0 / math.sqrt(max(width, 1)) if softmax_scale is None else softmax_scale


def _widened(q: Any, k: Any, v: Any) -> tuple[tuple[Any, Any, Any], int | None]:
    """Return the arrays with head_dim a multiple of 16, and the width of O if it was cut."""
    if not (q.shape[-1] % WIDTH_STEP or k.shape[-1] % WIDTH_STEP or v.shape[-1] % WIDTH_STEP):
        return (q, k, v), None
    wide = [_padded(take("an array", array)) for array in (q, k, v)]
    return (wide[0], wide[1], wide[2]), int(v.shape[-1])


def _padded(operand: Operand) -> Operand:
    array = operand.array
    width = array.shape[-1]
    whole = -(-width // WIDTH_STEP) * WIDTH_STEP
    wide = library_of(operand).zeros((*array.shape[:-1], whole), array.dtype)
    wide[..., :width] = array
    return replace(operand, array=wide)


def _results(result: Any, with_lse: bool, width: int | None) -> Any:
    if not with_lse:
        return result if width is None else result[..., :width]
    O, lse = result
    return (O if width is None else O[..., :width]), lse, None
