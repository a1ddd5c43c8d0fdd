"""Products that wait: chains of mma are collected until a result is read.

An accumulator that only the next product of its chain reads needs no registers in between. When
anything else reads it, or the block ends, the chain is written as one product, together with all
chains that share its A or B: the tiles of one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnprobe.ptx.emit import Emitter

Names = tuple[str, ...]


@dataclass(eq=False)
class Chain:
    """One tile's products, in the order of the text.

    Attributes
    ----------
    plan : name of the row's ``Fused`` in the generated code.
    start : names of C's registers.
    steps : names of the registers of A and B, product by product.
    results : names of D's registers, once they are written.
    """

    plan: str
    start: Names
    steps: list[tuple[Names, Names]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    @property
    def left(self) -> tuple[Names, ...]:
        """A's registers of all steps."""
        return tuple(a for a, _ in self.steps)

    @property
    def right(self) -> tuple[Names, ...]:
        """B's registers of all steps."""
        return tuple(b for _, b in self.steps)


@dataclass(frozen=True, eq=False)
class Pending:
    """The value of register ``number`` of a chain after its first ``length`` products."""

    chain: Chain
    number: int
    length: int


class Chains:
    """The chains of one basic block."""

    def __init__(self) -> None:
        self.open: list[Chain] = []
        self._short: dict[tuple[Chain, int], Chain] = {}

    def extend(self, plan: str, pending: list[Pending | None]) -> Chain | None:
        """Return the chain whose latest values C is, in order; None if it is anything else."""
        first = pending[0]
        if first is None or first.chain.plan != plan or first.chain.results:
            return None
        chain = first.chain
        for number, value in enumerate(pending):
            if value is None or value.chain is not chain or value.number != number:
                return None
            if value.length != len(chain.steps):
                return None
        return chain

    def add(self, plan: str, start: Names) -> Chain:
        """Open a chain."""
        chain = Chain(plan, start)
        self.open.append(chain)
        return chain

    def name(self, e: Emitter, value: Pending) -> str:
        """Return the name of a pending value, writing its chain if it is not written yet."""
        chain = value.chain
        if value.length != len(chain.steps):  # the chain went on from here: this part of it alone
            key = (chain, value.length)
            if key not in self._short:
                self._short[key] = Chain(chain.plan, chain.start, chain.steps[: value.length])
            chain = self._short[key]
            if not chain.results:
                _write(e, [[chain]])
        elif not chain.results:
            _write(e, self._tiles(chain))
            self.open = [other for other in self.open if not other.results]
        return chain.results[value.number]

    def _tiles(self, chain: Chain) -> list[list[Chain]]:
        """Return the open chains that make one matrix with ``chain``: row by row of tiles."""
        rows: dict[tuple[Names, ...], list[Chain]] = {}
        for other in self.open:
            if (
                other.plan == chain.plan
                and not other.results
                and len(other.steps) == len(chain.steps)
            ):
                rows.setdefault(other.left, []).append(other)
        mine = [other.right for other in rows[chain.left]]
        return [row for row in rows.values() if [other.right for other in row] == mine]


def _write(e: Emitter, tiles: list[list[Chain]]) -> None:
    """Write the product of all ``tiles`` and name its registers."""
    plan = tiles[0][0].plan
    down, across = len(tiles), len(tiles[0])
    left = _flat([row[0].left for row in tiles])
    right = _flat([chain.right for chain in tiles[0]])
    a = _once(e, f"{plan}.left(g.n, {down}, {left})")
    b = _once(e, f"{plan}.right(g.n, {across}, {right})")
    starts = [name for row in tiles for chain in row for name in chain.start]
    c = "None"
    if set(starts) != {e.const(0, "f4")}:
        c = e.tmp(f"{plan}.start(g.n, {down}, {across}, {', '.join(starts)})")
    registers = e.tmp(f"{plan}.chain({down}, {across}, {a}, {b}, {c})")
    number = 0
    for row in tiles:
        for chain in row:
            for _ in chain.start:
                chain.results.append(e.tmp(f"{registers}[{number}]"))
                number += 1


def _flat(fragments: list[tuple[Names, ...]]) -> str:
    return ", ".join(name for steps in fragments for names in steps for name in names)


def _once(e: Emitter, expression: str) -> str:
    if expression not in e.cache:
        e.cache[expression] = e.tmp(expression)
    return e.cache[expression]
