"""``attention_varlen``: sequences of different lengths packed one after the other, no padding."""

from __future__ import annotations

from typing import Any

from attnprobe.engine import known
from attnprobe.engine.call import Call, perform
from attnprobe.engine.score_arguments import SCORE_FIELDS, score_arrays, score_options

_FIELDS = ("Q", "K", "V", *SCORE_FIELDS, "cu_seqlens_q", "cu_seqlens_k", "seqused_k", "O")


def attention_varlen(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    *,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    seqused_k: Any = None,
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
    return_lse: bool = False,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Return O of packed sequences; sequence b has the rows cu_seqlens[b] to cu_seqlens[b + 1] - 1.

    What a score is and which keys count is as in ``attention``, sequence by sequence, with query
    and key numbers that begin at 0 in each.

    Parameters
    ----------
    q : (total_q, num_heads, head_dim), float16 or bfloat16.
    k, v : (total_k, num_kv_heads, head_dim) and (total_k, num_kv_heads, v_head_dim), q's dtype.
    cu_seqlens_q, cu_seqlens_k : (batch + 1,) int32, from 0, never falling. On a GPU they are used
        as they are there, without a copy to the host; entries that point outside the arrays are cut
        to them.
    max_seqlen_q, max_seqlen_k : not needed: taken so that a call written for flash-attention runs.
    seqused_k : (batch,) int32, keys in use of each sequence; the memory behind them is not seen.
    bias, mask : broadcastable to (batch, num_heads, rows, keys), where rows and keys are those of
        the longest sequence; a query or key beyond has no bias, and is masked.
    num_splits : as in ``attention``; with a number given, the bits of a sequence's result do not
        depend on the sequences beside it.
    softmax_scale, causal, causal_alignment, q_offset, window_size, softcap, alibi_slopes, sinks,
    return_lse, out, out_dtype : as in ``attention``.

    Returns
    -------
    O : (total_q, num_heads, v_head_dim). Rows behind the last sequence are not written.
    LSE : (num_heads, total_q), float32. Only with ``return_lse``.

    Raises
    ------
    ProblemError, UnsupportedError, DeviceError, CompileError, EmulatorError
        As ``attention``.
    """
    # fmt: off
    others = (
        softmax_scale, alibi_slopes, bias, mask, sinks, cu_seqlens_q, cu_seqlens_k, seqused_k, out
    )
    options = (causal, causal_alignment, q_offset, window_size, softcap, num_splits, out_dtype)
    # fmt: on
    key, call, addresses = known.find("attention_varlen", q, k, v, others, options)
    if call is not None:
        result = call(addresses, out, return_lse)
        if result is not None:
            return result
    extras = {
        **score_arrays(softmax_scale, alibi_slopes, bias, mask, sinks),
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_k": cu_seqlens_k,
        "seqused_k": seqused_k,
    }
    scores = score_options(
        softmax_scale, causal, causal_alignment, q_offset, window_size, softcap, num_splits
    )
    done = perform(Call(q, k, v, scores, extras, out, out_dtype))
    known.remember(key, _FIELDS, (q, k, v, *others), done)
    return done.results(return_lse)
