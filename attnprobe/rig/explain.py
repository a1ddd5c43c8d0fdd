"""What is kept of a refusal, as what JSON can hold: demands, place, guess, plots."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.numerics import error
from attnprobe.numerics.calls import Call
from attnprobe.numerics.place import COLUMNS, ROWS
from attnprobe.numerics.reference import Array
from attnprobe.numerics.relations import Result
from attnprobe.numerics.verdict import Place, Verdict

F64 = npt.NDArray[np.float64]

MOST_SHARE = 1e9  # of a bound: what stands for "infinitely many times"
MOST_POINTS = 600  # of a plot
MOST_CELLS = 384  # of a side of the map
LEVELS_PER_DECADE = 40  # of the map: level 0 is within the bound, 1 at it, 255 is 2.3e6 times it


def share_of(value: float) -> float:
    """Return a share of a bound as a finite number."""
    return float(min(value, MOST_SHARE))


def diagnosis(call: Call, verdict: Verdict, result: Result) -> dict[str, Any]:
    """Return what is known of a refused result.

    Returns
    -------
    findings : the demands that are not met: check, text.
    place : of the worst element, with its text; None where none is known.
    pattern : sentences on where the refused elements stand.
    guesses : fault, text, explains, certain; the best first.
    rows : of the head of the worst element, each judged query's position and worst share.
    scores : of a sample of all rows, the greatest score and the worst share.
    map : shares of the whole head, queries x columns, as levels (``levels``).
    fragment : shares of the 16 x 8 accumulator that holds the worst element, None where not judged.
    """
    found: dict[str, Any] = {
        "findings": [{"check": each.check, "text": each.text} for each in verdict.refused],
        "place": None,
        "pattern": list(verdict.pattern),
        "guesses": [
            {
                "fault": each.fault,
                "text": each.text,
                "explains": round(each.explains, 6),
                "certain": each.certain,
            }
            for each in verdict.guesses
        ],
    }
    place = verdict.place
    if place is None:
        return found
    packed = call.entry != "attention"
    part = call.parts[place.batch if packed else 0]
    O, _ = call.result_of(part, *result)
    expected = part.question.expected
    share = error.shares(error.error_of_o(expected, O), expected.o_bound)
    head = np.minimum(share[0 if packed else place.batch, :, place.head], MOST_SHARE)
    queries = np.arange(len(head)) if expected.queries is None else expected.queries
    found["place"] = {**_plain(place), "text": str(place)}
    found["rows"] = _rows(queries, head)
    found["scores"] = _scores(verdict)
    found["map"] = _map(head)
    found["fragment"] = _fragment(place, queries, head)
    return found


def _plain(place: Place) -> dict[str, Any]:
    return {name: getattr(place, name) for name in Place.__dataclass_fields__}


def _rows(queries: Array, head: F64) -> dict[str, Any]:
    worst = head.max(axis=1, initial=0.0)
    keep = _strongest(worst)
    return {"query": queries[keep].tolist(), "share": _short(worst[keep])}


def _scores(verdict: Verdict) -> dict[str, Any]:
    rows = verdict.rows
    finite = np.flatnonzero(np.isfinite(rows.top))
    keep = finite[_strongest(rows.share[finite])]
    return {
        "top": _short(rows.top[keep]),
        "share": _short(np.minimum(rows.share[keep], MOST_SHARE)),
    }


def _strongest(share: F64) -> Array:
    """Return at most MOST_POINTS positions, rising: some evenly spread, and the strongest."""
    if len(share) <= MOST_POINTS:
        return np.arange(len(share))
    spread = np.linspace(0, len(share) - 1, MOST_POINTS // 2).astype(np.int64)
    strongest = np.argsort(share)[-MOST_POINTS // 2 :]
    return np.unique(np.concatenate([spread, strongest]))


def _short(values: F64) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _map(head: F64) -> dict[str, Any]:
    """Return the shares of one head as levels; of a large head, the worst of each step x step."""
    rows, columns = head.shape
    step = (-(-rows // MOST_CELLS) or 1, -(-columns // MOST_CELLS) or 1)
    padded = np.zeros((-(-rows // step[0]) * step[0], -(-columns // step[1]) * step[1]))
    padded[:rows, :columns] = head
    pooled = padded.reshape(-1, step[0], padded.shape[1] // step[1], step[1]).max(axis=(1, 3))
    over = np.maximum(pooled, 1.0)
    level = np.where(pooled > 1, np.minimum(1 + LEVELS_PER_DECADE * np.log10(over), 255), 0)
    packed = base64.b64encode(zlib.compress(level.astype(np.uint8).tobytes(), 9)).decode()
    return {"shape": list(level.shape), "step": list(step), "levels": packed}


def levels(map_: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the levels of a map, uint8: 0 within the bound, more the further above it."""
    data = zlib.decompress(base64.b64decode(map_["levels"]))
    return np.frombuffer(data, np.uint8).reshape(map_["shape"])


def _fragment(place: Place, queries: Array, head: F64) -> dict[str, Any] | None:
    if place.column < 0:
        return None
    in_tile = place.query % place.tile_rows if place.tile_rows else place.query
    first_row = place.query - in_tile % ROWS
    first_column = place.column - place.column % COLUMNS
    position = {int(query): row for row, query in enumerate(queries)}
    cells: list[list[float | None]] = []
    for query in range(first_row, first_row + ROWS):
        row = position.get(query)
        line = head[row, first_column : first_column + COLUMNS] if row is not None else np.empty(0)
        cells.append([*_short(line), *([None] * (COLUMNS - len(line)))])
    return {"first_query": first_row, "first_column": first_column, "share": cells}
