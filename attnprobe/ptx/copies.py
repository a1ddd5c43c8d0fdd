"""cp.async for one chunk: at once in fast mode, at the covering wait in checked mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.group import Group
from attnprobe.ptx.memory import unit_dtype
from attnprobe.ptx.race import Checker
from attnprobe.ptx.units import Access
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine


@dataclass
class Copy:
    """One cp.async of a group of warps: where its units go and what they bring."""

    index: Array
    data: Array
    mask: Array | None
    size: int


@dataclass
class Batch:
    """Copies that the same warps issued between two commits.

    Attributes
    ----------
    number : for each lane, how many groups it had committed before: (n, 32).
    open : lanes whose copies have not landed: bool (n, 32).
    """

    rows: Array
    number: Array
    open: Array
    copies: list[Copy] = field(default_factory=list)


class Copies:
    """The asynchronous copies of one chunk of blocks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.committed = np.zeros((machine.warps, LANES), np.int32)
        self.batches: list[Batch] = []

    def issue(
        self,
        shared: Access,
        remote: Access,
        group: Group,
        to: Array,
        at: Array,
        wanted: Array | None,
        mask: Array | None,
    ) -> None:
        """Copy from global to shared memory; bytes past ``wanted`` are zeros and are not read."""
        spaces = self.machine.spaces
        size = shared.bytes
        index = spread(spaces.shared_index(shared, group, to, mask, size), group.n)
        data = self._fetch(remote, group, at, wanted, mask, size)
        if spaces.checker is None:
            _put(spaces.units[size], index, data, mask)
            return
        spaces.checker.issue(shared.site, group, index, mask, size)
        batch: Batch | None = group.cache.get("batch")
        if batch is None:
            open_lanes = np.ones((group.n, LANES), bool)
            batch = Batch(group.rows, self.committed[group.rows], open_lanes)
            group.cache["batch"] = batch
            self.batches.append(batch)
        batch.copies.append(Copy(index, data, mask, size))

    def _fetch(
        self,
        remote: Access,
        group: Group,
        at: Array,
        wanted: Array | None,
        mask: Array | None,
        size: int,
    ) -> Array:
        """Return what the copies bring: (n, 32) units."""
        spaces = self.machine.spaces
        unit = unit_dtype(size)
        amount = (
            np.full((1, 1), size, np.uint32)
            if wanted is None
            else np.minimum(wanted, np.uint32(size))
        )
        if not (amount != size).any():
            return spread(spaces.load_units(remote, group, at, mask), group.n)
        out = np.zeros((group.n, LANES), unit)
        lanes = spread(amount, group.n)
        active = group.active() if mask is None else mask
        full = (lanes == size) & active
        if full.any():
            loaded = spaces.load_units(remote, group, at, None if full.all() else full)
            out[full] = spread(loaded, group.n)[full]
        raw = out.view(np.uint8).reshape(group.n, LANES, size)
        for length in np.unique(lanes[active & (lanes > 0) & (lanes < size)]):
            some = (lanes == length) & active
            for offset in range(int(length)):
                one = Access(remote.site, "u1", 1, remote.offset + offset)
                raw[..., offset] = np.where(
                    some, spaces.load_global(one, group, at, some)[0], raw[..., offset]
                )
        return out

    def commit(self, group: Group, mask: Array | None) -> None:
        """Close a group of copies."""
        group.cache.pop("batch", None)
        if self.machine.spaces.checker is None:
            return
        if mask is None:
            self.committed[group.rows] += 1
        else:
            self.committed[group.rows] += mask

    def wait(self, group: Group, pending: int, mask: Array | None) -> None:
        """Let copies land until at most ``pending`` groups are in flight; all copies where it
        is -1.
        """
        if pending < 0:
            group.cache.pop("batch", None)  # what is issued from here on lands later
        checker = self.machine.spaces.checker
        if checker is None or not self.batches:
            return
        waits = np.zeros((self.machine.warps, LANES), bool)
        waits[group.rows] = group.active() if mask is None else mask
        left: list[Batch] = []
        for batch in self.batches:
            due = waits[batch.rows] & batch.open
            if pending >= 0:
                due &= batch.number < self.committed[batch.rows] - pending
            if due.any():
                self._land(checker, batch, due)
                batch.open = batch.open & ~due
            if batch.open.any():
                left.append(batch)
        self.batches = left

    def _land(self, checker: Checker, batch: Batch, due: Array) -> None:
        """Write the data of the lanes ``due`` of a batch."""
        units = self.machine.spaces.units
        owner = Group(batch.rows, None, 0, [])
        whole = bool(due.all())
        for copy in batch.copies:
            lanes = due if copy.mask is None else due & copy.mask
            chosen = None if whole and copy.mask is None else lanes
            _put(units[copy.size], copy.index, copy.data, chosen)
            checker.land(owner, copy.index, chosen, copy.size)


def _put(units: Array, index: Array, data: Array, mask: Array | None) -> None:
    if mask is None:
        units[index] = data
    else:
        units[index[mask]] = data[mask]
