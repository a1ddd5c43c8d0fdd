"""The fills: named ways to make Q, K and V, one row each, the same numbers for the same seed."""

from __future__ import annotations

from attnprobe.errors import UsageError
from attnprobe.numerics import fills_edges, fills_plain, fills_real, fills_scores
from attnprobe.numerics.fill_row import EQUAL_COLUMNS, EXACT, QKV, Array, Fill, Sizes

__all__ = ["E4M3_FILLS", "EQUAL_COLUMNS", "EXACT", "FILLS", "QKV", "Array", "Fill", "Sizes", "fill"]

FILLS: dict[str, Fill] = {
    row.name: row
    for row in (*fills_plain.ROWS, *fills_scores.ROWS, *fills_edges.ROWS, *fills_real.ROWS)
}

# Those whose numbers keep their meaning on the grid of e4m3, where 448 is the greatest number, 2^-9
# the least, and there is no infinity.
E4M3_FILLS = (
    "near_uniform", "normal", "outliers", "outliers_100", "heavy_tails", "v_offset", "constant_v",
    "nvfp4", "q4", "q8", "peaked", "sink", "rising", "equal_scores", "one_hot", "equal_one_hot",
    "nan_in_q", "nan_in_k", "nan_in_v", "real", "real_minilm",
)  # fmt: skip


def fill(name: str) -> Fill:
    """Return the fill called ``name``.

    Raises
    ------
    UsageError
        If there is none; lists those that there are.
    """
    if name not in FILLS:
        raise UsageError(f"no fill is called {name!r}; there are: {', '.join(FILLS)}")
    return FILLS[name]
