"""The launch that finds the key blocks that a mask hides whole, before the kernel skips them."""

from __future__ import annotations

from attnprobe.engine.problem import Problem
from attnprobe.engine.step import Step

BITS = 32  # key blocks in a word, each looked at by a warp (kBits of mask_blocks.cuh)
MOST_BLOCKS = 512  # of the launch, where words of one head are fewer: what fills a device once
_WARP_SIZE, _FLAG_BYTES = 32, 4


def shape(problem: Problem, block_m: int, block_n: int) -> tuple[int, ...]:
    """Return the shape of the words: (batch, num_heads, tiles of queries, words of a tile)."""
    rows, cols = problem.plane
    return (problem.batch, problem.num_heads, -(-rows // block_m), -(-cols // (BITS * block_n)))


def step(shape: tuple[int, ...]) -> Step:
    """Return the launch that writes words of such a shape."""
    batch, heads, tiles, words = shape
    # Of a mask that all heads share most blocks would have nothing to do.
    of_heads = min(max(1, batch * heads), -(-MOST_BLOCKS // max(1, tiles * words)))
    file, entry = "attention/mask_blocks.cu", "attention_mask_blocks"
    grid = (of_heads * tiles * words, 1, 1)
    return Step(file, entry, grid, (BITS * _WARP_SIZE, 1, 1), BITS * _FLAG_BYTES)
