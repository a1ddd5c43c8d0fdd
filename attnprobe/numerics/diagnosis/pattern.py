"""Where the refused elements stand, in words: rows of 16, columns of 8, tiles, heads, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bad = npt.NDArray[np.bool_]

# Elements that must be refused before their places say anything.
FEW = 4


def pattern(bad: Bad, queries: npt.NDArray[np.int64], tile_rows: int = 0) -> tuple[str, ...]:
    """Return sentences on where the refused elements stand.

    Parameters
    ----------
    bad : (batch, rows, heads, v_head_dim), the refused elements of O.
    queries : (rows,), positions of the judged queries.
    tile_rows : queries of a tile; 0 where that is not known.
    """
    count = int(bad.sum())
    if count < FEW:
        return ()
    sentences = [f"{100 * count / bad.size:.3g} % of the judged elements of O are refused"]
    rows = np.asarray(bad.any(axis=(0, 2, 3)))
    parts = (
        _some("batches", np.arange(bad.shape[0]), bad.any(axis=(1, 2, 3))),
        _some("heads", np.arange(bad.shape[2]), bad.any(axis=(0, 1, 3))),
        _some("query tiles", queries // tile_rows, rows) if tile_rows else "",
        _some("rows (mod 16)", queries % 16, rows),
        _some("columns (mod 16)", np.arange(bad.shape[3]) % 16, bad.any(axis=(0, 1, 2))),
        _edges(queries, rows),
    )
    return (*sentences, *(part for part in parts if part))


def _some(name: str, numbers: npt.NDArray[np.int64], bad: Any) -> str:
    """Which numbers have refused elements, where some have and some have not."""
    whole, hit = set(numbers.tolist()), set(numbers[bad].tolist())
    if len(whole) < 2 or hit == whole:
        return ""
    return f"only in {name} {_ranges(sorted(hit))} of {_ranges(sorted(whole))}"


def _edges(queries: npt.NDArray[np.int64], bad: Any) -> str:
    if bad.all() or not bad.any():
        return ""
    hit = queries[bad]
    if hit[0] > queries[0] and bad[np.searchsorted(queries, hit[0]) :].all():
        return f"every row from query {hit[0]} on"
    if hit[-1] < queries[-1] and bad[: np.searchsorted(queries, hit[-1]) + 1].all():
        return f"every row up to query {hit[-1]}"
    return ""


def _ranges(numbers: list[int]) -> str:
    """0-3, 8, 10-11; cut after a few."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in spans[:6]]
    return ", ".join(shown) + (", ..." if len(spans) > 6 else "")
