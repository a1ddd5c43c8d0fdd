"""Registers whose values are still being made: accumulators of wgmma between issue and wait.

Such a register may be moved, split and merged with its group, and accumulated on by the next
product. Any other use is an error, since hardware would give whatever the register holds by then.

All registers of one D fly together: what is found out about which warps' values come from which
product is found out once, and kept for the other registers of the same flight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.warpgroup import Issued

Memo = dict[Any, Any]


class InFlightError(Exception):
    """A value was used while it is in flight; the machine says where."""

    def __init__(self, value: InFlight) -> None:
        super().__init__("in flight")
        self.value = value


@dataclass(frozen=True, eq=False)
class Piece:
    """Some warps of a value, and the product that makes theirs.

    Attributes
    ----------
    places : rows of the value, ascending; rows : numbers of these warps within the chunk.
    """

    issued: Issued
    places: Array
    rows: Array


class Flight:
    """Where the values of ``n`` warps come from: the same for all registers of one D."""

    def __init__(self, n: int, pieces: tuple[Piece, ...]) -> None:
        self.n, self.pieces = n, pieces
        self._part: tuple[Array, Flight, list[int]] | None = None

    def part(self, index: Array) -> tuple[Flight, list[int]]:
        """Return the flight of the warps at ``index``, and which pieces are left of it."""
        if self._part is None or self._part[0] is not index:
            pieces, kept = [], []
            for number, piece in enumerate(self.pieces):
                keep = np.isin(piece.places, index)
                if keep.any():
                    places = np.searchsorted(index, piece.places[keep])
                    pieces.append(Piece(piece.issued, places, piece.rows[keep]))
                    kept.append(number)
            self._part = (index, Flight(len(index), tuple(pieces)), kept)
        return self._part[1], self._part[2]

    def landing(self) -> tuple[list[tuple[Issued, Array | None, Array, int]], Flight, list[int]]:
        """Return what has landed: (product, its warps, places, piece) each; what is left as a
        flight; and the pieces that are left in it.
        """
        landed: list[tuple[Issued, Array | None, Array, int]] = []
        left: list[Piece] = []
        kept: list[int] = []
        for number, piece in enumerate(self.pieces):
            for leaf, of_leaf, of_rows in piece.issued.leaves(piece.rows):
                if leaf.landed:
                    whole = len(of_leaf) == len(leaf.rows)
                    places = piece.places[of_rows]
                    landed.append((leaf, None if whole else of_leaf, places, number))
                else:
                    left.append(Piece(leaf, piece.places[of_rows], piece.rows[of_rows]))
                    kept.append(number)
        return landed, Flight(self.n, tuple(left)), kept


class InFlight:
    """The value of a register over (n, 32) lanes, some of it still to come.

    Attributes
    ----------
    numbers : for each piece of the flight, which register of its D this is.
    base : what is known already, (n, 32); None where nothing is.
    """

    __slots__ = ("base", "dtype", "flight", "numbers")

    def __init__(
        self, flight: Flight, numbers: tuple[int, ...], dtype: np.dtype[Any], base: Array | None
    ) -> None:
        self.flight, self.numbers, self.dtype, self.base = flight, numbers, dtype, base

    @property
    def shape(self) -> tuple[int, int]:
        """As of an array."""
        return (self.flight.n, LANES)

    def view(self, dtype: Any) -> InFlight:
        """Return the same bits as another type."""
        base = None if self.base is None else self.base.view(dtype)
        return InFlight(self.flight, self.numbers, np.dtype(dtype), base)

    def __getitem__(self, index: Any) -> Any:
        """Return the value of some warps: ``index`` has their places, ascending."""
        if not isinstance(index, np.ndarray) or index.ndim != 1 or index.dtype == bool:
            raise InFlightError(self)
        flight, kept = self.flight.part(index)
        base = None if self.base is None else self.base[index]
        if not flight.pieces:
            return base
        return InFlight(flight, tuple(self.numbers[number] for number in kept), self.dtype, base)

    def landed(self, memo: Memo) -> Array | InFlight:
        """Return the value with what has landed filled in: an array if that is all.

        ``memo`` is for all registers that are asked at one time.
        """
        found = memo.get(self.flight)
        if found is None:
            found = memo[self.flight] = self.flight.landing()
        done, left, kept = found
        if not done:
            return self
        leaf, of_leaf, places, piece = done[0]
        if len(places) == self.flight.n and of_leaf is None:
            return leaf.values(self.numbers[piece]).view(self.dtype)
        base = np.zeros(self.shape, self.dtype) if self.base is None else self.base.copy()
        for leaf, of_leaf, places, piece in done:
            value = leaf.values(self.numbers[piece]).view(self.dtype)
            base[places] = value if of_leaf is None else value[of_leaf]
        if not kept:
            return base
        return InFlight(left, tuple(self.numbers[number] for number in kept), self.dtype, base)

    # What would look at the bits

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise InFlightError(self)

    __array__ = __array_function__ = __array_ufunc__ = _refuse
    astype = tobytes = take = reshape = copy = any = all = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __and__ = __or__ = __xor__ = __invert__ = __lshift__ = __rshift__ = __neg__ = _refuse
    __rand__ = __ror__ = __rxor__ = __lt__ = __le__ = __gt__ = __ge__ = __abs__ = _refuse


def merged(values: list[Any], places: list[Array], count: int, memo: Memo) -> InFlight:
    """Return one value of ``count`` warps from those of groups, some of them in flight."""
    first = next(value for value in values if isinstance(value, InFlight))
    if all(value is first for value in values) and first.flight.n == count:
        return first
    flights = tuple(value.flight if isinstance(value, InFlight) else None for value in values)
    numbers = [n for value in values if isinstance(value, InFlight) for n in value.numbers]
    # Pieces of one product are one again, unless this register is another one of D in each.
    products = [piece.issued for flight in flights if flight for piece in flight.pieces]
    pairs = list(zip(map(id, products), numbers, strict=True))
    group_of = tuple(pairs.index(pair) for pair in pairs)
    key = (flights, group_of)
    if key not in memo:
        memo[key] = _joined(flights, group_of, places, count)
    base: Array | None = None
    for value, place in zip(values, places, strict=True):
        known = value.base if isinstance(value, InFlight) else spread(value, len(place))
        if known is not None:
            base = np.zeros((count, LANES), first.dtype) if base is None else base
            base[place] = known.view(first.dtype)
    kept = tuple(numbers[number] for number in dict.fromkeys(group_of))
    return InFlight(memo[key], kept, first.dtype, base)


def _joined(
    flights: tuple[Flight | None, ...], group_of: tuple[int, ...], places: list[Array], count: int
) -> Flight:
    """Return the flight of all: pieces with the same number in ``group_of`` become one."""
    parts: dict[int, list[Piece]] = {}
    number = 0
    for flight, place in zip(flights, places, strict=True):
        for piece in flight.pieces if flight is not None else ():
            moved = Piece(piece.issued, place[piece.places], piece.rows)
            parts.setdefault(group_of[number], []).append(moved)
            number += 1
    pieces = []
    for same in parts.values():
        at, first = np.unique(np.concatenate([one.places for one in same]), return_index=True)
        rows = np.concatenate([one.rows for one in same])[first]
        pieces.append(Piece(same[0].issued, at, rows))
    return Flight(count, tuple(pieces))
