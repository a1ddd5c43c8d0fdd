"""The float64 reference against tables written by hand and loops that share nothing with it."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from attnprobe.numerics import reference
from attnprobe.numerics.reference import Features

INF = math.inf

# One string per query, one character per key: x is seen.
MASKS = [
    # (seqlen_q, seqlen_k, causal, window), table
    ((3, 3, False, (-1, -1)), "xxx xxx xxx"),
    ((3, 3, True, (-1, -1)), "x.. xx. xxx"),
    ((2, 4, True, (-1, -1)), "xxx. xxxx"),
    ((1, 4, True, (-1, -1)), "xxxx"),
    ((4, 2, True, (-1, -1)), ".. .. x. xx"),
    ((4, 4, False, (1, 0)), "x... xx.. .xx. ..xx"),
    ((4, 4, False, (0, 1)), "xx.. .xx. ..xx ...x"),
    ((4, 4, False, (0, 0)), "x... .x.. ..x. ...x"),
    ((4, 4, False, (1, -1)), "xxxx xxxx .xxx ..xx"),
    ((4, 4, False, (-1, 1)), "xx.. xxx. xxxx xxxx"),
    ((4, 4, True, (1, -1)), "x... xx.. .xx. ..xx"),
    ((4, 4, True, (2, 3)), "x... xx.. xxx. .xxx"),
    ((2, 5, False, (1, 1)), "..xxx ...xx"),
    ((5, 2, False, (1, 0)), ".. .. .. x. xx"),
    ((5, 2, False, (0, 1)), ".. .. x. xx .x"),
    ((2, 0, False, (-1, -1)), " "),
]


@pytest.mark.parametrize(("asked", "table"), MASKS)
def test_visible_keys_are_the_table_written_by_hand(asked, table):
    seqlen_q, seqlen_k, causal, window = asked
    seen = reference.visible_keys(seqlen_q, seqlen_k, causal=causal, window_size=window)
    assert seen.shape == (seqlen_q, seqlen_k)
    shown = " ".join("".join("x" if key else "." for key in row) for row in seen)
    assert shown == table


def naive(q, k, v, features):
    """Attention one number at a time, with Python floats."""
    batch, seqlen_q, num_heads, head_dim = q.shape
    seqlen_k, num_kv_heads = k.shape[1:3]
    left, right = features.window_size
    scale = (
        features.softmax_scale if features.softmax_scale is not None else 1 / math.sqrt(head_dim)
    )
    O = np.zeros(q.shape)
    LSE = np.full((batch, num_heads, seqlen_q), -INF)
    for b, i, h in np.ndindex(batch, seqlen_q, num_heads):
        kv = h * num_kv_heads // num_heads
        aligned = i + seqlen_k - seqlen_q
        terms = []
        for j in range(seqlen_k):
            if features.causal and j > aligned:
                continue
            if (left != -1 and j < aligned - left) or (right != -1 and j > aligned + right):
                continue
            s = scale * math.fsum(
                float(q[b, i, h, d]) * float(k[b, j, kv, d]) for d in range(head_dim)
            )
            if features.softcap > 0:
                s = features.softcap * math.tanh(s / features.softcap)
            terms.append((math.exp(s), j))
        if terms:
            total = math.fsum(weight for weight, _ in terms)
            LSE[b, h, i] = math.log(total)
            for d in range(head_dim):
                O[b, i, h, d] = math.fsum(w * float(v[b, j, kv, d]) for w, j in terms) / total
    return O, LSE


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=str)
@pytest.mark.parametrize(
    "features",
    [
        Features(),
        Features(causal=True),
        Features(softmax_scale=0.7, window_size=(2, 1)),
        Features(softcap=0.5, causal=True),
        Features(softmax_scale=-1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [(2, 3, 5, 4, 2), (1, 5, 3, 3, 1), (1, 1, 1, 2, 2)], ids=str)
def test_attention_is_the_loop_over_single_numbers(dtype, features, sizes):
    batch, seqlen_q, seqlen_k, num_heads, num_kv_heads = sizes
    rng = np.random.default_rng(1)
    q = rng.standard_normal((batch, seqlen_q, num_heads, 8)).astype(dtype)
    k, v = rng.standard_normal((2, batch, seqlen_k, num_kv_heads, 8)).astype(dtype)
    O, LSE = reference.attention(q, k, v, features)
    naive_O, naive_LSE = naive(q, k, v, features)
    assert O.dtype == LSE.dtype == np.float64
    np.testing.assert_allclose(O, naive_O, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(LSE, naive_LSE, rtol=1e-12, atol=1e-13)


def test_one_query_by_hand():
    """Scores ln 1, ln 2, ln 5: weights 1/8, 2/8, 5/8, LSE ln 8."""
    q = np.ones((1, 1, 1, 1))
    k = np.log([1.0, 2.0, 5.0]).reshape(1, 3, 1, 1)
    v = np.array([8.0, -8.0, 16.0]).reshape(1, 3, 1, 1)
    O, LSE = reference.attention(q, k, v)
    np.testing.assert_allclose(O.ravel(), [1 - 2 + 10], rtol=1e-15)
    np.testing.assert_allclose(LSE.ravel(), [math.log(8)], rtol=1e-15)


def test_softcap_comes_before_the_mask():
    """A capped score of a masked key would be -cap, not -inf, were it the other way round."""
    q = k = v = np.ones((1, 2, 1, 1))
    O, LSE = reference.attention(q, k, 2 * v, Features(causal=True, softcap=3.0))
    capped = 3 * math.tanh(1 / 3)
    np.testing.assert_allclose(O.ravel(), [2, 2], rtol=1e-15)
    np.testing.assert_allclose(LSE.ravel(), [capped, capped + math.log(2)], rtol=1e-15)


def test_a_row_with_no_key_is_zero_with_lse_minus_infinity():
    q, k = np.full((1, 3, 1, 2), np.nan), np.ones((1, 1, 1, 2))
    q[0, 2] = 1.0
    O, LSE = reference.attention(q, k, 5 * k, Features(causal=True))
    np.testing.assert_array_equal(O[0, :, 0], [[0, 0], [0, 0], [5, 5]])
    np.testing.assert_array_equal(LSE[0, 0, :2], [-INF, -INF])


def test_no_keys_at_all_gives_zeros():
    q, k = np.ones((1, 2, 1, 4)), np.ones((1, 0, 1, 4))
    O, LSE = reference.attention(q, k, k)
    assert not O.any()
    assert (LSE == -INF).all()


@pytest.mark.parametrize("garbage", [np.nan, INF, -INF])
def test_keys_that_no_query_sees_do_not_matter(garbage):
    rng = np.random.default_rng(2)
    q = rng.standard_normal((1, 3, 1, 4))
    k, v = rng.standard_normal((2, 1, 8, 1, 4))
    features = Features(window_size=(1, 0))  # keys 0 to 3 are seen by nobody
    clean = reference.attention(q, k, v, features)
    k[0, :4], v[0, :4] = garbage, garbage
    for want, got in zip(clean, reference.attention(q, k, v, features), strict=True):
        np.testing.assert_array_equal(want, got)


def test_nan_stays_in_the_rows_that_see_it():
    rng = np.random.default_rng(3)
    q, k, v = rng.standard_normal((3, 1, 4, 1, 4))
    features = Features(causal=True)
    clean = reference.attention(q, k, v, features)

    bad_k = k.copy()
    bad_k[0, 2, 0, 1] = np.nan
    O, LSE = reference.attention(q, bad_k, v, features)
    assert np.isnan(O[0, 2:]).all()
    assert np.isnan(LSE[0, 0, 2:]).all()
    np.testing.assert_array_equal(O[0, :2], clean.o[0, :2])
    np.testing.assert_array_equal(LSE[0, 0, :2], clean.lse[0, 0, :2])

    bad_v = v.copy()
    bad_v[0, 2, 0, 1] = np.nan
    O, LSE = reference.attention(q, k, bad_v, features)
    assert np.isnan(O[0, 2:, 0, 1]).all()
    assert np.isnan(O).sum() == 2
    np.testing.assert_array_equal(LSE, clean.lse)


def test_infinities_in_v_reach_the_rows_that_see_them_and_cancel_to_nan():
    q = k = np.zeros((1, 3, 1, 1))
    v = np.array([1.0, INF, -INF]).reshape(1, 3, 1, 1)
    O, _ = reference.attention(q, k, v, Features(causal=True))
    np.testing.assert_array_equal(O.ravel(), [1, INF, np.nan])


def test_an_infinite_score_makes_the_row_nan():
    q = np.ones((1, 1, 1, 1))
    k = np.array([0.0, INF]).reshape(1, 2, 1, 1)
    O, LSE = reference.attention(q, k, np.ones_like(k))
    assert np.isnan(O).all()
    assert np.isnan(LSE).all()


def test_each_query_head_reads_its_own_kv_head():
    q, k = np.zeros((1, 1, 6, 1)), np.zeros((1, 2, 3, 1))
    v = np.broadcast_to(np.array([10.0, 20.0, 30.0])[None, None, :, None], (1, 2, 3, 1))
    O, _ = reference.attention(q, k, v)
    assert O.ravel().tolist() == [10, 10, 20, 20, 30, 30]


@pytest.mark.parametrize("shapes", [((1, 2, 3, 4), (1, 2, 2, 4)), ((1, 2, 1, 4), (2, 2, 1, 4))])
def test_shapes_that_do_not_belong_together_are_refused(shapes):
    q, k = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="do not belong together"):
        reference.attention(q, k, k)


@pytest.mark.parametrize("block", [None, 1, 3, 64])
@pytest.mark.parametrize("features", [Features(), Features(causal=True, softcap=2.0)], ids=str)
def test_the_yardstick_in_float32_is_the_reference_to_float32(block, features):
    """With a dtype that rounds P to float32 only, what is left are float32 errors."""
    rng = np.random.default_rng(4)
    q = rng.standard_normal((2, 7, 4, 16)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, 6, 2, 16)).astype(np.float32)
    want = reference.attention(q, k, v, features)
    got = reference.yardstick(q, k, v, features, block)
    assert got.o.dtype == got.lse.dtype == np.float32
    np.testing.assert_allclose(got.o, want.o, rtol=0, atol=3e-6)
    np.testing.assert_allclose(got.lse, want.lse, rtol=0, atol=3e-6)


def test_the_yardstick_rounds_p_before_v():
    """Weights 1 and exp(-0.3): the second is rounded to bf16 in the product, but not in the sum."""
    q = np.ones((1, 1, 1, 1), ml_dtypes.bfloat16)
    k = np.array([0.0, -0.30078125]).reshape(1, 2, 1, 1).astype(ml_dtypes.bfloat16)
    v = np.array([0.0, 256.0]).reshape(1, 2, 1, 1).astype(ml_dtypes.bfloat16)
    weight = np.exp(np.float32(k[0, 1, 0, 0]))
    rounded = np.float32(weight.astype(ml_dtypes.bfloat16))
    assert rounded != weight
    want = (rounded * np.float32(256) / (np.float32(1) + weight)).astype(ml_dtypes.bfloat16)
    assert reference.yardstick(q, k, v).o.ravel() == want
