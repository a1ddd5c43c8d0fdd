"""Where an element of O stands in the work of a tensor-core kernel: tile, rows, lane, register."""

from __future__ import annotations

from functools import cache

from attnprobe.layouts.catalogue import find
from attnprobe.layouts.instruction import Operand
from attnprobe.layouts.lookup import holders, operand
from attnprobe.numerics.verdict import Place

# Every kernel on mma.sync accumulates in this fragment, and wgmma's is rows of it side by side.
ACCUMULATOR = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
ROWS, COLUMNS = 16, 8


@cache
def _fragment() -> Operand:
    return operand(find(ACCUMULATOR), "D")


def place_of(index: tuple[int, int, int, int], tile_rows: int = 0) -> Place:
    """Return the place of one element of O.

    Parameters
    ----------
    index : batch, head, query, column; column -1 stands for LSE.
    tile_rows : queries of one tile; 0 where that is not known.
    """
    batch, head, query, column = index
    row = query % tile_rows if tile_rows else query
    held = holders(_fragment(), (row % ROWS, max(column, 0) % COLUMNS))[0]
    return Place(
        batch=batch,
        head=head,
        query=query,
        column=column,
        tile=query // tile_rows if tile_rows else -1,
        tile_rows=tile_rows,
        row_block=row // ROWS,
        fragment="mma.sync m16n8k16",
        lane=held.lane,
        register=held.register,
    )
