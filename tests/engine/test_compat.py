"""flash-attn's functions: its arguments, its defaults and its results."""

from __future__ import annotations

import inspect
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.compat import flash_attn, flash_attn_interface
from attnprobe.errors import ProblemError
from attnprobe.numerics.error import check_attention

RNG = np.random.default_rng(8)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float16)


# Source: flash-attn 2.8, flash_attn/flash_attn_interface.py
SIGNATURES = {
    "flash_attn_func": "q k v dropout_p softmax_scale causal window_size softcap alibi_slopes "
    "deterministic return_attn_probs",
    "flash_attn_varlen_func": "q k v cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k dropout_p "
    "softmax_scale causal window_size softcap alibi_slopes deterministic return_attn_probs "
    "block_table",
    "flash_attn_with_kvcache": "q k_cache v_cache k v rotary_cos rotary_sin cache_seqlens "
    "cache_batch_idx cache_leftpad block_table softmax_scale causal window_size softcap "
    "rotary_interleaved alibi_slopes num_splits return_softmax_lse",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_stand_in_the_order_of_flash_attn(name: str) -> None:
    assert list(inspect.signature(getattr(flash_attn, name)).parameters) == SIGNATURES[name].split()


@pytest.mark.parametrize("head_dim", [32, 40])
def test_flash_attn_func_with_any_head_dim(head_dim: int) -> None:
    q, k, v = normal(2, 9, 4, head_dim), normal(2, 20, 2, head_dim), normal(2, 20, 2, head_dim)
    O, LSE, nothing = flash_attn.flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
    assert nothing is None
    assert O.shape == q.shape
    check_attention(O, LSE, q, k, v, causal=True)


def test_packed_inputs_are_views() -> None:
    qkv = normal(1, 17, 3, 2, 16)
    O = flash_attn.flash_attn_qkvpacked_func(qkv, causal=True)
    check_attention(O, None, qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], causal=True)
    q, kv = normal(1, 5, 4, 16), normal(1, 17, 2, 2, 16)
    O = flash_attn.flash_attn_kvpacked_func(q, kv)
    check_attention(O, None, q, kv[:, :, 0], kv[:, :, 1])


def test_causal_closes_a_window_that_was_open_to_the_right() -> None:
    q, k, v = (normal(1, 20, 2, 16) for _ in range(3))
    O = flash_attn.flash_attn_func(q, k, v, causal=True, window_size=(5, 7))
    check_attention(O, None, q, k, v, window_size=(5, 0))


def test_varlen_with_and_without_pages() -> None:
    bounds_q, bounds_k = np.array([0, 3, 10], np.int32), np.array([0, 7, 20], np.int32)
    q, k, v = normal(10, 4, 16), normal(20, 2, 16), normal(20, 2, 16)
    plain, LSE, _ = flash_attn.flash_attn_varlen_func(
        q, k, v, bounds_q, bounds_k, 7, 13, causal=True, return_attn_probs=True
    )
    assert LSE.shape == (4, 10)
    table, pages = np.array([[4, 0], [2, 1]], np.int32), np.full((5, 8, 2, 16), np.nan, np.float16)
    k_pages, v_pages = pages.copy(), pages.copy()
    for rows, cache in ((k, k_pages), (v, v_pages)):
        cache[4, :7], cache[2], cache[1, :5] = rows[:7], rows[7:15], rows[15:]
    paged = flash_attn.flash_attn_varlen_func(
        q, k_pages, v_pages, bounds_q, bounds_k, 7, 13, causal=True, block_table=table
    )
    np.testing.assert_array_equal(paged, plain)


def test_kvcache_with_entries_by_number_and_one_length_for_all() -> None:
    k_cache, v_cache = normal(5, 24, 2, 16), normal(5, 24, 2, 16)
    q, k, v = normal(2, 1, 4, 16), normal(2, 1, 2, 16), normal(2, 1, 2, 16)
    entries = np.array([3, 1], np.int32)
    O, LSE = flash_attn.flash_attn_with_kvcache(
        q,
        k_cache,
        v_cache,
        k,
        v,
        cache_seqlens=20,
        cache_batch_idx=entries,
        return_softmax_lse=True,
    )
    np.testing.assert_array_equal(k_cache[entries, 20], k[:, 0])
    check_attention(O, LSE, q, k_cache[entries, :21], v_cache[entries, :21])
    whole = flash_attn.flash_attn_with_kvcache(q, k_cache[:2], v_cache[:2])
    check_attention(whole, None, q, k_cache[:2], v_cache[:2])


def test_what_is_not_there_is_refused() -> None:
    q = normal(1, 4, 2, 16)
    with pytest.raises(ProblemError, match=r"dropout_p is 0\.1; there is no dropout"):
        flash_attn.flash_attn_func(q, q, q, 0.1)
    with pytest.raises(ProblemError, match="cache_batch_idx and block_table both"):
        flash_attn.flash_attn_with_kvcache(q, q, q, cache_batch_idx=[0], block_table=[[0]])
    assert np.isfinite(attnprobe.attention(q, q, q)).all()


# Source: flash-attn 3, hopper/flash_attn_interface.py
SIGNATURE_3 = (
    "q k v softmax_scale causal qv q_descale k_descale v_descale window_size attention_chunk "
    "softcap num_splits pack_gqa deterministic sm_margin return_attn_probs"
)


def test_flash_attn_3_takes_e4m3_and_descales() -> None:
    parameters = inspect.signature(flash_attn_interface.flash_attn_func).parameters
    assert list(parameters) == SIGNATURE_3.split()
    q, k, v = (normal(1, n, 2, 32).astype(ml_dtypes.float8_e4m3fn) for n in (20, 30, 30))
    descales = [np.array([[0.5, 2.0]], np.float32) for _ in range(3)]
    O, LSE = flash_attn_interface.flash_attn_func(
        q, k, v, None, True, None, *descales, return_attn_probs=True
    )
    assert O.dtype == ml_dtypes.bfloat16
    scales = descales[0][0] * descales[1][0] / np.float32(np.sqrt(32))
    unscaled = (O.astype(np.float32) / descales[2][0][:, None]).astype(O.dtype)
    check_attention(unscaled, LSE, q, k, v, causal=True, softmax_scale=scales)


def test_flash_attn_3_refuses_what_it_has_no_word_for() -> None:
    q = normal(1, 4, 1, 16)
    with pytest.raises(ProblemError, match="qv is given"):
        flash_attn_interface.flash_attn_func(q, q, q, qv=q)
    with pytest.raises(ProblemError, match="attention_chunk is 64"):
        flash_attn_interface.flash_attn_func(q, q, q, attention_chunk=64)
