"""Checks of cu_seqlens, seqused_k and block_table: their shapes, and on the CPU what they say.

What an array on a GPU says is not read: that would stop the host until the device is done. The
kernel cuts every length and every page number to what the arrays hold instead (sequence.cuh).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from attnprobe.errors import ProblemError


class RowCounts(Protocol):
    """The rows of one batch entry of Q and K."""

    @property
    def seqlen_q(self) -> int:
        """Rows of Q, or of all packed sequences."""

    @property
    def seqlen_k(self) -> int:
        """Rows of K, of all packed sequences, or of a page."""


def check_lengths(found: Mapping[str, Any], rows: RowCounts, batch: int) -> None:
    """Refuse arrays of another shape, and lengths that point outside the arrays.

    Parameters
    ----------
    found : field -> int32 array of those that were given.
    rows : of the arrays that they point into.
    batch : number of sequences.

    Raises
    ------
    ProblemError
        Says which entry is wrong.
    """
    for name, array in found.items():
        _check_shape(name, array, batch)
        if not isinstance(array, np.ndarray):
            continue
        if name.startswith("cu_seqlens"):
            _check_boundaries(name, array, rows.seqlen_q if name.endswith("q") else rows.seqlen_k)
        elif name != "block_table" and array.size and array.min() < 0:
            raise ProblemError(f"{name} has {int(array.min())}; lengths from 0 up are wanted")
    _check_used(found, rows)


def _check_shape(name: str, array: Any, batch: int) -> None:
    if name == "block_table":
        if array.ndim != 2 or array.shape[0] != batch:
            raise ProblemError(
                f"block_table has shape {array.shape}; (batch, max_pages) with batch {batch} is "
                "wanted"
            )
        return
    wanted = batch + 1 if name.startswith("cu_seqlens") else batch
    if name.startswith("cu_seqlens") and (array.ndim != 1 or array.shape[0] < 1):
        raise ProblemError(
            f"{name} has shape {array.shape}; (batch + 1,) is wanted: where each sequence begins, "
            "and the end of the last"
        )
    if array.shape != (wanted,):
        raise ProblemError(f"{name} has shape {array.shape}; ({wanted},) is wanted, batch {batch}")


def _check_boundaries(name: str, array: Any, rows: int) -> None:
    if array[0] != 0 or array[-1] > rows or (np.diff(array) < 0).any():
        raise ProblemError(
            f"{name} is {array.tolist()[:12]}; it must begin with 0, never fall, and end at no "
            f"more than the {rows} rows of the array"
        )


def _check_used(found: Mapping[str, Any], rows: RowCounts) -> None:
    """Keys in use are no more than the sequence has room for."""
    used = found.get("seqused_k")
    if not isinstance(used, np.ndarray) or not used.size:
        return
    room: Any = rows.seqlen_k
    if "cu_seqlens_k" in found:
        room = np.diff(found["cu_seqlens_k"])
    elif "block_table" in found:
        room = found["block_table"].shape[1] * rows.seqlen_k
    if (used > room).any():
        number = int(np.argmax(used > room))
        most = int(np.broadcast_to(room, used.shape)[number])
        raise ProblemError(
            f"sequence {number} uses {int(used[number])} keys and has room for {most}: "
            "give it more rows or pages"
        )
