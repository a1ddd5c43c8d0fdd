"""``attention``: the public call."""

from __future__ import annotations

from typing import Any

from attnprobe.engine import known
from attnprobe.engine.call import Call, perform
from attnprobe.engine.score_arguments import SCORE_FIELDS, score_arrays, score_options

_FIELDS = ("Q", "K", "V", *SCORE_FIELDS, "q_descale", "k_descale", "v_descale", "O")


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
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
    return_lse: bool = False,
    out: Any = None,
    out_dtype: Any = None,
    num_splits: int | None = None,
    q_descale: Any = None,
    k_descale: Any = None,
    v_descale: Any = None,
    kv_format: str | None = None,
) -> Any:
    """Return O = softmax(mask(softmax_scale * Q K^T)) V, head by head.

    CuPy arrays run on their GPU, on the current stream (torch tensors on torch's); NumPy arrays run
    on the emulator, which executes the same kernel text. Any object with ``__dlpack__`` or
    ``__cuda_array_interface__`` is taken without a copy; the result is returned in q's kind.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), float16 or bfloat16, or e4m3 where k and v are e4m3
        (on Hopper, up to head_dim 256); head_dim a multiple of 16 up to 576.
    k : (batch, seqlen_k, num_kv_heads, head_dim), q's dtype, or e4m3 or int8; num_kv_heads divides
        num_heads, and query head h reads K/V head ``h // (num_heads // num_kv_heads)``.
    v : (batch, seqlen_k, num_kv_heads, v_head_dim), k's dtype; v_head_dim a multiple of 16 up to
        256, or of 32 up to 512. Any strides with head_dim contiguous in q, k and v; rows that start
        at multiples of 16 bytes are faster.
    softmax_scale : factor of Q K^T; 1/sqrt(head_dim) by default. A number, or (num_heads,) numbers.
    causal : query i sees the keys j <= i + d, where d is the key that query 0 is aligned with.
    causal_alignment : "bottom-right", d = seqlen_k - seqlen_q: the last query sees the last key;
        or "top-left", d = 0.
    q_offset : d itself, for a chunk of queries that starts at this position.
    window_size : (left, right), both inclusive, -1 = open: query i sees the keys from i + d - left
        to i + d + right.
    softcap : where > 0, scores become softcap * tanh(score / softcap), before what follows.
    alibi_slopes : (num_heads,) or (batch, num_heads): -slope * abs(i + d - j) is added to scores.
    bias : added to scores; q's dtype or float32, broadcastable to (batch, num_heads, seqlen_q,
        seqlen_k). -inf hides a key.
    mask : bool, True = may attend; broadcastable likewise.
    sinks : (num_heads,) logits that join the sum of the softmax and carry no value.
    return_lse : return (O, LSE).
    out : array to write O to, of O's shape and dtype; it may share no memory with q, k or v.
    out_dtype : float16, bfloat16 or float32 (a dtype or its name); by default out's, else q's, and
        bfloat16 of e4m3.
    num_splits : parts into which the keys of a few queries are split, computed side by side and
        combined; None chooses by the size of the GPU. With a number given, the bits of a sequence's
        result do not depend on the batch that it is in.
    q_descale, k_descale, v_descale : a number, (num_kv_heads,) or (batch, num_kv_heads): what 8-bit
        Q (of all heads that share a K/V head), K and V are multiplied by; 1 by default. With q of
        e4m3, those of q and k are positive.
    kv_format : "e4m3" or "int8" where k and v are plain bytes of it, and q with them if it has 8
        bits.

    Returns
    -------
    O : (batch, seqlen_q, num_heads, v_head_dim), of out_dtype. A query that sees no key gives 0.
    LSE : (batch, num_heads, seqlen_q), float32: natural logarithm of the sum of exp(score), the
        sink's among them; -inf for a query that sees no key and no sink. Only with ``return_lse``.

    A NaN or infinity in an input stays in the rows that see it and reaches no other.

    Raises
    ------
    ProblemError
        For arrays or arguments that are not supported, before anything is compiled.
    UnsupportedError
        Where no kernel serves these widths on this GPU.
    DeviceError, CompileError, EmulatorError
        Where the GPU, NVRTC or the emulated kernel fails.

    Source
    ------
    Dao, FlashAttention-2 (arXiv 2307.08691), for the online softmax.
    """
    # fmt: off
    others = (
        softmax_scale, alibi_slopes, bias, mask, sinks, q_descale, k_descale, v_descale, out
    )
    options = (
        causal, causal_alignment, q_offset, window_size, softcap, num_splits, out_dtype, kv_format
    )
    # fmt: on
    key, call, addresses = known.find("attention", q, k, v, others, options)
    if call is not None:
        result = call(addresses, out, return_lse)
        if result is not None:
            return result
    extras = {
        **score_arrays(softmax_scale, alibi_slopes, bias, mask, sinks),
        "q_descale": q_descale,
        "k_descale": k_descale,
        "v_descale": v_descale,
    }
    scores = score_options(
        softmax_scale, causal, causal_alignment, q_offset, window_size, softcap, num_splits
    )
    done = perform(Call(q, k, v, scores, extras, out, out_dtype, kv_format))
    known.remember(key, _FIELDS, (q, k, v, *others), done)
    return done.results(return_lse)
