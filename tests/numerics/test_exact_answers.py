"""Inputs whose answer is known exactly: no tolerance, or one of a rounding."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.numerics.reference import visible_keys

HEAD_DIM = 64
DTYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
MASKS = [
    {},
    {"causal": True},
    {"window_size": (0, 0)},
    {"window_size": (63, 1)},
    {"window_size": (5, 64)},
    {"window_size": (-1, 0)},
    {"window_size": (64, -1), "causal": True},
]


def run(backend, q, k, v, **features):
    """Return O and LSE as NumPy arrays."""
    placed = (backend.asarray(array) for array in (q, k, v))
    O, LSE = attnprobe.attention(*placed, **features, return_lse=True)
    return backend.asnumpy(O), backend.asnumpy(LSE)


def one_hot(seqlen_k, dtype):
    """V that names its key: key j has a one in channel j % 64 of head j // 64, else zeros."""
    num_heads = -(-seqlen_k // HEAD_DIM)
    v = np.zeros((1, seqlen_k, num_heads, HEAD_DIM), dtype)
    keys = np.arange(seqlen_k)
    v[0, keys, keys // HEAD_DIM, keys % HEAD_DIM] = 1
    return v


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("sizes", [(70, 130), (130, 70), (64, 64), (140, 300)], ids=str)
def test_with_equal_scores_and_one_hot_v_the_output_is_one_over_the_count(sizes, mask, xp_backend):
    """Every visible key gives exactly 1/n, every other exactly 0: no mask off by one can hide."""
    seqlen_q, seqlen_k = sizes
    dtype = DTYPES[0]
    v = one_hot(seqlen_k, dtype)
    q = np.zeros((1, seqlen_q, v.shape[2], HEAD_DIM), dtype)
    O, LSE = run(xp_backend, q, np.ones_like(v), v, **mask)
    seen = visible_keys(seqlen_q, seqlen_k, **mask)
    counts = seen.sum(axis=1)
    share = np.float32(1) / np.maximum(counts, 1).astype(np.float32)
    want = np.where(seen, share[:, None], np.float32(0)).astype(dtype)
    named = O[0].reshape(seqlen_q, -1)
    np.testing.assert_array_equal(named[:, :seqlen_k], want)
    assert not named[:, seqlen_k:].any()
    np.testing.assert_array_equal(np.isneginf(LSE[0]), np.broadcast_to(counts == 0, LSE[0].shape))
    logs = [math.log(count) for count in counts if count]
    np.testing.assert_allclose(LSE[0][:, counts > 0], [logs] * len(LSE[0]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("head_dim", "dtype"), [(64, DTYPES[0]), (128, DTYPES[1]), (256, DTYPES[1])], ids=str
)
def test_with_one_key_per_query_the_output_is_v(dtype, head_dim, xp_backend):
    """P is 1: V comes back bit for bit, so a row or channel in the wrong place shows itself."""
    rng = np.random.default_rng(6)
    q = rng.standard_normal((1, 70, 2, head_dim)).astype(dtype)
    k = rng.standard_normal((1, 70, 1, head_dim)).astype(dtype)
    # From the least normal number up. Kernels flush subnormals of float32, which bf16's are too.
    bits = np.arange(70 * head_dim, dtype=np.uint16) + (0x80 if dtype != np.float16 else 1)
    v = bits.view(dtype).reshape(k.shape)
    O, _ = run(xp_backend, q, k, v, window_size=(0, 0))
    np.testing.assert_array_equal(O, np.broadcast_to(v, O.shape))


@pytest.mark.parametrize("value", [0.3, -7.0, 65504.0])
def test_a_constant_v_with_equal_scores_comes_back_exactly(value, xp_backend):
    dtype = DTYPES[0]
    q = np.zeros((1, 65, 1, HEAD_DIM), dtype)
    k = np.ones((1, 100, 1, HEAD_DIM), dtype)
    v = np.full_like(k, value)
    O, _ = run(xp_backend, q, k, v, causal=True)
    np.testing.assert_array_equal(O, np.full_like(q, value))


def test_a_constant_v_comes_back_whatever_the_scores(xp_backend):
    """The weights sum to one: rounding P moves the sum by a unit of its roundoff at most."""
    rng = np.random.default_rng(7)
    q = rng.standard_normal((1, 65, 1, HEAD_DIM)).astype(np.float16)
    k = rng.standard_normal((1, 100, 1, HEAD_DIM)).astype(np.float16)
    O, _ = run(xp_backend, 3 * q, k, np.full_like(k, 2.0), causal=True)
    assert np.abs(O.astype(float) - 2).max() <= 2 * 2**-11 + 2**-10


def test_the_order_of_the_keys_changes_no_bit_where_sums_are_exact(xp_backend):
    """Small whole numbers in V and equal scores: no sum rounds, so none can depend on order."""
    rng = np.random.default_rng(8)
    q = np.zeros((1, 33, 2, HEAD_DIM), np.float16)
    k = rng.standard_normal((1, 150, 1, HEAD_DIM)).astype(np.float16)
    v = rng.integers(-8, 9, k.shape).astype(np.float16)
    order = rng.permutation(150)
    first, second = run(xp_backend, q, k, v), run(xp_backend, q, k[:, order], v[:, order])
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_the_winning_key_is_named_by_one_hot_v(xp_backend):
    """Query i is key p(i) scaled until its weight is 1: O is the one-hot row of p(i)."""
    rng = np.random.default_rng(9)
    k = rng.choice([-1.0, 1.0], (1, 128, 1, HEAD_DIM)).astype(np.float16)
    v = np.repeat(one_hot(128, np.float16)[:, :, :1], 1, axis=2)
    winner = rng.permutation(128)[:64]
    q = 8 * k[:, winner]
    O, LSE = run(xp_backend, q, k, v)
    want = np.eye(128, dtype=np.float16)[winner][:, :HEAD_DIM]
    np.testing.assert_array_equal(O[0, :, 0], want)
    np.testing.assert_array_equal(LSE[0, 0], np.full(64, 64.0, np.float32))  # 8 * 64 / sqrt(64)
