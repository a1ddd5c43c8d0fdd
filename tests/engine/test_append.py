"""New keys and values in the cache, rotated and rounded, and attention right after."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.errors import ProblemError
from tests.conftest import Backend

BATCH, HEADS, KV_HEADS, HEAD_DIM, V_DIM, NEW = 3, 4, 2, 32, 16, 2
PAGE, PAGES, MAX_PAGES = 4, 16, 4
LENGTHS = np.array([5, 0, 9], np.int32)
ANGLES = np.outer(np.arange(20), 100.0 ** -(np.arange(8) / 8))  # 16 of 32 dimensions rotate
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)


def inputs(dtype: Any = np.float16) -> dict[str, Any]:
    rng = np.random.default_rng(4)

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * np.where(rng.random(shape) < 0.02, 30, 1)).astype(
            dtype
        )

    return {
        "q": normal(BATCH, NEW, HEADS, HEAD_DIM),
        "k_cache": normal(PAGES, PAGE, KV_HEADS, HEAD_DIM),
        "v_cache": normal(PAGES, PAGE, KV_HEADS, V_DIM),
        "block_table": rng.permutation(PAGES)[: BATCH * MAX_PAGES].reshape(BATCH, -1),
        "cache_seqlens": LENGTHS,
        "k": normal(BATCH, NEW, KV_HEADS, HEAD_DIM),
        "v": normal(BATCH, NEW, KV_HEADS, V_DIM),
    }


def rotated(rows: Any, positions: Any, interleaved: bool) -> Any:
    """Return (rows, heads, head_dim) in float64 turned by their positions."""
    turned = rows.astype(np.float64)
    pairs = np.arange(16).reshape(8, 2) if interleaved else np.arange(16).reshape(2, 8).T
    cos, sin = (table[positions][:, None].astype(np.float64) for table in (COS, SIN))
    first, second = turned[..., pairs[:, 0]], turned[..., pairs[:, 1]]
    turned[..., pairs[:, 0]] = first * cos - second * sin
    turned[..., pairs[:, 1]] = second * cos + first * sin
    return turned


def run(backend: Backend, given: dict[str, Any], **options: Any) -> tuple[Any, Any, Any, Any]:
    """Return O, LSE and the caches after the call."""
    arrays = {name: backend.asarray(array) for name, array in given.items()}
    O, LSE = attnprobe.attention_paged(**arrays, **options, return_lse=True)
    caches = (arrays["k_cache"], arrays["v_cache"])
    return tuple(backend.asnumpy(array) for array in (O, LSE, *caches))  # type: ignore[return-value]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_rows_are_rotated_written_and_seen(
    xp_backend: Backend, dtype: Any, interleaved: bool
) -> None:
    given = inputs(dtype)
    tables = {"rotary_cos": COS, "rotary_sin": SIN, "rotary_interleaved": interleaved}
    before = {name: given[name].copy() for name in ("k_cache", "v_cache")}
    O, LSE, k_cache, v_cache = run(xp_backend, given, **tables, causal=True)
    written = np.zeros((PAGES, PAGE), bool)
    for b, length in enumerate(LENGTHS):
        positions = length + np.arange(NEW)
        pages, rows = given["block_table"][b, positions // PAGE], positions % PAGE
        written[pages, rows] = True
        keys = rotated(given["k"][b], positions, interleaved)
        step = np.maximum(np.abs(keys), 1.0) * float(ml_dtypes.finfo(dtype).eps)
        assert (np.abs(k_cache[pages, rows].astype(np.float64) - keys) <= step).all()
        np.testing.assert_array_equal(v_cache[pages, rows], given["v"][b])
        used = [
            cache[given["block_table"][b]].reshape(1, -1, *cache.shape[2:])[:, : length + NEW]
            for cache in (k_cache, v_cache)
        ]
        queries = rotated(given["q"][b], positions, interleaved).astype(dtype)[None]
        alone = attnprobe.attention(
            *(xp_backend.asarray(array) for array in (queries, *used)), causal=True, return_lse=True
        )
        mine, lse = (xp_backend.asnumpy(array).astype(np.float64) for array in alone)
        np.testing.assert_allclose(O[b].astype(np.float64), mine[0], rtol=0.02, atol=0.02)
        np.testing.assert_allclose(LSE[b], lse[0], rtol=2e-3, atol=2e-2)
    for cache, name in ((k_cache, "k_cache"), (v_cache, "v_cache")):
        np.testing.assert_array_equal(cache[~written], before[name][~written])


def test_without_a_mask_all_queries_stand_at_the_first_new_position(xp_backend: Backend) -> None:
    given = inputs()
    tables = {"rotary_cos": COS, "rotary_sin": SIN}
    O, *_ = run(xp_backend, given, **tables)
    alike = dict(inputs(), q=np.repeat(given["q"][:, :1], NEW, axis=1))
    same, *_ = run(xp_backend, alike, **tables)
    np.testing.assert_array_equal(same[:, 0], same[:, 1])
    np.testing.assert_array_equal(same[:, 0], O[:, 0])


@pytest.mark.parametrize(
    ("kv_format", "dtype", "most"),
    [("e4m3", ml_dtypes.float8_e4m3fn, 448.0), ("int8", np.int8, 127)],
)
def test_a_cache_of_bytes_gets_the_nearest(
    xp_backend: Backend, kv_format: str, dtype: Any, most: float
) -> None:
    given = inputs()
    scale = np.array([[0.25, 0.5]] * BATCH, np.float32)
    given["k"][0, 0, 0, :4] = [1000, -1000, 0.0011, -0.0005]
    caches = {name: np.zeros(given[name].shape, np.uint8) for name in ("k_cache", "v_cache")}
    options = {"kv_format": kv_format, "k_descale": scale, "v_descale": scale}
    arrays = {**given, **caches}
    append = {name: xp_backend.asarray(array) for name, array in arrays.items()}
    append_only(append, options)
    for name in ("k", "v"):
        cache = xp_backend.asnumpy(append[f"{name}_cache"])
        for b, length in enumerate(LENGTHS):
            positions = length + np.arange(NEW)
            rows = cache[given["block_table"][b, positions // PAGE], positions % PAGE]
            exact = np.clip(given[name][b].astype(np.float32) / scale[b][:, None], -most, most)
            wanted = (np.rint(exact) if kv_format == "int8" else exact).astype(dtype)
            if kv_format == "int8":
                wanted = np.clip(np.rint(given[name][b] / scale[b][:, None]), -128, 127).astype(
                    dtype
                )
            np.testing.assert_array_equal(rows.view(dtype).astype(float), wanted.astype(float))


def append_only(arrays: dict[str, Any], options: dict[str, Any]) -> None:
    """Append without the attention after it."""
    from attnprobe.engine.append import Append, append_kv
    from attnprobe.engine.arrays import take
    from attnprobe.formats import FORMATS

    names = ("q", "k", "v", "k_cache", "v_cache")
    taken = [take(name, arrays[name]) for name in names]
    extras = {
        "seqused_k": arrays["cache_seqlens"],
        "block_table": arrays["block_table"],
        "k_descale": options["k_descale"],
        "v_descale": options["v_descale"],
    }
    cache = FORMATS["e4m3" if options["kv_format"] == "e4m3" else "s8"]
    append_kv(Append(taken[0], taken[1], taken[2], taken[3], taken[4], cache, extras))


def test_a_cache_in_one_piece_with_left_padding(xp_backend: Backend) -> None:
    given = inputs()
    del given["block_table"]
    shape = (BATCH, PAGE * MAX_PAGES)
    for name in ("k_cache", "v_cache"):
        cache = given[name]
        given[name] = np.resize(cache, (*shape, *cache.shape[2:]))
    leftpad = np.array([2, 0, 7], np.int32)
    O, _, k_cache, v_cache = run(
        xp_backend, {**given, "cache_leftpad": leftpad}, block_table=None, causal=True
    )
    for b in range(BATCH):
        end = LENGTHS[b] + NEW
        np.testing.assert_array_equal(k_cache[b, LENGTHS[b] : end], given["k"][b])
        part = slice(leftpad[b], end)
        arrays = (given["q"][b : b + 1], k_cache[b : b + 1, part], v_cache[b : b + 1, part])
        alone = attnprobe.attention(*(xp_backend.asarray(array) for array in arrays), causal=True)
        np.testing.assert_array_equal(O[b], xp_backend.asnumpy(alone)[0])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no room": ({"cache_seqlens": np.array([5, 0, 15], np.int32)}, "sequence 2 has 15 keys and 2"),
    "one of two": ({"v": None}, "k and v go together"),
    "a table alone": ({"rotary_cos": COS}, "go together; one of them is None"),
    "rotary without rows": (
        {"k": None, "v": None, "rotary_cos": COS, "rotary_sin": SIN},
        "rotate new keys",
    ),
    "a short table": (
        {"rotary_cos": COS[:5], "rotary_sin": SIN[:5]},
        "has 5 positions and position 10 is needed",
    ),
    "a wide table": (
        {"rotary_cos": np.zeros((20, 17)), "rotary_sin": np.zeros((20, 17))},
        "rotary_dim up to 32",
    ),
    "other heads": ({"k": np.zeros((BATCH, NEW, 3, HEAD_DIM), np.float16)}, "k has shape"),
    "another dtype": (
        {"k": np.zeros((BATCH, NEW, 2, HEAD_DIM), np.float32)},
        "k has dtype float32",
    ),
    "no lengths": ({"cache_seqlens": None}, "cache_seqlens is None"),
    "packed": ({"cu_seqlens_q": [0, 2, 4, 6]}, "cu_seqlens_q is given: append first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_leave_the_cache_as_it_was(name: str) -> None:
    changed, message = REFUSED[name]
    given = {**inputs(), **changed}
    before = given["k_cache"].copy()
    with pytest.raises(ProblemError, match=message):
        attnprobe.attention_paged(**given, causal=True)
    np.testing.assert_array_equal(given["k_cache"], before)


def test_a_cache_that_is_read_only_is_refused() -> None:
    given = inputs()
    given["v_cache"].setflags(write=False)
    with pytest.raises(ProblemError, match="v_cache is read-only"):
        attnprobe.attention_paged(**given)


@pytest.mark.gpu
def test_on_the_gpu_rows_without_room_are_dropped() -> None:
    import cupy

    given = {name: cupy.asarray(array) for name, array in inputs().items()}
    before = given["k_cache"].copy()
    given["block_table"][0] = 2**31 - 1  # no page: written nowhere
    given["cache_seqlens"][1:] = PAGE * MAX_PAGES  # full
    attnprobe.attention_paged(**given)
    assert bool((given["k_cache"] == before).all())
