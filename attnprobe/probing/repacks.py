"""A repack as a launch: D holds numbered elements, and each register of the operand is expected.

The expectation is made from the two fragments alone, not from the recipe: the matrix that D spells
is laid out as the operand, and a wrong move shows as a wrong number.
"""

from __future__ import annotations

import numpy as np

from attnprobe.backends.base import Array, Launch
from attnprobe.compile import load_source
from attnprobe.layouts import Operand
from attnprobe.layouts.questions.placement import Placement
from attnprobe.layouts.questions.recipe import Recipe
from attnprobe.layouts.questions.repack import Repack

BASE = 7  # digits 1 to 7 are exact in every format, 4-bit ones included


def launch(repack: Repack, recipe: Recipe) -> Launch:
    """Return the launch that runs ``recipe``: a block for each digit of the elements' numbers."""
    placement = repack.placed(recipe)
    given = d_words(placement)
    source, target = placement.source, placement.target
    body = " ".join(recipe.code().split("\n"))
    letter = target.name.lower()
    macros: dict[str, object] = {
        "D_TILES": placement.source_tiles,
        "D_WORDS": given.shape[2],
        "T_TILES": placement.target_tiles,
        "T_WORDS": target.registers * target.format.words,
        "LANES": source.fragment.lanes,
        f"REPACK({letter}, d, lane)": body,
    }
    shape = (given.shape[0], placement.target_tiles, macros["T_WORDS"], source.fragment.lanes)
    order = "k permuted" if recipe.order else "k in order"
    transposed = " transposed" if repack.transposed else ""
    return Launch(
        source=load_source("probe/repack.cu", macros),
        entry="repack",
        grid=(given.shape[0], 1, 1),
        block=(source.fragment.lanes, 1, 1),
        inputs=(given,),
        outputs=((shape, np.dtype(np.uint32)),),  # type: ignore[arg-type]
        label=(repack.source.ptx, "repack", f"{repack.target.ptx} {letter}{transposed}, {order}"),
    )


def d_words(placement: Placement) -> Array:
    """Return D's words: uint32, (digits, tiles, words, lanes)."""
    return np.stack([_words(digit, placement.source) for digit in _digits(_numbers(placement))])


def expected(placement: Placement, order: tuple[int, ...] = ()) -> Array:
    """Return the operand's words: uint32, (digits, tiles, words, lanes).

    Only the size of the region is taken from ``placement``. ``order`` is that of k, () as it is.
    """
    source, target = placement.source, placement.target
    tiles = source.fragment.scatter(_numbers(placement))
    if placement.transposed:
        tiles = tiles.swapaxes(-1, -2)
    across = placement.size[1] // tiles.shape[2]
    region = np.block([list(tiles[first : first + across])
                       for first in range(0, len(tiles), across)])  # fmt: skip
    if order:
        region = region.take(order, axis=target.axes.index("k"))
    rows, cols = target.fragment.rows, target.fragment.cols
    held = [
        target.fragment.gather(region[row : row + rows, col : col + cols])
        for row in range(0, region.shape[0], rows)
        for col in range(0, region.shape[1], cols)
    ]
    return np.stack([_words(digit, target) for digit in _digits(np.stack(held))])


def _numbers(placement: Placement) -> Array:
    shape = (placement.source.fragment.lanes, placement.source.fragment.elements)
    count = placement.source_tiles * shape[0] * shape[1]
    return np.arange(count).reshape(placement.source_tiles, *shape)


def _digits(number: Array) -> list[Array]:
    # Three digits number 343 elements, and so on; a product of digits would not be exact.
    digits = 1
    while BASE**digits <= number.max():
        digits += 1
    return [number // BASE**digit % BASE + 1 for digit in range(digits)]


def _words(values: Array, operand: Operand) -> Array:
    """Return values (tiles, lanes, elements) as words (tiles, words, lanes)."""
    words = operand.format.pack(operand.format.encode(values.astype(np.float64)))
    return np.ascontiguousarray(words.swapaxes(-1, -2))
