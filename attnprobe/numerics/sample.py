"""Which queries of a large problem are judged: those around every tile edge, and a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Scores in float64 that are worked out at most: seconds on the processors beside a GPU.
MOST_SCORES = 1 << 27
EDGE_TILE = 128  # queries: the largest tile; edges of smaller ones come with the sample
BLOCK = 16  # rows of one accumulator: they are judged together, so that an exchange shows


def queries(
    q_shape: tuple[int, ...], seqlen_k: int, tile_rows: int = 0
) -> npt.NDArray[np.int64] | None:
    """Return the positions of the queries that are judged, rising; None is all of them.

    All where that takes at most ``MOST_SCORES`` scores. Else the first and last 16, those on both
    sides of every tile edge, and whole blocks of 16 spread over the rest, as many as fit.

    Parameters
    ----------
    q_shape : (batch, seqlen_q, num_heads, head_dim).
    tile_rows : queries of one tile; 0 is EDGE_TILE.
    """
    batch, seqlen_q, num_heads, _ = q_shape
    most = max(4 * BLOCK, MOST_SCORES // max(1, batch * num_heads * seqlen_k))
    if seqlen_q <= most:
        return None
    room = max(BLOCK, most - 2 * BLOCK)
    edges = np.arange(0, seqlen_q + 1, tile_rows or EDGE_TILE)
    edges = edges[:: -(-2 * len(edges) // (room // 2 + 2))]
    around = (edges[:, None] + np.array([-1, 0])).ravel()
    ends = np.concatenate([np.arange(BLOCK), seqlen_q - 1 - np.arange(BLOCK)])
    blocks = np.random.default_rng(seqlen_q).permutation(seqlen_q // BLOCK)
    inner = (blocks[: max(1, room // (2 * BLOCK))][:, None] * BLOCK + np.arange(BLOCK)).ravel()
    chosen = np.concatenate([ends, inner, around])
    return np.unique(chosen[(chosen >= 0) & (chosen < seqlen_q)])
