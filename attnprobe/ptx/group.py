"""Groups: sets of warps at one place of the program, with registers of their own.

A branch that not all lanes take splits a group in two; groups that meet at one block are merged.
Within a group only the lanes of ``mask`` count, the others' values are whatever fell out: memory,
branches, votes and barriers look at the mask, arithmetic need not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from attnprobe.ptx import inflight
from attnprobe.ptx.inflight import InFlight
from attnprobe.ptx.values import LANES, Array, spread

Registers = list[Any]  # one array per register, None where its value is not needed any more


class Group:
    """Warps that execute together.

    Attributes
    ----------
    rows : numbers of the warps within the chunk, ascending: int64 (n,).
    mask : lanes that take part: bool (n, 32), or None where all do.
    block : number of the basic block that comes next.
    regs : register values.
    known : what register_fences.py knows of them; None where nobody watches.
    """

    __slots__ = ("block", "cache", "known", "lanes", "mask", "n", "regs", "rows", "stamp")

    def __init__(
        self,
        rows: Array,
        mask: Array | None,
        block: int,
        regs: Registers,
        known: Array | None = None,
    ) -> None:
        if mask is not None and mask.all():
            mask = None
        self.rows = rows
        self.mask = mask
        self.block = block
        self.regs = regs
        self.known = known
        self.n = len(rows)
        self.lanes = self.n * LANES if mask is None else int(np.count_nonzero(mask))
        self.cache: dict[Any, Any] = {}
        self.stamp = 0

    def where(self, condition: Array) -> Array | None:
        """Return the lanes of the group for which ``condition`` holds: None for all, else bool
        (n, 32).
        """
        if condition.shape == (1, 1):
            if condition[0, 0]:
                return self.mask
            return np.zeros((self.n, LANES), bool)
        lanes = spread(condition, self.n)
        if self.mask is not None:
            lanes = lanes & self.mask
        return None if lanes.all() else lanes

    def active(self) -> Array:
        """Return the lanes of the group: bool (n, 32)."""
        if self.mask is not None:
            return self.mask
        return np.broadcast_to(np.True_, (self.n, LANES))

    def part(self, lanes: Array, block: int, live: Iterable[int]) -> Group:
        """Return the group of ``lanes`` (bool (n, 32), a subset of the mask), about to run
        ``block``.
        """
        keep = lanes.any(axis=1)
        if keep.all():
            return Group(self.rows, lanes, block, list(self.regs), self.known)
        index = np.flatnonzero(keep)
        regs: Registers = [None] * len(self.regs)
        for number in live:
            value = self.regs[number]
            regs[number] = value if value is None or value.shape[0] == 1 else value[index]
        return Group(self.rows[index], lanes[index], block, regs, self.known)


def merge(groups: list[Group], live: Iterable[int]) -> Group:
    """Return one group of all lanes of ``groups``, which stand at the same block."""
    rows = np.unique(np.concatenate([group.rows for group in groups]))
    places = [np.searchsorted(rows, group.rows) for group in groups]
    mask = np.zeros((len(rows), LANES), bool)
    for group, place in zip(groups, places, strict=True):
        mask[place] |= group.active()
    first = groups[0]
    regs: Registers = [None] * len(first.regs)
    memo: inflight.Memo = {}
    for number in live:
        values = [group.regs[number] for group in groups]
        regs[number] = _merged(values, groups, places, len(rows), memo)
    known = [group.known for group in groups if group.known is not None]
    merged = Group(rows, mask, first.block, regs, joined(known) if known else None)
    merged.stamp = min(group.stamp for group in groups)
    return merged


def joined(known: list[Array]) -> Array:
    """Return what is known of registers where groups meet: an access of one is one of all.

    Accesses are numbers above 0, shapes of wgmma below (register_fences.py).
    """
    most, least = np.maximum.reduce(known), np.minimum.reduce(known)
    return np.asarray(np.where(most > 0, most, least))


def _merged(
    values: list[Any], groups: list[Group], places: list[Array], count: int, memo: inflight.Memo
) -> Any:
    first = values[0]
    if any(isinstance(value, InFlight) for value in values):
        return inflight.merged(values, places, count, memo)
    if all(value is first for value in values):
        if first.shape[0] == 1:
            return first
    elif all(value.shape == (1, 1) for value in values):
        raw = first.tobytes()
        if all(value.tobytes() == raw for value in values):
            return first
    whole = all(group.mask is None for group in groups)
    width = 1 if whole and all(value.shape[1] == 1 for value in values) else LANES
    out = np.empty((count, width), first.dtype)
    for value, group, place in zip(values, groups, places, strict=True):
        if group.mask is None:
            out[place] = value
        else:
            part = out[place]
            np.copyto(part, value, where=group.mask)
            out[place] = part
    return out
