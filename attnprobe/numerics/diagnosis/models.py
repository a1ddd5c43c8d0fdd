"""What a fault's model is, and the pieces that several of them are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attnprobe.engine.decode import DECODE
from attnprobe.engine.variants import VARIANTS
from attnprobe.numerics.diagnosis.evidence import F64, I64, Answer, Evidence

# Keys to a tile of our kernels, and the steps that other kernels take.
KEY_TILES = tuple(sorted({16, 32, 64, 128, *(row.block_n for row in VARIANTS)}))
MOST_SPLITS = 8
FEW_ROWS = 64  # up to which kernels split the keys
# By how much a score must pass a maximum that follows lazily: a factor of 2^8 of P.
SLACK = 8.0 * math.log(2.0)


class Walk(NamedTuple):
    """How tiles of keys are worked on.

    Attributes
    ----------
    keys : of a tile.
    backward : from the last to the first.
    warps : that take every so many-th tile each, with a maximum of their own.
    splits : stretches of tiles, each worked on alone.
    lazy : whether the maximum that P is taken against stays until a score passes it by SLACK.
    """

    keys: int
    backward: bool = False
    warps: int = 1
    splits: int = 1
    lazy: bool = False

    def __str__(self) -> str:
        apart = f", {self.warps} warps apart" if self.warps > 1 else ""
        split = f", {self.splits} splits" if self.splits > 1 else ""
        return f"tiles of {self.keys} keys{apart}{split}"

    def streams(self, tiles: int) -> I64:
        """Return who works on each tile, (tiles,): tiles of one stream share a maximum."""
        number = np.arange(tiles)
        begins = np.arange(self.splits + 1) * tiles // self.splits
        split = np.searchsorted(begins, number, side="right") - 1
        return np.asarray(split * self.warps + (number - begins[split]) % self.warps)


def walks(evidence: Evidence) -> tuple[Walk, ...]:
    """Return every walk that differs for so many keys; split ones where there are few rows."""
    count = evidence.seqlen_k
    plain = [Walk(keys, back) for keys in KEY_TILES if keys < count for back in (False, True)]
    plain += [Walk(keys, True, lazy=True) for keys in KEY_TILES if keys < count]
    splits = range(1, MOST_SPLITS + 1) if evidence.count <= FEW_ROWS else (1,)
    apart = {
        Walk(row.block_n, False, row.warps, number)
        for row in DECODE
        for number in splits
        if number * row.block_n < count
    }
    different: dict[tuple[int, ...], Walk] = {}
    for walk in (*plain, *sorted(apart)):
        streams = walk.streams(-(-count // walk.keys))
        different.setdefault((walk.keys, walk.backward, walk.lazy, *streams.tolist()), walk)
    return tuple(different.values())


class Model(NamedTuple):
    """What one kernel with a fault would give.

    Attributes
    ----------
    key : names the parameter; the same fault in another head has the same key.
    text : what is wrong, with the parameter.
    answer : O and LSE.
    """

    key: str
    text: str
    answer: Answer


Models = Iterator[Model]


@dataclass(frozen=True)
class Fault:
    """One fault that the diagnosis knows.

    Attributes
    ----------
    name : what a Guess calls it.
    what : what is wrong, without the parameter.
    models : the answers that it would give, one for each value of its parameter.
    fitted : how many numbers are fitted to the output, 0, 1 or many (2): those explain much of
        anything, and are believed only where nothing else explains as much.
    """

    name: str
    what: str
    models: Callable[[Evidence], Models]
    fitted: int = 0


def exchanged(count: int, step: int) -> I64:
    """Return 0 ... count - 1 with partners i and i ^ step exchanged, where both exist."""
    index = np.arange(count)
    partner = index ^ step
    return np.where(partner < count, partner, index)


def whole_blocks(evidence: Evidence) -> bool:
    """Whether the rows are whole blocks of 16, but for the last block of all."""
    rows = evidence.queries
    return bool((rows - np.arange(len(rows)) % 16 == rows[np.arange(len(rows)) // 16 * 16]).all())


def quarters(rows: F64) -> F64:
    """Return blocks of 16 x 16 with the two 8 x 8 quarters off the diagonal exchanged.

    What does not fill a block is filled with zeros, as tiles in shared memory are.
    """
    return _in_blocks(rows, 16, _exchanged_quarters)


def transposed(rows: F64) -> F64:
    """Return blocks of 8 x 8 transposed; what does not fill a block is filled with zeros."""
    return _in_blocks(rows, 8, lambda tile: tile.swapaxes(1, 3))


def rows_exchanged(rows: F64, step: int) -> F64:
    """Return rows i and i ^ step exchanged; rows past the last one are zeros."""
    filled = np.pad(rows, ((0, -len(rows) % (2 * step)), (0, 0)))
    return np.asarray(filled[np.arange(len(rows)) ^ step])


def _in_blocks(rows: F64, size: int, change: Callable[[F64], F64]) -> F64:
    """``change`` takes and returns (row blocks, size, column blocks, size)."""
    height, width = rows.shape
    filled = np.pad(rows, ((0, -height % size), (0, -width % size)))
    tiles = filled.reshape(len(filled) // size, size, filled.shape[1] // size, size)
    return change(tiles).reshape(filled.shape)[:height, :width]


def _exchanged_quarters(tiles: F64) -> F64:
    changed = tiles.copy()
    changed[:, :8, :, 8:], changed[:, 8:, :, :8] = tiles[:, 8:, :, :8], tiles[:, :8, :, 8:]
    return changed


class Online(NamedTuple):
    """The online softmax of some rows, tile by tile.

    Attributes
    ----------
    weights : (rows, keys), exp(S - the maximum at the key's tile), 0 where masked.
    later : (rows, keys), what the weights of the key's tile are multiplied with by the end.
    factors : (rows, tiles), by which what came before the tile is multiplied there.
    merge : (rows, streams), by which what a stream has at the end is multiplied.
    stream : (tiles,), who works on each tile.
    tile : (keys,), when each key's tile is worked on: 0, 1, ...
    total : (rows,), the sum that divides.
    lse : (rows,).
    """

    weights: F64
    later: F64
    factors: F64
    merge: F64
    stream: I64
    tile: I64
    total: F64
    lse: F64


def _accumulated(of_tiles: F64) -> F64:
    """Return the running maximum of each row."""
    return np.asarray(np.maximum.accumulate(of_tiles, axis=1))


def _followed(of_tiles: F64) -> F64:
    """Return the maxima of each row that follow lazily."""
    found = np.full_like(of_tiles, -np.inf)
    now = np.full(len(of_tiles), -np.inf)
    for tile in range(of_tiles.shape[1]):
        grown = of_tiles[:, tile] > now + SLACK
        now = np.where(grown, of_tiles[:, tile], now)
        found[:, tile] = now
    return found


def online(evidence: Evidence, walk: Walk) -> Online:
    """Return the online softmax of one walk over the keys."""
    count = evidence.seqlen_k
    masked = np.where(evidence.seen, evidence.scores, -np.inf)
    tile = np.arange(count) // walk.keys
    if walk.backward:
        tile = tile[-1] - tile
    of_tiles = np.maximum.reduceat(masked, np.arange(0, count, walk.keys), axis=1)
    of_tiles = of_tiles[:, ::-1] if walk.backward else of_tiles
    stream = walk.streams(of_tiles.shape[1])
    running, before = np.empty_like(of_tiles), np.full_like(of_tiles, -np.inf)
    for number in np.unique(stream):
        own = np.flatnonzero(stream == number)
        running[:, own] = (_followed if walk.lazy else _accumulated)(of_tiles[:, own])
        before[:, own[1:]] = running[:, own[:-1]]
    shift = np.where(running == -np.inf, 0.0, running)
    weights = np.where(evidence.seen, np.exp(masked - shift[:, tile]), 0.0)
    last = np.maximum(running.max(axis=1), evidence.sink)
    last = np.where(last == -np.inf, 0.0, last)
    later = np.exp(np.where(running == -np.inf, 0.0, shift - last[:, None]))[:, tile]
    total = (weights * later).sum(axis=1) + np.exp(evidence.sink - last)
    # By how much what stands before a tile is multiplied there: 1 where nothing does.
    factors = np.where(before == -np.inf, 1.0, np.exp(before - shift))
    ends = np.stack([running[:, stream == number][:, -1] for number in np.unique(stream)], axis=1)
    merge = np.exp(ends - last[:, None])
    return Online(weights, later, factors, merge, stream, tile, total, last + np.log(total))
