"""How the rows of the Hopper kernels' tiles are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from attnprobe.engine.wgmma import WgmmaVariant

ROWS = 64  # queries of a warpgroup
WARPS = 4  # of a warpgroup

Row = TypeVar("Row", bound="WgmmaVariant")


def row_of_tile(
    kind: type[Row],
    kernel: str,
    widths: tuple[int, int],
    tile: tuple[int, int, int, int],
    why: str,
    **more: Any,
) -> Row:
    """Return the row of one tile of a kernel: (warpgroups that compute, keys, stages, of Q).

    Parameters
    ----------
    kernel : its file below kernels/attention/, without ending; the entry is named after it.
    widths : least and greatest head_dim.
    more : other fields of the row.
    """
    consumers, block_n, stages, q_stages = tile
    return kind(
        source=f"attention/{kernel}.cu",
        entry=f"attention_{kernel}",
        min_cc=90,
        suffix="a",
        head_dim=widths[1],
        v_head_dim=widths[1],
        least_head_dim=widths[0],
        block_m=consumers * ROWS,
        block_n=block_n,
        warps=(consumers + 1) * WARPS,
        blocks_per_sm=1,
        v_parts=1,
        why=why,
        persistent=True,
        consumers=consumers,
        stages=stages,
        q_stages=q_stages,
        **more,
    )
