"""One row for each opcode variant: PTX text, types, and what it must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.ptx.exact import signed
from tests.ptx.harness import BITS, EDGES, crossed


@dataclass(frozen=True)
class Row:
    """``text`` reads a, b, c ... and writes d; ``expected`` takes and gives raw bits."""

    text: str
    out: str
    sources: tuple[str, ...]
    expected: Callable[..., int]
    columns: Sequence[Sequence[int]] = field(default=(), compare=False)

    def inputs(self) -> list[list[int]]:
        """The given columns, else the product of the types' edge values."""
        if self.columns:
            return [list(column) for column in self.columns]
        return crossed(*(EDGES[kind] if kind != "pred" else [0, 1] for kind in self.sources))


ROWS: list[Row] = []


def row(
    text: str,
    out: str,
    sources: str,
    expected: Callable[..., int],
    columns: Sequence[Sequence[int]] = (),
) -> None:
    ROWS.append(Row(text, out, tuple(sources.split()), expected, columns))


def mask(bits: int) -> int:
    return (1 << bits) - 1


def integer(
    name: str,
    kind: str,
    function: Callable[..., int],
    count: int = 2,
    columns: Sequence[Sequence[int]] = (),
    out: str = "",
) -> None:
    """A row whose function works on Python integers of the type's sign."""
    bits = BITS[kind]
    read = (lambda x: signed(x, bits)) if kind[0] == "s" else (lambda x: x)
    out = out or kind
    operands = ", ".join("abc"[:count])
    row(
        f"{name}.{kind} d, {operands};",
        out,
        " ".join([kind] * count),
        lambda *xs: function(*map(read, xs)) & mask(BITS[out]),
        columns,
    )
