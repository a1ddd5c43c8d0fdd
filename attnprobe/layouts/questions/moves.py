"""The moves that make an operand's registers out of D's: convert, exchange between lanes, permute.

Each register of the operand is a small expression over D's registers: a ``Node``. Equal nodes are
equal values, so what two registers share is written once. Words are numbered as the registers are;
a register of 64 bits counts as two words.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UnsupportedError
from attnprobe.layouts.questions import closed
from attnprobe.layouts.questions.convert import KEEP, Conversion, conversion
from attnprobe.layouts.questions.placement import Placement

Array = npt.NDArray[Any]
_JUDGED = 8  # registers by which a way of packing is judged; the others repeat their pattern


@dataclass(frozen=True)
class Given:
    """A word of D as the product left it; ``word`` counts through all tiles."""

    word: int


@dataclass(frozen=True)
class Converted:
    """Elements of D, in a narrower format, packed into one word, the first in its low bits."""

    elements: tuple[int, ...]


@dataclass(frozen=True)
class Exchanged:
    """What another lane holds: lane l takes the value of lane ``lanes[l]``."""

    value: Node
    lanes: tuple[int, ...]


@dataclass(frozen=True)
class Permuted:
    """Four bytes of two words: lane l's byte i is number ``selectors[l] >> 4 * i & 7`` of them."""

    low: Node
    high: Node
    selectors: tuple[int, ...]


Node = Given | Converted | Exchanged | Permuted


@dataclass(frozen=True, eq=False)
class _Units:
    """The placement in units that move as one: bytes, halves or words of a register.

    ``lane`` and ``unit`` have the shape (registers of all target tiles, lanes, units in a word).
    """

    lane: Array
    unit: Array
    bits: int
    sources: int  # units that a lane has in all tiles of D
    group: int  # elements of D in one unit

    @property
    def in_word(self) -> int:
        return 32 // self.bits


def plan(placement: Placement) -> tuple[Node, ...]:
    """Return each word of the operand, tile by tile, as an expression over the words of D.

    Raises
    ------
    UnsupportedError
        If no instruction converts the format, an element narrower than a byte would have to move
        on its own, or a value would have to cross from one warp to another.
    """
    made = conversion(placement.source.format, placement.target.format)
    units = _units(placement)
    if made is KEEP:
        packed = [tuple(range(first, first + units.in_word))
                  for first in range(0, units.sources, units.in_word)]  # fmt: skip
    else:
        packed = _best_packing(units, made)
    return tuple(_word(units, packed, made, number) for number in range(len(units.lane)))


def _units(placement: Placement) -> _Units:
    bits = placement.target.format.bits
    lane, element = placement.lane, placement.element
    sources, group = placement.source_tiles * placement.source.fragment.elements, 1
    if bits == 64:
        lane = np.repeat(lane, 2, axis=-1)
        element = np.stack([2 * element, 2 * element + 1], axis=-1).reshape(lane.shape)
        bits, sources = 32, 2 * sources
    elif bits < 8:
        group = 8 // bits
        lane, element = _bytes(lane, element, group)
        bits, sources = 8, sources // group
    if (lane // 32 != np.arange(lane.shape[1])[:, None] // 32).any():
        raise UnsupportedError(
            "some value would have to cross from one warp to another: that takes shared memory"
        )
    in_word = 32 // bits
    tiles, lanes, count = lane.shape
    shape = (tiles, lanes, count // in_word, in_word)
    lane, element = (each.reshape(shape).swapaxes(1, 2).reshape(-1, lanes, in_word)
                     for each in (lane, element))  # fmt: skip
    return _Units(lane, element, bits, sources, group)


def _bytes(lane: Array, element: Array, count: int) -> tuple[Array, Array]:
    """Return lanes and elements by bytes of ``count`` elements that stay together."""
    shape = (*lane.shape[:-1], -1, count)
    lanes, elements = lane.reshape(shape), element.reshape(shape)
    together = (lanes == lanes[..., :1]).all() and (
        elements == elements[..., :1] + np.arange(count)
    ).all()
    if not together or (elements[..., 0] % count).any():
        raise UnsupportedError(
            "elements narrower than a byte would have to move one by one; D holds them apart"
        )
    return lanes[..., 0], elements[..., 0] // count


# --- packing --------------------------------------------------------------------------------------


def _best_packing(units: _Units, made: Conversion) -> list[tuple[int, ...]]:
    """Return which units to pack into which word, so that the fewest words must travel."""
    best: list[tuple[int, ...]] = []
    least = None
    for packed in _packings(units, made):
        cost = _cost(units, packed, made)
        if least is None or cost < least:
            best, least = packed, cost
        if not least:
            break
    return best


def _packings(units: _Units, made: Conversion) -> list[list[tuple[int, ...]]]:
    """Return the ways to pack: every choice of binary digits of the unit number, in every order."""
    weights, weight = [], 1
    while units.sources // weight % 2 == 0:
        weights.append(weight)
        weight *= 2
    wanted = units.in_word.bit_length() - 1
    if len(weights) < wanted:
        raise UnsupportedError(
            f"D gives a lane {units.sources} parts; they fill no whole word of {units.in_word}"
        )
    ways = []
    for chosen in permutations(weights, wanted):
        if made.packed and chosen[0] != 1:  # the register holds two elements already
            continue
        inside = [sum(weight for bit, weight in enumerate(chosen) if part >> bit & 1)
                  for part in range(units.in_word)]  # fmt: skip
        firsts = [unit for unit in range(units.sources)
                  if not any(unit & weight for weight in chosen)]  # fmt: skip
        ways.append([tuple(first + step for step in inside) for first in firsts])
    return ways


def _cost(units: _Units, packed: list[tuple[int, ...]], made: Conversion) -> int:
    nodes = {_word(units, packed, made, number) for number in range(min(_JUDGED, len(units.lane)))}
    every = set().union(*(parts(node) for node in nodes))
    return 2 * count(every, Exchanged) + count(every, Permuted)


def parts(node: Node) -> set[Node]:
    """Return the node and all that it is made of."""
    match node:
        case Exchanged(value):
            return {node} | parts(value)
        case Permuted(low, high):
            return {node} | parts(low) | parts(high)
    return {node}


def count(nodes: set[Node], kind: type[Node]) -> int:
    """Return how many of the nodes are of one kind."""
    return sum(isinstance(node, kind) for node in nodes)


# --- one register ---------------------------------------------------------------------------------


def _word(units: _Units, packed: list[tuple[int, ...]], made: Conversion, number: int) -> Node:
    """Return one word of the operand: which words of which lanes, and which of their bytes."""
    place = {
        unit: (word, part) for word, each in enumerate(packed) for part, unit in enumerate(each)
    }
    lanes = units.lane.shape[1]
    fetched: dict[
        tuple[int, int], dict[int, int]
    ] = {}  # (word, which of its lanes) -> lane -> lane
    wanted = []  # of each lane: (key in fetched, part) of each unit
    for lane in range(lanes):
        seen: dict[int, list[int]] = {}
        needs = []
        for part in range(units.in_word):
            word, source_part = place[int(units.unit[number, lane, part])]
            giver = int(units.lane[number, lane, part])
            known = seen.setdefault(word, [])
            if giver not in known:
                known.append(giver)
            key = (word, known.index(giver))
            fetched.setdefault(key, {})[lane] = giver
            needs.append((key, source_part))
        wanted.append(needs)
    nodes = []
    for (word, _), givers in fetched.items():
        elements = tuple(
            unit * units.group + each for unit in packed[word] for each in range(units.group)
        )
        value = Given(word) if made is KEEP else Converted(elements)
        nodes.append(_travelled(value, givers, lanes))
    return _assembled(nodes, list(fetched), wanted, units.bits // 8)


def _travelled(value: Node, givers: dict[int, int], lanes: int) -> Node:
    if all(lane == giver for lane, giver in givers.items()):
        return value
    return Exchanged(value, closed.extended(givers, lanes))


def _assembled(
    nodes: list[Node],
    keys: list[tuple[int, int]],
    wanted: list[list[tuple[tuple[int, int], int]]],
    unit_bytes: int,
) -> Node:
    """Return the word whose bytes come from ``nodes``: one permute for two, two for three, ..."""
    # Of each lane, for each byte of the result: which node has it, and as which byte.
    owners = [[keys.index(key) for key, _ in needs for _ in range(unit_bytes)] for needs in wanted]
    bytes_ = [[part * unit_bytes + byte for _, part in needs for byte in range(unit_bytes)]
              for needs in wanted]  # fmt: skip
    if len(nodes) == 1:
        if all(each == [0, 1, 2, 3] for each in bytes_):
            return nodes[0]
        return Permuted(nodes[0], nodes[0], tuple(_selector(each) for each in bytes_))
    result = nodes[0]
    for number in range(1, len(nodes)):
        # What is not taken from this node stays; before the first permute it still lies elsewhere.
        kept = bytes_ if number == 1 else [[0, 1, 2, 3]] * len(wanted)
        selectors = [
            _selector([4 + byte if owner == number else stays if owner < number else at
                       for at, (owner, byte, stays) in enumerate(zip(*each, strict=True))])
            for each in zip(owners, bytes_, kept, strict=True)
        ]  # fmt: skip
        result = Permuted(result, nodes[number], tuple(selectors))
    return result


def _selector(chosen: list[int]) -> int:
    return sum(value << 4 * at for at, value in enumerate(chosen))
