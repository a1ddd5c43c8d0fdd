"""Fills from real models: recorded layers, repeated and cut to the sizes that are asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attnprobe.numerics import real
from attnprobe.numerics.fill_row import QKV, Array, Fill, Sizes


def _layers_of(captured: real.Captured) -> Callable[[Sizes, int], QKV]:
    """Layers of one model, one per batch; axes that are too short repeat, too long are cut.

    Beyond the model's channels a head goes on with those of the next head.
    """

    def values(sizes: Sizes, seed: int) -> QKV:
        layers, numbers = real.load(captured), captured.layers
        chosen = [layers[numbers[(seed + b) % len(numbers)]] for b in range(sizes.batch)]
        shapes = (sizes.q_shape, sizes.k_shape, sizes.v_shape)
        q, k, v = (
            np.stack([_fitted(layer[i][0], shape[1:]) for layer in chosen])
            for i, shape in enumerate(shapes)
        )
        return q, k, v

    return values


def _fitted(array: Array, shape: tuple[int, ...]) -> Array:
    """Return ``array`` (seqlen, heads, head_dim) repeated and cut to ``shape``."""
    seqlen, heads, head_dim = array.shape
    position, head, channel = np.ogrid[tuple(slice(extent) for extent in shape)]
    chosen = (position % seqlen, (head + channel // head_dim) % heads, channel % head_dim)
    return np.asarray(array[chosen])


ROWS: tuple[Fill, ...] = (
    Fill(
        "real",
        "layers 0, 9, 15, 21, 29 of SmolLM2-135M-Instruct on 96 tokens of real text",
        "what a model asks: scores up to 28, most of a row's mass on few keys",
        _layers_of(real.SMOLLM2),
    ),
    Fill(
        "real_minilm",
        "layers 0 and 5 of all-MiniLM-L6-v2 on 53 tokens of real text",
        "what an encoder asks: broad rows, channels of very different size; 53 is prime, so that "
        "the text repeats at another place of every tile",
        _layers_of(real.MINILM),
    ),
)
