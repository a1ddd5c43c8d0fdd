"""Discovery of sparse products of a warp: the operands as of dense ones, then the metadata.

Once A, B and D are found, a change of one nibble of the metadata shows in D as the move of one
element of A to another place of its group: this names the row, the group and the element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.layouts import Instruction, Operand
from attnprobe.layouts.choice import Choice
from attnprobe.layouts.sparsity import Sparsity
from attnprobe.probing import classes, macros, registers
from attnprobe.probing.compare import Asked
from attnprobe.probing.discover_products import _OPEN, arrange, passed, plane_sums
from attnprobe.probing.discovery import Asker, Finding, found_operand, method

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]
NIBBLE = 4


@method("mma.sp")
def _sparse(row: Instruction, ask: Asker) -> Finding:
    """Bit planes with each group's elements in the first and in the last places; then nibbles."""
    fills = ("first_places", "last_places")
    sums = [plane_sums(row, ask("sparse_operands", fill)) for fill in fills]
    seen = classes.from_planes(sums, counts_differences=False)
    c_of_d = passed(row, ask("sparse_operands", "pass_through"))
    operands = arrange(row, seen, c_of_d)
    by_name = {operand.name: operand for operand in operands}
    fills = ("one_later", "one_earlier")
    found = [_moves(row, by_name, ask("sparse_metadata", fill), fill) for fill in fills]
    e = metadata_operand(row, by_name["E"], found)
    whole = tuple(e if operand.name == "E" else operand for operand in operands)
    return Finding(whole, ("m", "n", "k", "stored", "index"), (_OPEN,))


def _moves(row: Instruction, found: Mapping[str, Operand], item: Asked, fill: str) -> Int:
    """Return what each nibble moves: (variants, lanes, nibbles, 2), (m, index); -1 for nothing."""
    d, e = found["D"], row["E"]
    how = row.sparsity
    assert how is not None, "a sparse product"
    held = item.held()
    values = d.format.decode(registers.unpack(item.dump.arrays[0], d.format))
    sums = d.fragment.scatter(values)
    nibbles = _nibbles(held["E"], e)
    later = fill == "one_later"
    effects = _effects(how, found, held, later)
    column = how.indices - 1 if later else 0
    variants = len(macros.variants(row))
    moved = np.full((variants, *nibbles.shape[1:], 2), -1, np.int64)
    variant = held["variant"].reshape(-1)
    for number in range(variants):
        (blocks,) = np.nonzero(variant == number)
        base = blocks[0]
        for block in blocks[1:]:
            ((lane, nibble),) = np.argwhere(nibbles[block] != nibbles[base])
            change = sums[block] - sums[base]
            (rows,) = np.nonzero(change.any(axis=1))
            if len(rows):
                group = _matching(effects, rows, change)
                moved[number, lane, nibble] = rows[0], group * how.indices + column
    return moved


def _nibbles(words: Array, e: Operand) -> Int:
    """Return the nibbles of metadata words (blocks, words, lanes): (blocks, lanes, nibbles)."""
    held = np.swapaxes(words, -1, -2).astype(np.int64)
    parts = held[..., None] >> np.arange(0, 32, NIBBLE) & 0xF
    return parts.reshape(*held.shape[:-1], -1)


def _effects(
    how: Sparsity, found: Mapping[str, Operand], held: Mapping[str, Array], later: bool
) -> npt.NDArray[np.float64]:
    """Return what the move of one element of each group adds to D: (groups, m, n)."""
    a, b = (
        found[name].fragment.scatter(
            found[name].format.decode(registers.unpack(held[name][0], found[name].format))
        )
        for name in "AB"
    )
    groups = a.shape[1] // how.kept
    first = np.tile(np.arange(how.indices), groups)
    last = first + how.places - how.indices
    start, end, at = (first, last, how.indices - 1) if later else (last, first, 0)
    base = _product(how, a, b, start)
    moved = []
    for group in range(groups):
        index = start.copy()
        index[group * how.indices + at] = end[at]
        moved.append(_product(how, a, b, index) - base)
    return np.stack(moved)


def _product(how: Sparsity, a: Array, b: Array, index: Int) -> npt.NDArray[np.float64]:
    raw = how.encode(np.broadcast_to(index, (len(a), len(index))))
    product: npt.NDArray[np.float64] = how.expand(a, raw) @ b
    return product


def _matching(effects: Array, rows: Int, change: Array) -> int:
    """Return the group whose element's move explains a change in one row of D."""
    if len(rows) > 1:
        raise LayoutError("one nibble of the metadata moves elements of several rows")
    fitting = np.flatnonzero((effects[:, rows[0]] == change[rows[0]]).all(axis=1))
    if len(fitting) != 1:
        raise LayoutError(f"a nibble's change in row {rows[0]} is that of {len(fitting)} groups")
    return int(fitting[0])


# --- from nibbles to the operand ------------------------------------------------------------------


def metadata_operand(row: Instruction, e: Operand, found: list[Int]) -> Operand:
    """Return E with digits from what its nibbles move when indices grow, and when they shrink.

    ``found`` are arrays (variants, lanes, nibbles, 2): of the last index of each nibble, and of the
    first, which are the same where a nibble is one index.

    Raises
    ------
    LayoutError
        If a nibble is read for no selector, or for several in different ways.
    """
    per = NIBBLE // e.format.bits
    parts = [found[1], found[0]] if per == 2 else found[:1]
    if per == 1 and (found[0] != found[1]).any():
        raise LayoutError("an index moves other elements up than down")
    stacked = np.stack(parts, axis=3)  # (variants, lanes, nibbles, per, 2)
    variants, lanes = stacked.shape[:2]
    each = stacked.reshape(variants, lanes, -1, 2)
    read = each[..., 0] >= 0
    if not read.any(axis=0).all():
        raise LayoutError("some bits of the metadata are read for no selector")
    chosen = read.argmax(axis=0)
    positions = np.take_along_axis(each, chosen[None, :, :, None], axis=0)[0]
    rows, cols = (int(size) + 1 for size in positions.reshape(-1, 2).max(axis=0))
    whole = found_operand(e, positions, rows, cols, ("m", "index"))
    return replace(whole, choices=_choices(row, read))


def _choices(row: Instruction, read: npt.NDArray[np.bool_]) -> tuple[Choice, ...]:
    """Return which digit of the lane the selector chooses; none where one value reads all."""
    variants, lanes, _ = read.shape
    if variants == 1 or read[0].all():
        return ()
    which = read.argmax(axis=0)
    (name,) = row.immediates
    weight = int(np.argmax(which[:, 0] != which[0, 0]))
    expected = np.arange(lanes)[:, None] // weight % variants
    if (read.sum(axis=0) != 1).any() or (which != expected).any():
        raise LayoutError("the selector chooses no digit of the lane")
    return (Choice(name.name, "lane", weight, tuple(name.values)),)
