"""What the oracle says about one result: demands met or not, the worst place, the likely fault.

    Verdict
    ├── findings   one Finding for each demand, in the order in which they were made
    ├── o, lse     error.Comparison: worst element, bound, signal to error
    ├── rows       RowErrors: arrays for plots of the error by row and by score
    ├── place      Place of the worst element: tile, block of 16 rows, lane, register
    ├── pattern    which rows, columns, heads and tiles are refused, in words
    └── guesses    Guess, the best first: the fault, its parameter, how well it explains the error

Nothing here computes; renderers read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attnprobe.numerics.error import Comparison

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


# Guesses whose shares differ by less than this explain the error equally well.
EQUAL = 1e-3


@dataclass(frozen=True)
class Finding:
    """One demand on the result.

    Attributes
    ----------
    check : name of its row in ``oracle.CHECKS`` ("bound", "lse", "tensor", "exact", ...), or of a
        relation between several results ("garbage", "permuted keys", "split and merge", ...).
    ok : whether it is met.
    text : what was found, in a line.
    """

    check: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Place:
    """One element of O (or of LSE, then ``column`` is -1) in the terms of a tensor-core kernel.

    Attributes
    ----------
    batch, head, query, column : its index.
    tile, tile_rows : number of the query tile and its rows; tile is -1 where no tile is known.
    row_block : number of the 16-row block within the tile: the rows of one accumulator.
    fragment : the accumulator whose fragment it is, as PTX names the instruction.
    lane, register : who holds it in that fragment; of LSE the first lane that has the row.
    """

    batch: int
    head: int
    query: int
    column: int
    tile: int
    tile_rows: int
    row_block: int
    fragment: str
    lane: int
    register: int

    def __str__(self) -> str:
        column = "LSE" if self.column < 0 else f"column {self.column}"
        where = f"batch {self.batch}, head {self.head}, query {self.query}, {column}"
        tile = f"query tile {self.tile} ({self.tile_rows} rows), " if self.tile >= 0 else ""
        return (
            f"{where}: {tile}rows {16 * self.row_block}-{16 * self.row_block + 15} of it, "
            f"lane {self.lane}, register {self.register} of the accumulator of {self.fragment}"
        )


@dataclass(frozen=True)
class Guess:
    """One fault that would give a result like this one.

    Attributes
    ----------
    fault : name of the row in ``diagnosis.FAULTS``.
    text : what is wrong, with the parameter filled in: "the scale is off by +5.0 %".
    explains : share of the squared error of O and LSE that it accounts for, at most 1.
    certain : whether what it leaves is within the bound of a sound kernel everywhere.
    """

    fault: str
    text: str
    explains: float
    certain: bool

    def __str__(self) -> str:
        return f"{self.text} ({100 * self.explains:.4g} % of the error explained)"


@dataclass(frozen=True, eq=False)
class RowErrors:
    """The error of each row that was judged, one entry a row of O: for plots.

    Attributes
    ----------
    batch, head, query : index of the row, int64 (n,).
    error : greatest finite |error| of O in the row, float64 (n,).
    share : greatest error / bound of O in the row; above 1 is refused, inf where NaN or infinity
        stands in the wrong place, float64 (n,).
    lse : exact LSE of the row, natural logarithm, float64 (n,).
    top : the greatest score of the row, float64 (n,); 0 in a row that sees no key.
    """

    batch: I64
    head: I64
    query: I64
    error: F64
    share: F64
    lse: F64
    top: F64


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judgement of one result. ``ok`` when every demand is met.

    Attributes
    ----------
    findings : one for each demand.
    o, lse : how O and LSE stand to float64; ``lse`` is None where none was given.
    yardstick_error : greatest |error| of the yardstick's O on the rows that were judged.
    rows : the error of each row.
    asked : the features, in words.
    place : of the worst element; None where all is well.
    pattern : sentences on where the refused elements stand; empty where all is well.
    guesses : the best explanation first; empty where all is well or nothing explains it.
    """

    findings: tuple[Finding, ...]
    o: Comparison
    lse: Comparison | None
    yardstick_error: float
    rows: RowErrors
    asked: str
    place: Place | None = None
    pattern: tuple[str, ...] = ()
    guesses: tuple[Guess, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every demand is met."""
        return all(finding.ok for finding in self.findings)

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The demands that are not met."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def guess(self) -> Guess | None:
        """The best explanation."""
        return self.guesses[0] if self.guesses else None

    def __str__(self) -> str:
        lines = [f"{finding.check}: {finding.text}" for finding in self.refused]
        lines += [str(self.o)] if not lines else []
        if self.place is not None:
            lines.append(f"worst: {self.place}")
        lines += self.pattern
        for guess in self.guesses:
            if guess.explains > self.guesses[0].explains - EQUAL:
                lines.append(f"{'or' if guess is not self.guesses[0] else 'looks like'}: {guess}")
        return "\n".join(
            [*lines, f"yardstick max |error| {self.yardstick_error:.3g}; {self.asked}"]
        )
