"""Fills that set the scores: peaked, a sink, rising, far from zero, equal, one key alone.

Scores are set for the default scale, 1 / sqrt(head_dim); another scale or a softcap changes them
and leaves the data sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

from attnprobe.numerics.fill_row import EXACT, QKV, Array, Fill, Sizes, normal

# By how much the best key beats the next, natural units: from hardly to past float32's range of P.
MARGINS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
ALONE = 128.0  # exp(-128) is 0 in float32: one key has all the mass, exactly
SINK_MASS = 0.7
# Steps of the maximum from tile to tile, in powers of two of the softmax's base-2 exponent.
STEP_EXPONENTS = range(-3, 7)
JUST = 2.0**-8
TILES = (16, 32, 64, 128)  # keys a tile
RISES = 8  # tiles over which the maximum rises; after more of them float32 scores get coarse


def _code(keys: Array, head_dim: int, seqlen_k: int) -> tuple[Array, int]:
    """Code words of +-1 over all channels, and the channels that tell two words apart at least."""
    bits = max(1, (max(seqlen_k, 2) - 1).bit_length())
    channel = np.arange(head_dim) % bits
    return 1.0 - 2.0 * (keys[..., None] >> channel & 1), head_dim // bits


def _winners(rng: np.random.Generator, sizes: Sizes) -> Array:
    """The key that wins each row, (batch, seqlen_q, num_heads): for half of them a causal one."""
    shape = sizes.q_shape[:3]
    aligned = np.arange(sizes.seqlen_q)[None, :, None] + sizes.seqlen_k - sizes.seqlen_q
    anywhere = rng.integers(0, max(sizes.seqlen_k, 1), shape)
    past = anywhere % (np.maximum(aligned, 0) + 1)
    return np.asarray(np.where(rng.random(shape) < 0.5, past, anywhere))


def _won(sizes: Sizes, seed: int, margins: tuple[float, ...]) -> tuple[Array, Array]:
    """Q and K with one key ahead in each row; the margin goes through ``margins`` row by row."""
    if 0 in (sizes.seqlen_q, sizes.seqlen_k):
        return np.zeros(sizes.q_shape), np.zeros(sizes.k_shape)
    rng = np.random.default_rng(seed)
    order = np.stack(
        [
            [rng.permutation(sizes.seqlen_k) for _ in range(sizes.num_kv_heads)]
            for _ in range(sizes.batch)
        ]
    )  # which word each key has
    winners = _winners(rng, sizes)
    words, apart = _code(order.transpose(0, 2, 1), sizes.head_dim, sizes.seqlen_k)
    kv_head = np.arange(sizes.num_heads) // sizes.group
    batch = np.arange(sizes.batch)[:, None, None]
    asked, _ = _code(order[batch, kv_head, winners], sizes.head_dim, sizes.seqlen_k)
    number = np.arange(sizes.seqlen_q)[:, None] + np.arange(sizes.num_heads) + seed
    margin = np.array(margins)[number % len(margins)]
    strength = margin * math.sqrt(sizes.head_dim) / (2 * apart)
    return asked * strength[None, :, :, None], words


def _peaked(sizes: Sizes, seed: int) -> QKV:
    q, k = _won(sizes, seed, MARGINS)
    return q, k, normal(np.random.default_rng(seed + 1), sizes.v_shape)


def named_keys(sizes: Sizes) -> Array:
    """V that names its key: 1 + j // width in channel j % width of key j, 0 elsewhere."""
    keys, width = np.arange(sizes.seqlen_k), sizes.v_shape[3]
    v = np.zeros(sizes.v_shape)
    v[:, keys, :, keys % width] = (1 + keys // width)[:, None, None]
    return v


def _one_hot(sizes: Sizes, seed: int) -> QKV:
    q, k = _won(sizes, seed, (ALONE,))
    return q, k, named_keys(sizes)


def _equal_one_hot(sizes: Sizes, seed: int) -> QKV:
    rng = np.random.default_rng(seed)
    return np.zeros(sizes.q_shape), normal(rng, sizes.k_shape), named_keys(sizes)


def _equal(sizes: Sizes, seed: int) -> QKV:
    rng = np.random.default_rng(seed)
    one = normal(rng, (sizes.batch, 1, sizes.num_kv_heads, sizes.head_dim))
    k = np.broadcast_to(one, sizes.k_shape)
    return normal(rng, sizes.q_shape), k, normal(rng, sizes.v_shape)


def _sink(sizes: Sizes, seed: int) -> QKV:
    """Channel 0 is the sink's: key 0 alone has something there, and nothing elsewhere."""
    rng = np.random.default_rng(seed)
    q, k, v = (normal(rng, shape) for shape in (sizes.q_shape, sizes.k_shape, sizes.v_shape))
    k[..., 0] = 0.0
    k[:, :1] = 0.0
    k[:, :1, :, 0] = 1.0
    # The others' mean exp(score), given q, for K of N(0,1).
    others = np.square(q[..., 1:]).sum(axis=-1) / (2 * sizes.head_dim)
    wanted = math.log(SINK_MASS / (1 - SINK_MASS) * max(sizes.seqlen_k - 1, 1)) + others
    q[..., 0] = wanted * math.sqrt(sizes.head_dim)
    return q, k, v


def _around(level: float) -> Callable[[Sizes, int], QKV]:
    """Scores near ``level``: channel 0 of Q and K multiplies to it."""

    def values(sizes: Sizes, seed: int) -> QKV:
        rng = np.random.default_rng(seed)
        q, k, v = (normal(rng, shape) for shape in (sizes.q_shape, sizes.k_shape, sizes.v_shape))
        root = math.sqrt(abs(level) * math.sqrt(sizes.head_dim))
        q[..., 0], k[..., 0] = root, math.copysign(root, level)
        return q, k, v

    return values


def _rising(sizes: Sizes, seed: int) -> QKV:
    """Each row climbs in tiles of one size, by one step: 2^e (1 +- 2^-8) in base-2 exponents.

    Every second row climbs from the last tile to the first: kernels go either way.

    Channels come in pairs, one pair for each tile size: K has the number of the tile in both, Q the
    step in two pieces, since one 16-bit number cannot tell 2^e (1 + 2^-8) from 2^e. The first key
    of every 16 stands on the level itself, the others below it: they decide no maximum.
    """
    rng = np.random.default_rng(seed)
    q, k, v = (normal(rng, shape) for shape in (sizes.q_shape, sizes.k_shape, sizes.v_shape))
    q, k = 0.25 * q, 0.5 * k
    keys = np.arange(sizes.seqlen_k)
    leaders = keys % 16 == 0
    k[:, leaders] = 0.0
    for i, tile in enumerate(TILES):
        # Odd K/V heads rise at the end of the keys, even ones at the beginning.
        first = max(0, -(-sizes.seqlen_k // tile) - 1 - RISES)
        start = np.where(np.arange(sizes.num_kv_heads) % 2, first, 0)
        level = np.clip(keys[:, None] // tile - start, 0, RISES)
        k[..., 2 * i] = k[..., 2 * i + 1] = level
    below = 2 * len(TILES)
    k[..., below] = np.where(leaders, 0.0, -2.0 - keys % 16 / 8)[:, None]
    q[..., : below + 1] = _climbs(sizes, seed)
    return q, k, v


def _climbs(sizes: Sizes, seed: int) -> Array:
    """The first channels of Q: the step in the pair of the row's tile size, and 1 nat of drop."""
    steps = [2.0**e * (1 + sign * JUST) for e in STEP_EXPONENTS for sign in (-1, 1)]
    kinds = len(steps) * len(TILES)
    rows = np.arange(sizes.seqlen_q)[:, None] + 5 * np.arange(sizes.num_heads)
    kind = (7 * rows + 11 * seed) % kinds  # 7 and the number of kinds share no factor
    root = math.sqrt(sizes.head_dim)
    step = np.array(steps)[kind // len(TILES)] * math.log(2) * root
    coarse = step.astype(ml_dtypes.bfloat16).astype(np.float64)
    down = rows // len(TILES) % 2 == 1
    step, coarse = np.where(down, -step, step), np.where(down, -coarse, coarse)
    climbs = np.zeros((*kind.shape, 2 * len(TILES) + 1))
    for i in range(len(TILES)):
        chosen = kind % len(TILES) == i
        climbs[..., 2 * i] = np.where(chosen, coarse, 0.0)
        climbs[..., 2 * i + 1] = np.where(chosen, step - coarse, 0.0)
    climbs[..., -1] = root
    return climbs


ROWS: tuple[Fill, ...] = (
    Fill(
        "peaked",
        f"one key wins each row by {MARGINS[0]:g} to {MARGINS[-1]:g}, a margin a row; V N(0,1)",
        "one wrong key is the whole answer: masks, key order, P's fragments, a lost tile",
        _peaked,
    ),
    Fill(
        "sink",
        "N(0,1), and key 0 takes 70 % of the mass of a row that sees all keys",
        "what happens to the first key: a first tile dropped, doubled or masked; small other terms",
        _sink,
    ),
    Fill(
        "rising",
        "row maxima rise over eight tiles of 16, 32, 64 or 128 keys by 2^e (1 +- 2^-8), e from -3 "
        "to 6, in half of the rows from the last tile to the first",
        "every rescale has work to do: factors missing, of other rows, skipped under a threshold; "
        "P beyond a narrow format",
        _rising,
    ),
    Fill(
        "scores_minus_100",
        "scores -100 + N(0,1)",
        "exp underflows unless the maximum is taken off: a tail scored 0 instead of masked wins",
        _around(-100.0),
    ),
    Fill(
        "scores_plus_1000",
        "scores 1000 + N(0,1)",
        "exp overflows unless the maximum is taken off; LSE keeps its digits",
        _around(1000.0),
    ),
    Fill(
        "equal_scores",
        "all keys the same vector; V N(0,1)",
        "O is a mean: counts of keys, tiles lost or doubled, weights of splits",
        _equal,
    ),
    Fill(
        "one_hot",
        "one key has all of a row's mass; V is the key's number in the key's channel",
        "O names the key, exactly: masks off by one, shifted rows, pages, heads, fragments",
        _one_hot,
        (EXACT,),
    ),
    Fill(
        "equal_one_hot",
        "Q = 0; V is the key's number in the key's channel",
        "O shows which keys were seen and how often: masks off by one, tails, tiles",
        _equal_one_hot,
        (EXACT,),
    ),
)
