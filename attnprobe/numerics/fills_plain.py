"""Fills that draw every element from one distribution: tame, with outliers, on coarse grids."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from attnprobe.numerics.fill_row import EQUAL_COLUMNS, QKV, Array, Fill, Sizes, elementwise, normal

# Heavy tails stay below this, so that scores of wide heads are in float32's comfortable range.
GREATEST_TAIL = 256.0
V_OFFSET = 2.0


def _near_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.5 + 0.01 * rng.standard_normal(shape)


def _outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    rare = rng.random(shape) < 0.001
    return rng.standard_normal(shape) + 10.0 * rng.standard_normal(shape) * rare


def _outliers_100(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    rare = rng.random(shape) < 0.0005
    return rng.standard_normal(shape) + 100.0 * rng.standard_normal(shape) * rare


def _heavy_tails(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with two degrees of freedom: a normal over the root of a mean square of two."""
    spread = np.sqrt(np.square(rng.standard_normal((2, *shape))).mean(axis=0))
    tails = 0.5 * rng.standard_normal(shape) / np.maximum(spread, 1e-3)
    return np.asarray(np.clip(tails, -GREATEST_TAIL, GREATEST_TAIL))


def _v_offset(sizes: Sizes, seed: int) -> QKV:
    rng = np.random.default_rng(seed)
    q, k, v = (normal(rng, shape) for shape in (sizes.q_shape, sizes.k_shape, sizes.v_shape))
    return q, k, v + V_OFFSET


def _constant_v(sizes: Sizes, seed: int) -> QKV:
    rng = np.random.default_rng(seed)
    q, k = normal(rng, sizes.q_shape), normal(rng, sizes.k_shape)
    constant = rng.integers(1, 8, (sizes.batch, 1, sizes.num_kv_heads, 1)) * 0.75
    return q, k, np.broadcast_to(constant, sizes.v_shape)


def activations(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """N(0,1) times a scale per channel, a quarter to four, with one channel of 32 ten times that.

    The channels that stand out are the same in every row, as those of a trained model are.
    """
    scales = 2.0 ** rng.integers(-2, 3, shape[-1])
    scales = np.where(rng.random(shape[-1]) < 1 / 32, 10.0 * scales, scales)
    return np.asarray(rng.standard_normal(shape) * scales)


def _blocks(values: Array, size: int) -> Array:
    """``values`` in blocks of ``size`` along the last axis, the last block filled with zeros."""
    missing = -values.shape[-1] % size
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], padded.shape[-1] // size, size)


def _joined(blocks: Array, width: int) -> Array:
    count, size = blocks.shape[-2:]
    return np.asarray(blocks.reshape(*blocks.shape[:-2], count * size)[..., :width])


def on_nvfp4(values: Array) -> Array:
    """Round to e2m1 numbers with an e4m3 scale for every 16 channels, as NVFP4 keeps them."""
    blocks = _blocks(values, 16)
    scale = (np.abs(blocks).max(axis=-1, keepdims=True) / 6).astype(ml_dtypes.float8_e4m3fn)
    scale = np.where(scale == 0, 1, scale.astype(np.float64))
    codes = (blocks / scale).astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return _joined(codes * scale, values.shape[-1])


def on_q4(values: Array) -> Array:
    """Round to 16 steps with an f16 scale for every 32 channels: the extreme one is step -8."""
    blocks = _blocks(values, 32)
    place = np.abs(blocks).argmax(axis=-1)[..., None]
    extreme = np.take_along_axis(blocks, place, axis=-1)
    scale = (extreme / -8).astype(np.float16).astype(np.float64)
    scale = np.where(scale == 0, 1, scale)
    return _joined(np.clip(np.rint(blocks / scale), -8, 7) * scale, values.shape[-1])


def on_q8(values: Array) -> Array:
    """Round to whole steps of -127 to 127 with an f16 scale for every 32 channels."""
    blocks = _blocks(values, 32)
    scale = (np.abs(blocks).max(axis=-1, keepdims=True) / 127).astype(np.float16)
    scale = np.where(scale == 0, 1, scale.astype(np.float64))
    return _joined(np.clip(np.rint(blocks / scale), -127, 127) * scale, values.shape[-1])


ROWS: tuple[Fill, ...] = (
    Fill(
        "near_uniform",
        "0.5 + 0.01 N(0,1)",
        "the bad example: every row looks like every other, so exchanged rows and fragments do "
        "not show",
        elementwise(_near_uniform),
    ),
    Fill(
        "normal",
        "N(0,1)",
        "every row different, scores of a few units: exchanged rows, keys, heads, fragments",
        elementwise(normal),
    ),
    Fill(
        "outliers",
        "N(0,1) + N(0,100) Bernoulli(0.001)",
        "the row maximum jumps between key blocks, as activations make it: rescaling, fp8 ranges",
        elementwise(_outliers),
    ),
    Fill(
        "outliers_100",
        "N(0,1) + N(0,10000) Bernoulli(0.0005)",
        "one element decides a row's softmax and another one its value: ranges, lost low bits",
        elementwise(_outliers_100),
    ),
    Fill(
        "heavy_tails",
        "half of Student's t with two degrees of freedom",
        "every magnitude at once: sums in 16 bits, maxima that arrive late",
        elementwise(_heavy_tails),
    ),
    Fill(
        "v_offset",
        "N(0,1); V 2 + N(0,1)",
        "the mean of V does not vanish: zero output, a wrong sum or a lost tile cannot hide in the "
        "noise of long rows",
        _v_offset,
    ),
    Fill(
        "constant_v",
        "Q, K N(0,1); V one number for each K/V head",
        "O is that number: weights that do not sum to 1, columns computed in different ways",
        _constant_v,
        (EQUAL_COLUMNS,),
    ),
    Fill(
        "nvfp4",
        "activations with channel scales, on e2m1 steps with an e4m3 scale for 16 channels",
        "statistics of a model in NVFP4: many equal values, few steps, channels that stand out",
        elementwise(lambda rng, shape: on_nvfp4(activations(rng, shape))),
    ),
    Fill(
        "q4",
        "activations with channel scales, on 16 steps with a scale for 32 channels",
        "statistics of a model in Q4: ties of scores, channels that stand out",
        elementwise(lambda rng, shape: on_q4(activations(rng, shape))),
    ),
    Fill(
        "q8",
        "activations with channel scales, on 255 steps with a scale for 32 channels",
        "statistics of a model in Q8: channels that stand out, scores of hundreds",
        elementwise(lambda rng, shape: on_q8(activations(rng, shape))),
    ),
)
