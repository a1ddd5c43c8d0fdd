"""Cases made of the models' shapes: prefill, chunked prefill and decode around every tile edge.

FULL    as a GPU runs them, lengths of thousands
SMALL   the same edges, head ratios and features in the size of the emulator
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attnprobe.numerics.calls import Pages
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import Sizes
from attnprobe.numerics.model_shapes import SHAPES, ModelShape, small
from attnprobe.numerics.reference import Features

OFFSETS = (-1, 0, 1)  # keys past a tile edge
PAGE = 16
FILLS = ("normal", "real", "peaked", "rising", "sink", "one_hot", "scores_minus_100")


@dataclass(frozen=True)
class Phase:
    """One way in which a model calls its attention.

    Attributes
    ----------
    name : what the case's name says.
    what : lengths and memory, for the tables.
    case : (shape, name, keys past a tile edge) -> the case.
    offsets : the keys past a tile edge that are tried.
    """

    name: str
    what: str
    case: Callable[[ModelShape, str, int], Case]
    offsets: tuple[int, ...] = OFFSETS


def features(shape: ModelShape) -> Features:
    """Return what a layer of this shape asks for; sinks are the same numbers each time."""
    sinks = None
    if shape.sinks:
        sinks = np.random.default_rng(shape.num_heads).normal(1.0, 1.0, shape.num_heads)
        sinks = sinks.astype(np.float32)
    return Features(
        causal=shape.causal, window_size=shape.window_size, softcap=shape.softcap, sinks=sinks
    )


def _sizes(shape: ModelShape, seqlen_q: int, seqlen_k: int, batch: int = 1) -> Sizes:
    return Sizes(
        seqlen_q,
        seqlen_k,
        shape.num_heads,
        shape.num_kv_heads,
        shape.head_dim,
        batch,
        shape.v_head_dim,
    )


def _edge(shape: ModelShape, offset: int) -> int:
    """The last tile edge within the shape's length, and ``offset`` keys more."""
    return shape.length // shape.edge * shape.edge + offset


def _prefill(shape: ModelShape, name: str, offset: int) -> Case:
    length = _edge(shape, offset)
    sizes = _sizes(shape, length, length)
    return Case(name, sizes, "bf16", features(shape), shape.layout, FILLS)


def _chunk(shape: ModelShape, name: str, offset: int) -> Case:
    """The last queries of a sequence whose first part is in the cache already."""
    length, chunk = _edge(shape, offset), shape.tiles[0] + 1
    return Case(name, _sizes(shape, chunk, length), "bf16", features(shape), fills=FILLS)


def _decode(shape: ModelShape, name: str, offset: int) -> Case:
    """One query to each sequence; their lengths end around edges of tiles and pages."""
    edge = shape.tiles[1]
    lengths = (1, PAGE + offset, edge + offset, _edge(shape, offset))
    return Case(
        name,
        _sizes(shape, 1, max(lengths)),
        "bf16",
        features(shape),
        fills=FILLS,
        lengths=tuple((1, length) for length in lengths),
        pages=Pages(PAGE),
    )


def _packed(shape: ModelShape, name: str, offset: int) -> Case:
    """Whole sequences one behind the other, as an encoder or a batch of prompts has them."""
    edges = (1, shape.tiles[0] + offset, shape.tiles[1] + offset, _edge(shape, offset) // 2)
    return Case(
        name,
        _sizes(shape, max(edges), max(edges)),
        "bf16",
        features(shape),
        fills=FILLS,
        lengths=tuple((length, length) for length in edges),
    )


PHASES: tuple[Phase, ...] = (
    Phase("prefill", "all queries see the keys before them", _prefill),
    Phase("chunk", "a tile of queries and one more, at the end of all keys", _chunk),
    Phase("decode", "a query each for sequences of 1, a page, a tile and all keys, paged", _decode),
    Phase("packed", "sequences of 1, a tile and half of all tokens, packed", _packed, (1,)),
)


def _asked(shape: ModelShape) -> tuple[Phase, ...]:
    """Encoders have no cache; the absorbed form of DeepSeek's attention is for decoding."""
    if not shape.causal:
        return tuple(phase for phase in PHASES if phase.name in ("prefill", "packed"))
    if shape.v_head_dim and shape.num_kv_heads == 1:
        return tuple(phase for phase in PHASES if phase.name in ("chunk", "decode"))
    return PHASES


def _cases(change: Callable[[ModelShape], ModelShape], suffix: str) -> tuple[Case, ...]:
    return tuple(
        phase.case(change(shape), f"{shape.name}, {phase.name}, edge {offset:+d}{suffix}", offset)
        for shape in SHAPES
        for phase in _asked(shape)
        for offset in phase.offsets
    )


FULL: tuple[Case, ...] = _cases(lambda shape: shape, "")
SMALL: tuple[Case, ...] = _cases(small, ", small")
