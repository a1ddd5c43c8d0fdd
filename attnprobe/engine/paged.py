"""``attention_paged``: queries against a K/V cache, in pages or in one piece."""

from __future__ import annotations

from typing import Any

from attnprobe.engine.call import Call, perform
from attnprobe.engine.score_arguments import score_arrays, score_options
from attnprobe.errors import ProblemError


def attention_paged(
    q: Any,
    k_cache: Any,
    v_cache: Any,
    block_table: Any,
    cache_seqlens: Any,
    *,
    k: Any = None,
    v: Any = None,
    rotary_cos: Any = None,
    rotary_sin: Any = None,
    rotary_interleaved: bool = False,
    cache_leftpad: Any = None,
    cu_seqlens_q: Any = None,
    softmax_scale: Any = None,
    causal: bool = False,
    causal_alignment: str = "bottom-right",
    q_offset: int | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    bias: Any = None,
    mask: Any = None,
    sinks: Any = None,
    num_splits: int | None = None,
    k_descale: Any = None,
    v_descale: Any = None,
    kv_format: str | None = None,
    return_lse: bool = False,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Return O of queries that attend to a cache of keys and values.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), float16 or bfloat16; with ``cu_seqlens_q`` packed,
        (total_q, num_heads, head_dim).
    k_cache, v_cache : pages (num_pages, page_size, num_kv_heads, head_dim and v_head_dim), of q's
        dtype, e4m3 or int8; any page_size from 1. Where block_table is None: (batch, seqlen_cache,
        num_kv_heads, ...).
    block_table : (batch, max_pages) int32: entry i of a row is the page of its keys i * page_size
        and following. Entries of pages that hold no key in use may be anything. None: no pages.
    cache_seqlens : (batch,) int32: keys in use of each sequence. None: all.
    causal, causal_alignment : as in ``attention``; bottom-right aligns the last query with the last
        key in use, sequence by sequence.
    cache_leftpad : (batch,) int32: rows of the cache before key 0, without pages only.
    cu_seqlens_q : (batch + 1,) int32: where the queries of each sequence begin.
    num_splits, k_descale, v_descale, kv_format : as in ``attention``.
    softmax_scale, q_offset, window_size, softcap, alibi_slopes, bias, mask, sinks, return_lse, out,
    out_dtype : as in ``attention_varlen``.

    Returns
    -------
    O : (batch, seqlen_q, num_heads, v_head_dim), packed (total_q, num_heads, v_head_dim).
    LSE : (batch, num_heads, seqlen_q), packed (num_heads, total_q), float32. Only with
        ``return_lse``.

    Raises
    ------
    ProblemError, UnsupportedError, DeviceError, CompileError, EmulatorError
        As ``attention``.
    """
    if block_table is not None and cache_leftpad is not None:
        raise ProblemError("cache_leftpad goes with a cache in one piece: pass block_table=None")
    if block_table is not None and cache_seqlens is None:
        raise ProblemError("cache_seqlens is None; with pages the keys in use must be said")
    options = score_options(
        softmax_scale, causal, causal_alignment, q_offset, window_size, softcap, num_splits
    )
    extras = {
        **score_arrays(softmax_scale, alibi_slopes, bias, mask, sinks),
        "k_descale": k_descale,
        "v_descale": v_descale,
        "cu_seqlens_q": cu_seqlens_q,
        "seqused_k": cache_seqlens,
        "leftpad_k": cache_leftpad,
        "block_table": block_table,
    }
    call = Call(q, k_cache, v_cache, options, extras, out, out_dtype, kv_format)
    return perform(call).results(return_lse)
