"""Where the elements of an operand come from when D of the product before becomes that operand.

D and the operand may differ in size: tiles of D side by side make up one operand, or one D makes up
several. Both are laid over the smallest *region* that whole tiles of either cover; positions below
are those of the region in the operand's axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UnsupportedError
from attnprobe.layouts.instruction import Operand

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Placement:
    """Source lane and element of each element of the operand.

    Attributes
    ----------
    source, target : D and the operand that it becomes.
    transposed : the operand is D transposed.
    size : rows and columns of the region.
    source_tiles, target_tiles : tiles of D and of the operand that the region has.
    lane, element : of the holder in D; int64, (target tiles, lanes, elements). ``element`` counts
        through the tiles of D: tile * elements + element.
    """

    source: Operand
    target: Operand
    transposed: bool
    size: tuple[int, int]
    source_tiles: int
    target_tiles: int
    lane: Array
    element: Array


def place(
    source: Operand, target: Operand, transposed: bool = False, order: tuple[int, ...] = ()
) -> Placement:
    """Return where each element of ``target`` comes from.

    ``order`` permutes k: k number j of the region is taken from D's place ``order[j]``.

    Raises
    ------
    UnsupportedError
        If the two are spread over different numbers of lanes, or their sizes do not fit.
    """
    from_lanes, to_lanes = source.fragment.lanes, target.fragment.lanes
    if from_lanes != to_lanes:
        raise UnsupportedError(
            f"D is spread over {from_lanes} lanes, {target.name} over {to_lanes}; "
            "name two instructions of as many lanes"
        )
    holders, down, across, size = _holders(source, target, transposed)
    if order:
        axis = k_axis(target)
        holders = holders.take(order, axis=axis)
    tiles_down, tiles_across = size[0] // target.fragment.rows, size[1] // target.fragment.cols
    held = [
        target.fragment.gather(_tile(holders[..., which], target, i, j))
        for which in range(2)
        for i in range(tiles_down)
        for j in range(tiles_across)
    ]
    count = tiles_down * tiles_across
    lane, element = np.stack(held[:count]), np.stack(held[count:])
    return Placement(source, target, transposed, size, down * across, count, lane, element)


def k_axis(target: Operand) -> int:
    """Return which axis of the operand is k: 1 of A, 0 of B."""
    return target.axes.index("k")


def order_without_exchange(source: Operand, target: Operand, transposed: bool) -> tuple[int, ...]:
    """Return an order of k in which every lane has its own elements; () if there is none.

    Two columns of k are alike to the lanes when the same lanes hold them, row by row. An order
    exists when D has as many columns of each kind as the operand; the lowest go to the lowest.
    """
    holders, _, _, size = _holders(source, target, transposed)
    axis = k_axis(target)
    own = np.empty(size, np.int64)
    lane_of = _matrix_of_lanes(target)
    for i in range(0, size[0], target.fragment.rows):
        for j in range(0, size[1], target.fragment.cols):
            own[i : i + target.fragment.rows, j : j + target.fragment.cols] = lane_of
    given = holders[..., 0]
    if axis == 0:
        own, given = own.T, given.T
    waiting: dict[bytes, list[int]] = {}
    for column in range(given.shape[1]):
        waiting.setdefault(given[:, column].tobytes(), []).append(column)
    order = []
    for column in range(own.shape[1]):
        alike = waiting.get(own[:, column].tobytes())
        if not alike:
            return ()
        order.append(alike.pop(0))
    return tuple(order)


def _holders(
    source: Operand, target: Operand, transposed: bool
) -> tuple[Array, int, int, tuple[int, int]]:
    """Return (lane, element through all tiles) of D for each position of the region."""
    rows, cols = source.fragment.rows, source.fragment.cols
    if transposed:
        rows, cols = cols, rows
    size = (
        _common(rows, target.fragment.rows, source, target),
        _common(cols, target.fragment.cols, source, target),
    )
    down, across = size[0] // rows, size[1] // cols
    lanes, elements = _matrix_of_lanes(source), _matrix_of_elements(source)
    if transposed:
        lanes, elements = lanes.T, elements.T
    holders = np.empty((*size, 2), np.int64)
    for i in range(down):
        for j in range(across):
            place = holders[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
            place[..., 0] = lanes
            place[..., 1] = elements + (i * across + j) * source.fragment.elements
    return holders, down, across, size


def _common(given: int, wanted: int, source: Operand, target: Operand) -> int:
    large, small = max(given, wanted), min(given, wanted)
    if large % small:
        raise UnsupportedError(
            f"D is {source.fragment.rows}x{source.fragment.cols} and {target.name} is "
            f"{target.fragment.rows}x{target.fragment.cols}: neither {given} nor {wanted} "
            "is a multiple of the other"
        )
    return large


def _matrix_of_lanes(operand: Operand) -> Array:
    fragment = operand.fragment
    lanes = np.broadcast_to(np.arange(fragment.lanes)[:, None], fragment.flat_index().shape)
    return fragment.scatter(np.ascontiguousarray(lanes))


def _matrix_of_elements(operand: Operand) -> Array:
    fragment = operand.fragment
    elements = np.broadcast_to(np.arange(fragment.elements), fragment.flat_index().shape)
    return fragment.scatter(np.ascontiguousarray(elements))


def _tile(region: Array, target: Operand, i: int, j: int) -> Array:
    rows, cols = target.fragment.rows, target.fragment.cols
    return np.ascontiguousarray(region[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols])
