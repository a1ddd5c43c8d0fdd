"""Decode: few queries against many keys, split over blocks, heads packed, K and V in 8 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.engine.decode import DECODE, DecodeVariant
from attnprobe.engine.plan import plans_changed
from attnprobe.numerics.error import check_attention
from tests.conftest import Backend, make_backend

Array = Any
F16, BF16, E4M3 = np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn
INT8_SCALE = 0.004  # of scores, where K holds integers up to 127


def qkv(
    seqlen_q: int = 1,
    seqlen_k: int = 70,
    heads: tuple[int, int] = (2, 1),
    widths: tuple[int, int] = (32, 32),
    batch: int = 1,
    dtypes: tuple[Any, Any] = (F16, F16),
) -> tuple[Array, Array, Array]:
    """Return random arrays; of int8 over most of its range."""
    rng = np.random.default_rng(seqlen_k + heads[0] + widths[0])
    q = rng.standard_normal((batch, seqlen_q, heads[0], widths[0])).astype(dtypes[0])
    k, v = (rng.standard_normal((batch, seqlen_k, heads[1], width)) for width in widths)
    if dtypes[1] == np.int8:
        return q, *(np.clip(x * 40, -128, 127).astype(np.int8) for x in (k, v))
    return q, k.astype(dtypes[1]), v.astype(dtypes[1])


def run(backend: Backend, q: Array, k: Array, v: Array, **arguments: Any) -> tuple[Array, Array]:
    """Return O and LSE of ``attention``; e4m3 goes as bytes with its format said."""
    if k.dtype == E4M3:
        k, v = k.view(np.uint8), v.view(np.uint8)
        arguments["kv_format"] = "e4m3"
    placed = {
        name: backend.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    O, LSE = attnprobe.attention(
        *(backend.asarray(x) for x in (q, k, v)), **placed, return_lse=True
    )
    return backend.asnumpy(O), backend.asnumpy(LSE)


def check(
    backend: Backend,
    arrays: tuple[Array, Array, Array],
    num_splits: int | None = None,
    **features: Any,
) -> None:
    q, k, v = arrays
    actual = run(backend, q, k, v, num_splits=num_splits, **features)
    check_attention(*actual, q, k.astype(q.dtype), v.astype(q.dtype), **features)


@pytest.mark.parametrize("num_splits", [1, 2, 3, 4, 5, None])
def test_splits(xp_backend: Backend, num_splits: int | None) -> None:
    check(xp_backend, qkv(), num_splits)


@pytest.mark.parametrize(
    "heads", [(1, 1), (2, 1), (3, 1), (6, 2), (5, 1), (7, 1), (16, 2), (16, 1)], ids=str
)
def test_heads_that_share_keys(xp_backend: Backend, heads: tuple[int, int]) -> None:
    check(xp_backend, qkv(2, 40, heads), 2, causal=True)


@pytest.mark.parametrize(
    "row",
    DECODE,
    ids=lambda row: f"{row.head_dim}-{row.kv_bits}-{row.block_n}x{row.warps}x{row.stages}",
)
def test_every_tile(xp_backend: Backend, row: DecodeVariant) -> None:
    """Also those that only many sequences, or devices with less shared memory, would take."""
    keys = F16 if row.kv_bits == 16 else np.int8
    arrays = qkv(2, 150, (4, 1), (row.head_dim, row.v_head_dim), 2, (F16, keys))
    scale = None if keys == F16 else INT8_SCALE / row.head_dim**0.5
    with plans_changed(lambda plan: replace(plan, variant=row)):
        check(xp_backend, arrays, causal=True, softmax_scale=scale)


WIDTHS = [(w, w) for w in (32, 64, 80, 96, 112, 128, 160, 192, 256)] + [(192, 128), (576, 512)]
FEW_WIDTHS = [(16, 16), (80, 80), (128, 128), (48, 32)]  # others on a GPU only


@pytest.mark.parametrize("widths", FEW_WIDTHS, ids=str)
def test_some_widths(xp_backend: Backend, widths: tuple[int, int]) -> None:
    check(xp_backend, qkv(seqlen_k=40, widths=widths), 2)


@pytest.mark.gpu
@pytest.mark.parametrize("kv", [F16, E4M3, np.int8], ids=["f16", "e4m3", "int8"])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_every_width(widths: tuple[int, int], kv: Any) -> None:
    scale = {"softmax_scale": INT8_SCALE} if kv == np.int8 else {}
    for seqlen_k in (1, 33, 500):
        arrays = qkv(2, seqlen_k, (4, 2), widths, 2, (F16, kv))
        check(make_backend("gpu"), arrays, None, **scale)


@pytest.mark.parametrize("seqlen_k", [0, 1, 15, 16, 17, 129])
def test_lengths(xp_backend: Backend, seqlen_k: int) -> None:
    check(xp_backend, qkv(seqlen_k=seqlen_k), 3)


# --- 8-bit K and V --------------------------------------------------------------------------------


@pytest.mark.parametrize("q_dtype", [F16, BF16], ids=["f16", "bf16"])
@pytest.mark.parametrize("kv", [E4M3, np.int8], ids=["e4m3", "int8"])
def test_eight_bits(xp_backend: Backend, q_dtype: Any, kv: Any) -> None:
    scale = {"softmax_scale": INT8_SCALE} if kv == np.int8 else {}
    check(xp_backend, qkv(2, 50, (2, 1), (48, 80), dtypes=(q_dtype, kv)), 2, causal=True, **scale)


@pytest.mark.parametrize("q_dtype", [F16, BF16], ids=["f16", "bf16"])
@pytest.mark.parametrize("kv", [E4M3, np.int8], ids=["e4m3", "int8"])
def test_every_byte_is_converted_exactly(xp_backend: Backend, q_dtype: Any, kv: Any) -> None:
    """One key: O is its V, whatever the score; V holds all 256 bytes."""
    v = np.arange(256, dtype=np.uint8).view(kv).reshape(1, 1, 4, 64)
    q, k = np.zeros((1, 1, 4, 16), q_dtype), np.zeros((1, 1, 4, 16), kv)
    O, _ = run(xp_backend, q, k, v)
    expected = v.astype(np.float32)
    assert np.array_equal(O.astype(np.float32), expected, equal_nan=True)
    # K likewise: Q picks out one element, so the LSE is that element.
    k = np.arange(256, dtype=np.uint8).view(kv).reshape(1, 1, 16, 16)
    for place in (0, 5, 10, 15):
        q = np.zeros((1, 1, 16, 16), q_dtype)
        q[..., place] = 1
        _, LSE = run(xp_backend, q, k, np.zeros((1, 1, 16, 16), kv), softmax_scale=1.0)
        wanted = (q * k.astype(np.float32)).sum(axis=3)[0, 0]  # 0 * NaN is NaN
        np.testing.assert_allclose(LSE[0, :, 0], wanted, rtol=1e-6)


def test_descales(xp_backend: Backend) -> None:
    q, k, v = qkv(2, 50, (4, 2), dtypes=(F16, E4M3), batch=2)
    for shape in ((2,), (2, 2)):
        # Powers of two, so that K and V multiplied by them are f16 numbers.
        rng = np.random.default_rng(len(shape))
        descales = [2.0 ** rng.integers(-2, 3, shape).astype(np.float32) for _ in range(2)]
        O, LSE = run(xp_backend, q, k, v, k_descale=descales[0], v_descale=descales[1])
        wide = [
            (x.astype(np.float32) * np.broadcast_to(d, (2, 2))[:, None, :, None]).astype(F16)
            for x, d in zip((k, v), descales, strict=True)
        ]
        check_attention(O, LSE, q, *wide)


def test_many_queries_of_eight_bits(xp_backend: Backend) -> None:
    """A chunk of prefill: more rows than one tile, no other kernel takes the cache."""
    check(xp_backend, qkv(70, 80, dtypes=(F16, E4M3)), None, causal=True)


# --- features, pages, what nobody sees ------------------------------------------------------------

SLOPES = np.array([0.5, 0.25, 0.125, -0.1], np.float32)
SEQ_Q, SEQ_K = 3, 60
_RNG = np.random.default_rng(8)
_BIAS = _RNG.standard_normal((1, 4, SEQ_Q, SEQ_K)).astype(F16)
_BIAS[_RNG.random(_BIAS.shape) < 0.1] = -np.inf
FEATURES: dict[str, dict[str, Any]] = {
    "causal and sinks": {"causal": True, "sinks": np.array([0.0, 3.0, -np.inf, -50.0], np.float32)},
    "window, softcap, alibi": {"window_size": (30, 0), "softcap": 6.0, "alibi_slopes": SLOPES},
    "bias per head": {"bias": _BIAS},
    "mask per head": {"mask": _RNG.random(_BIAS.shape) < 0.7},
    "scale per head": {"softmax_scale": np.array([0.1, -0.2, 0.0, 0.4], np.float32)},
    "top-left": {"causal": True, "causal_alignment": "top-left"},
    "mask of everything": {"mask": np.zeros((SEQ_Q, SEQ_K), bool)},
}


@pytest.mark.parametrize("name", FEATURES)
def test_features(xp_backend: Backend, name: str) -> None:
    check(xp_backend, qkv(SEQ_Q, SEQ_K, (4, 2), (16, 16)), 3, **FEATURES[name])


def pages_of(
    rows: Array, lengths: list[int], page_size: int, filler: float, garbage: int
) -> tuple[Array, Array]:
    """Return pages in a random order, with ``filler`` where no key is, and the block table."""
    rng = np.random.default_rng(page_size)
    batch, seqlen = rows.shape[:2]
    columns = -(-seqlen // page_size)
    pages = np.full((batch * columns + 2, page_size, *rows.shape[2:]), filler, rows.dtype)
    order = rng.permutation(batch * columns + 2)[: batch * columns].reshape(batch, columns)
    table = np.full((batch, columns), garbage, np.int32)
    for b, length in enumerate(lengths):
        for column in range(-(-length // page_size)):
            table[b, column] = order[b, column]
            part = rows[b, column * page_size : min((column + 1) * page_size, length)]
            pages[order[b, column], : len(part)] = part
    return pages, table


@pytest.mark.parametrize("page_size", [1, 3, 16, 64])
def test_pages(xp_backend: Backend, page_size: int) -> None:
    """Against the same keys in one piece, bit for bit, with NaN in all that is not in use."""
    lengths = [70, 0, 33]
    q, k, v = qkv(batch=3)
    used = xp_backend.asarray(np.array(lengths, np.int32))
    results = []
    for filler, garbage in ((np.nan, 2147480000), (0.5, -7)):
        k_pages, table = pages_of(k, lengths, page_size, filler, garbage)
        v_pages, _ = pages_of(v, lengths, page_size, filler, garbage)
        arrays = (xp_backend.asarray(x) for x in (q, k_pages, v_pages, table))
        O, LSE = attnprobe.attention_paged(*arrays, used, num_splits=2, return_lse=True)
        results.append((xp_backend.asnumpy(O), xp_backend.asnumpy(LSE)))
    assert results[0][0].tobytes() == results[1][0].tobytes()
    O, LSE = results[0]
    for b, length in enumerate(lengths):
        one = run(xp_backend, q[b : b + 1], k[b : b + 1, :length], v[b : b + 1, :length],
                  num_splits=2)  # fmt: skip
        assert O[b].tobytes() == one[0].tobytes()
        assert LSE[b].tobytes() == one[1].tobytes()
    assert not O[1].any()
    assert np.isneginf(LSE[1]).all()


def test_packed_queries(xp_backend: Backend) -> None:
    """Sequences of 2, 0 and 3 queries: each as if alone; rows behind the last stay as they are."""
    q, k, v = qkv(6, 50, (4, 2))
    k, v = (np.concatenate([x, x[:, ::-1], x * 2]) for x in (k, v))
    bounds, lengths = np.array([0, 2, 2, 5], np.int32), np.array([50, 20, 37], np.int32)
    out = xp_backend.asarray(np.full((6, 4, 32), 7, F16))
    arrays = [xp_backend.asarray(x) for x in (q[0], k, v)]
    attnprobe.attention_paged(
        *arrays, None, xp_backend.asarray(lengths), cu_seqlens_q=xp_backend.asarray(bounds),
        causal=True, num_splits=2, out=out,
    )  # fmt: skip
    O = xp_backend.asnumpy(out)
    assert (O[5] == 7).all()
    for b in (0, 2):
        rows = slice(bounds[b], bounds[b + 1])
        keys = slice(0, lengths[b])
        one, _ = run(xp_backend, q[:, rows], k[b : b + 1, keys], v[b : b + 1, keys],
                     causal=True, num_splits=2)  # fmt: skip
        assert O[rows].tobytes() == one[0].tobytes()


def test_a_row_does_not_depend_on_its_batch(xp_backend: Backend) -> None:
    q, k, v = qkv(batch=4, seqlen_k=90)
    for num_splits in (1, 3):
        whole, whole_lse = run(xp_backend, q, k, v, num_splits=num_splits)
        for rows in ([2], [3, 2, 0]):
            some, some_lse = run(xp_backend, q[rows], k[rows], v[rows], num_splits=num_splits)
            assert some.tobytes() == whole[rows].tobytes()
            assert some_lse.tobytes() == whole_lse[rows].tobytes()


def test_nan_stays_in_the_sequence_and_head_that_see_it(xp_backend: Backend) -> None:
    q, k, v = qkv(batch=2, heads=(4, 2))
    clean, _ = run(xp_backend, q, k, v, num_splits=2)
    k[1, 7, 0, 3] = np.nan
    v[0, 60, 1, 5] = np.nan
    O, _ = run(xp_backend, q, k, v, num_splits=2)
    spoiled = np.isnan(O)
    expected = np.zeros_like(spoiled)
    expected[1, :, :2] = True
    expected[0, :, 2:, 5] = True
    assert np.array_equal(spoiled, expected)
    assert np.array_equal(O[~spoiled], clean[~spoiled])


@pytest.mark.parametrize("kv", [F16, E4M3], ids=["f16", "e4m3"])
def test_keys_that_a_query_does_not_see_change_no_bit(xp_backend: Backend, kv: Any) -> None:
    """Under a causal mask the keys behind a query hold NaN: its bits stay."""
    q, k, v = qkv(3, 40, dtypes=(F16, kv))
    clean, _ = run(xp_backend, q, k, v, causal=True, num_splits=2)
    k[:, 39], v[:, 39] = np.nan, np.nan  # the last query alone sees it
    O, _ = run(xp_backend, q, k, v, causal=True, num_splits=2)
    assert O[:, :2].tobytes() == clean[:, :2].tobytes()
    assert np.isnan(O[:, 2]).all()


def test_out_dtype_and_strided_views(xp_backend: Backend) -> None:
    q, k, v = qkv(heads=(4, 2))
    wide = run(xp_backend, q, k, v, out_dtype="float32", num_splits=2)[0]
    assert wide.dtype == np.float32
    narrow = run(xp_backend, q, k, v, num_splits=2)[0]
    assert np.array_equal(wide.astype(F16), narrow)
    room = np.full((1, 70, 2, 67), np.nan, F16)
    views = []
    for array in (k, v):
        view = room.copy()[..., 1:33]
        view[...] = array
        views.append(view)
    assert run(xp_backend, q, *views, num_splits=2)[0].tobytes() == narrow.tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("kv", [F16, E4M3], ids=["f16", "e4m3"])
@pytest.mark.parametrize("shape", [(1, 65536, 8, 2, 128), (16, 4096, 8, 2, 64)], ids=str)
def test_large(shape: tuple[int, int, int, int, int], kv: Any) -> None:
    batch, seqlen, heads, kv_heads, width = shape
    arrays = qkv(1, seqlen, (heads, kv_heads), (width, width), batch, (F16, kv))
    check(make_backend("gpu"), arrays)


@pytest.mark.gpu
def test_the_same_bits_every_time() -> None:
    import cupy

    q, k, v = (cupy.asarray(x) for x in qkv(1, 5000, (8, 2), (128, 128), 3))
    first = attnprobe.attention(q, k, v, num_splits=7).tobytes()
    for _ in range(1000):
        assert attnprobe.attention(q, k, v, num_splits=7).tobytes() == first
