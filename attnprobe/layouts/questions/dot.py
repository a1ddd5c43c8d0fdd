"""One element of D written out: every product of its sum, and who holds the factors."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UsageError
from attnprobe.layouts import catalogue, lookup
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.lookup import Held


@dataclass(frozen=True)
class Term:
    """One product of the sum.

    Attributes
    ----------
    k : the k values that A's element can stand for: one, or for a sparse A those of its group, of
        which the metadata pick one.
    a : who holds A's element.
    b : who holds B's element for each of ``k``; () where B lies in shared memory.
    """

    k: tuple[int, ...]
    a: tuple[Held, ...]
    b: tuple[tuple[Held, ...], ...]


@dataclass(frozen=True)
class Dot:
    """D[m][n] = C[m][n] + the sum of the terms.

    Attributes
    ----------
    row : the instruction.
    at : which element: (m, n), after the number of the matrix where a warp multiplies several.
    d, c : who holds it, and what is added to it; ``c`` is () where D is read and written.
    terms : in the order of A's elements.
    """

    row: Instruction
    at: tuple[int, ...]
    d: tuple[Held, ...]
    c: tuple[Held, ...]
    terms: tuple[Term, ...]


def dot(text: str, at: tuple[int, ...]) -> Dot:
    """Return the element ``at`` = (m, n) of D written out.

    Raises
    ------
    UsageError
        If the instruction is no product, or its D has no such element.
    """
    return of_row(catalogue.find(text), at)


def of_row(row: Instruction, at: tuple[int, ...]) -> Dot:
    """Return the element ``at`` of D of ``row`` written out; raises as ``dot`` does."""
    if not row.shape:
        raise UsageError(f"{row.ptx} is no product; only a product has sums to write out")
    d = lookup.holders(lookup.operand(row, "D"), at)
    at = d[0].position
    c = lookup.holders(row["C"], at) if "C" in row.by_name else ()
    terms = tuple(_term(row, at, stored) for stored in range(_stored(row)))
    return Dot(row, at, d, c, terms)


def _stored(row: Instruction) -> int:
    """Return how many elements a row of A has in registers: k, or what a sparse A keeps of it."""
    k = row.shape[2]
    return k * row.sparsity.kept // row.sparsity.group if row.sparsity else k


def _term(row: Instruction, at: tuple[int, ...], stored: int) -> Term:
    *matrix, m, n = at
    k = _candidates(row, stored)
    a = lookup.holders(row["A"], (*matrix, m, stored)) if "A" in row.by_name else ()
    b = (
        tuple(lookup.holders(row["B"], (*matrix, each, n)) for each in k)
        if "B" in row.by_name
        else ()
    )
    return Term(k, a, b)


def _candidates(row: Instruction, stored: int) -> tuple[int, ...]:
    """Return the k that A's stored element number ``stored`` can stand for.

    An index of the metadata names a place in units of some elements, and an element keeps its place
    within its unit.
    """
    if row.sparsity is None:
        return (stored,)
    group, kept, unit = row.sparsity.group, row.sparsity.kept, row.sparsity.unit
    first = stored // kept * group
    return tuple(first + place * unit + stored % unit for place in range(group // unit))
