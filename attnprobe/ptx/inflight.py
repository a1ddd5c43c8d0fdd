"""Registers whose values are still being made: accumulators of wgmma between issue and wait.

Such a register may be moved, split and merged with its group, and accumulated on by the next
product. Any other use is an error, since hardware would give whatever the register holds by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.warpgroup import Issued


class InFlightError(Exception):
    """A value was used while it is in flight; the machine says where."""

    def __init__(self, value: InFlight) -> None:
        super().__init__("in flight")
        self.value = value


@dataclass(frozen=True)
class Source:
    """Warps whose values a product makes.

    Attributes
    ----------
    places : which rows of the value, int64; rows : numbers of these warps within the chunk.
    number : register of D.
    """

    issued: Issued
    number: int
    places: Array
    rows: Array


class InFlight:
    """The value of a register over (n, 32) lanes, some of it still to come.

    Attributes
    ----------
    base : what is known already, (n, 32); None where nothing is.
    """

    __array_ufunc__ = None

    def __init__(
        self, n: int, dtype: np.dtype[Any], sources: list[Source], base: Array | None
    ) -> None:
        self.n, self.dtype, self.sources, self.base = n, dtype, sources, base

    @property
    def shape(self) -> tuple[int, int]:
        """As of an array."""
        return (self.n, LANES)

    def view(self, dtype: Any) -> InFlight:
        """Return the same bits as another type."""
        base = None if self.base is None else self.base.view(dtype)
        return InFlight(self.n, np.dtype(dtype), self.sources, base)

    def __getitem__(self, index: Any) -> InFlight:
        """Return the value of some warps: ``index`` has their places, ascending."""
        if not isinstance(index, np.ndarray) or index.ndim != 1 or index.dtype == bool:
            raise InFlightError(self)
        sources = []
        for source in self.sources:
            keep = np.isin(source.places, index)
            if keep.any():
                places = np.searchsorted(index, source.places[keep])
                sources.append(Source(source.issued, source.number, places, source.rows[keep]))
        base = None if self.base is None else self.base[index]
        return InFlight(len(index), self.dtype, sources, base)

    def landed(self) -> Array | InFlight:
        """Return the value with what has landed filled in: an array if that is all."""
        left: list[Source] = []
        base = self.base
        for source in self.sources:
            got = source.issued.values(source.number, source.rows)
            if got is None:
                left.append(source)
                continue
            if len(source.places) == self.n:
                return got.view(self.dtype)
            base = np.zeros(self.shape, self.dtype) if base is None else base.copy()
            base[source.places] = got.view(self.dtype)
        if not left:
            assert base is not None
            return base
        return self if len(left) == len(self.sources) else self._with(left, base)

    def _with(self, sources: list[Source], base: Array | None) -> InFlight:
        return InFlight(self.n, self.dtype, sources, base)

    # What would look at the bits

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise InFlightError(self)

    __array__ = __array_function__ = _refuse
    astype = tobytes = take = reshape = copy = any = all = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __and__ = __or__ = __xor__ = __invert__ = __lshift__ = __rshift__ = __neg__ = _refuse
    __rand__ = __ror__ = __rxor__ = __lt__ = __le__ = __gt__ = __ge__ = __abs__ = _refuse


def merged(values: list[Any], places: list[Array], count: int) -> InFlight:
    """Return one value of ``count`` warps from those of groups, some of them in flight."""
    first = next(value for value in values if isinstance(value, InFlight))
    if all(value is first for value in values) and first.n == count:
        return first
    sources: list[Source] = []
    base: Array | None = None
    for value, place in zip(values, places, strict=True):
        known = value.base if isinstance(value, InFlight) else spread(value, len(place))
        if isinstance(value, InFlight):
            sources += [Source(s.issued, s.number, place[s.places], s.rows) for s in value.sources]
        if known is not None:
            base = np.zeros((count, LANES), first.dtype) if base is None else base
            base[place] = known.view(first.dtype)
    return InFlight(count, first.dtype, sources, base)
