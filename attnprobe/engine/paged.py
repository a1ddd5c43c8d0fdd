"""``attention_paged``: queries against a K/V cache, in pages or in one piece."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attnprobe.engine import known
from attnprobe.engine.arrays import take
from attnprobe.engine.call import Call, check_places, perform, place_of_run, with_kv_format
from attnprobe.engine.checks import CACHE_FORMAT_NAMES, FORMAT_NAMES
from attnprobe.engine.score_arguments import SCORE_FIELDS, score_arrays, score_options
from attnprobe.errors import ProblemError

if TYPE_CHECKING:
    from attnprobe.engine.append import Appended

_LENGTHS = ("seqused_k", "leftpad_k", "cu_seqlens_q", "block_table")
_APPENDED = ("K_new", "V_new", "rotary_cos", "rotary_sin")
_FIELDS = ("Q", "K", "V", *SCORE_FIELDS, "k_descale", "v_descale", *_LENGTHS, *_APPENDED, "O")


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
    k, v : (batch, seqlen_new, num_kv_heads, head_dim and v_head_dim), q's dtype: written behind the
        keys in use of each sequence before q attends to all of them; a cache of 8 bits gets them
        divided by k_descale and v_descale and rounded to the nearest. ``cache_seqlens`` itself is
        not changed. Rows for which the cache has no room are dropped on a GPU, refused on the CPU.
    rotary_cos, rotary_sin : (positions, rotary_dim / 2), any float dtype: new keys are rotated by
        their positions, and q by cache_seqlens + its row where causal or windowed, by cache_seqlens
        elsewhere.
    rotary_interleaved : rotate the pairs (2i, 2i + 1); else (i, i + rotary_dim / 2).
    cache_leftpad : (batch,) int32: rows of a sequence's part of the cache before key 0;
        cache_seqlens counts them.
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
    if block_table is not None and cache_seqlens is None:
        raise ProblemError("cache_seqlens is None; with pages the keys in use must be said")
    if (k is None) != (v is None):
        raise ProblemError("k and v go together: the new keys and the new values")
    if k is None and (rotary_cos is not None or rotary_sin is not None):
        raise ProblemError("rotary_cos and rotary_sin rotate new keys and q; k and v are None")
    # fmt: off
    others = (
        softmax_scale, alibi_slopes, bias, mask, sinks, k_descale, v_descale,
        cache_seqlens, cache_leftpad, cu_seqlens_q, block_table, k, v, rotary_cos, rotary_sin, out,
    )
    options = (
        causal, causal_alignment, q_offset, window_size, softcap, num_splits, out_dtype, kv_format,
        rotary_interleaved,
    )
    # fmt: on
    key, call, addresses = known.find("attention_paged", q, k_cache, v_cache, others, options)
    if call is not None:
        result = call(addresses, out, return_lse)
        if result is not None:
            return result
    extras = {
        **score_arrays(softmax_scale, alibi_slopes, bias, mask, sinks),
        "k_descale": k_descale,
        "v_descale": v_descale,
        "cu_seqlens_q": cu_seqlens_q,
        "seqused_k": cache_seqlens,
        "leftpad_k": cache_leftpad,
        "block_table": block_table,
    }
    appended, queries = None, q
    if k is not None:
        moving = causal or tuple(window_size) != (-1, -1)
        appended = _appended(
            (q, k, v, k_cache, v_cache),
            extras,
            rotary=(rotary_cos, rotary_sin, rotary_interleaved),
            q_advances=moving,
            kv_format=kv_format,
        )
        queries, extras["seqused_k"] = appended.q, appended.seqused_k
    scores = score_options(
        softmax_scale, causal, causal_alignment, q_offset, window_size, softcap, num_splits
    )
    done = perform(Call(queries, k_cache, v_cache, scores, extras, out, out_dtype, kv_format))
    if appended is not None and done.launched is not None and appended.launched is not None:
        both = done.launched.after(appended.launched, appended.renamed)
        done = replace(done, launched=both)
    if appended is None or appended.launched is not None:
        known.remember(key, _FIELDS, (q, k_cache, v_cache, *others), done)
    return done.results(return_lse)


def _appended(
    arrays: tuple[Any, Any, Any, Any, Any],
    extras: dict[str, Any],
    *,
    rotary: tuple[Any, Any, bool],
    q_advances: bool,
    kv_format: str | None,
) -> Appended:
    """Append k and v to the cache."""
    from attnprobe.engine.append import Append, append_kv  # few calls append

    if extras["cu_seqlens_q"] is not None:
        raise ProblemError(
            "k and v are appended for a padded q, (batch, seqlen_q, ...), and cu_seqlens_q is "
            "given: append first, with a call of one query for each sequence"
        )
    names = ("q", "k", "v", "k_cache", "v_cache")
    taken = {name: take(name, array) for name, array in zip(names, arrays, strict=True)}
    check_places(taken)
    for name, operand in taken.items():
        if operand.array.ndim != 4:
            raise ProblemError(f"{name} has shape {operand.array.shape}; four axes are wanted")
    cache = with_kv_format(taken["k_cache"].spec("k_cache"), kv_format)
    if cache.format is None or cache.format.name not in (*FORMAT_NAMES, *CACHE_FORMAT_NAMES):
        raise ProblemError(f"k_cache has dtype {cache.dtype}; q's, e4m3 or int8 is wanted")
    wanted = ("seqused_k", "leftpad_k", "block_table", "k_descale", "v_descale")
    given = {name: extras[name] for name in wanted}
    cos, sin, interleaved = rotary
    given.update(rotary_cos=cos, rotary_sin=sin)
    rows = [taken[name] for name in names]
    job = Append(rows[0], rows[1], rows[2], rows[3], rows[4], cache.format, given)
    with place_of_run(taken["q"]):
        return append_kv(replace(job, rotary_interleaved=interleaved, q_advances=q_advances))
