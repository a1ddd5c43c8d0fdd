"""The launch that finds the key blocks that a mask hides whole, before the kernel skips them."""

from __future__ import annotations

from attnprobe.engine.problem import Problem
from attnprobe.engine.step import Step

BITS = 32  # key blocks in a word, each looked at by a warp (kBits of mask_blocks.cuh)
_WARP_SIZE, _FLAG_BYTES = 32, 4


def shape(problem: Problem, block_m: int, block_n: int) -> tuple[int, ...]:
    """Return the shape of the words: (batch, num_heads, tiles of queries, words of a tile)."""
    rows, cols = problem.plane
    return (problem.batch, problem.num_heads, -(-rows // block_m), -(-cols // (BITS * block_n)))


def step(words: int) -> Step:
    """Return the launch that writes so many words."""
    file, entry = "attention/mask_blocks.cu", "attention_mask_blocks"
    return Step(file, entry, (words, 1, 1), (BITS * _WARP_SIZE, 1, 1), BITS * _FLAG_BYTES)
