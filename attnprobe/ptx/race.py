"""Races in shared memory, found by vector clocks per warp and a shadow per 4-byte word.

What "ordered" means is in ``clocks``. A write must be ordered after every earlier access of the
word by other warps, a read after every earlier write. Within a warp order is the program's.

The shadow holds one stamp for the last write of each word and one for each warp's last read of it.
Nearly all checks are one comparison: a stamp below ``limit`` of the warp is ordered for certain,
since the warp knows a higher clock of every other warp. Only what is not goes the exact way.
Unwritten words and words to which a copy is under way have stamps above every limit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.clocks import Clocks
from attnprobe.ptx.group import Group
from attnprobe.ptx.memory import as_units
from attnprobe.ptx.race_report import race, unwritten
from attnprobe.ptx.stamps import (
    ATOMIC,
    NEVER,
    PENDING,
    Logged,
    stamps_of,
    widened,
    words_of,
)
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

_COPIES_KEPT = 64
_LOG_BYTES = 48 << 20  # of the addresses kept to name the other access of a race


class Checker:
    """Clocks and shadow of one chunk of blocks."""

    def __init__(self, machine: Machine, stride: int) -> None:
        self.machine = machine
        self.warps = machine.warps_per_block
        blocks = machine.block_count
        self.words = blocks * stride // 4
        self.written = np.full(self.words, NEVER, np.uint32)
        self.read_by = np.zeros(self.warps * self.words, np.uint32)
        self.clocks = Clocks(machine)
        sizes = (4, 8, 16, 32)
        self._written_units = {size: as_units(self.written.view(np.uint8), size) for size in sizes}
        self._read_units = {size: as_units(self.read_by.view(np.uint8), size) for size in sizes}
        self.log: deque[Logged] = deque()
        self._log_bytes = 0

    def full_barrier(self, group: Group) -> None:
        """All live warps of the group's blocks have met."""
        self.clocks.full_barrier(group)
        if group.n == self.machine.warps:
            # Nothing before can race with anything to come, but copies may still be under way.
            copies = [entry for entry in self.log if entry.kind == "copy"][-_COPIES_KEPT:]
            self.log = deque(copies)
            self._log_bytes = sum(entry.index.nbytes for entry in copies)

    # Accesses

    def read(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check and record a read. ``index``: unit of ``size`` bytes for each lane, within the
        chunk.
        """
        index, size = words_of(index, size)
        self._check_written(site, group, index, mask, size, "read")
        stamps = self._unit_stamps(group, size)
        offset = self._row_offset(group, size)
        units = self._read_units[size]
        if mask is None:
            units[index + offset] = stamps
        else:
            lanes = spread(index + offset, group.n)[mask]
            units[lanes] = spread(stamps, group.n)[mask]
        self._keep(Logged(site, "read", group.rows, self.clocks.stamps(group), index, mask, size))

    def write(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check and record a write."""
        index, size = words_of(index, size)
        self._check_asynchronous(site, group, index, mask, size)
        self._check_written(site, group, index, mask, size, "write")
        self._check_reads(site, group, index, mask, size, "write")
        self._mark(site, group, index, mask, size, self._unit_stamps(group, size), "write")

    def issue(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check a copy at its issue, and mark its words as under way."""
        self._check_asynchronous(site, group, index, mask, size)
        self._check_written(site, group, index, mask, size, "copy")
        self._check_reads(site, group, index, mask, size, "copy")
        pending = (self.clocks.warp(group) | PENDING).astype(np.uint32)[:, None]
        self._mark(site, group, index, mask, size, widened(pending, size), "copy")

    def land(self, group: Group, index: Array, lanes: Array | None, size: int) -> None:
        """Record that copies have landed: a write by the issuing warp, now."""
        stamps = self._unit_stamps(group, size)
        units = self._written_units[size]
        if lanes is None:
            units[index] = stamps
        else:
            units[spread(index, group.n)[lanes]] = spread(stamps, group.n)[lanes]

    def atomic(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check and record an atomic operation: it may meet other atomic operations, but no
        plain access.
        """
        index, size = words_of(index, size)
        self._check_asynchronous(site, group, index, mask, size)
        self._check_written(site, group, index, mask, size, "atomic")
        self._check_reads(site, group, index, mask, size, "atomic")
        stamps = widened(self.clocks.stamps(group) | np.uint32(ATOMIC), size)
        lanes = group.active() if mask is None else mask
        self._written_units[size][spread(index, group.n)[lanes]] = spread(stamps, group.n)[lanes]
        self._keep(Logged(site, "atomic", group.rows, self.clocks.stamps(group), index, mask, size))

    def _unit_stamps(self, group: Group, size: int) -> Array:
        key = ("stamps", size)
        found: Array | None = group.cache.get(key)
        if found is None:
            found = group.cache[key] = widened(self.clocks.stamps(group), size)
        return found

    def _row_offset(self, group: Group, size: int) -> Array:
        """Return where each warp's part of the read shadow starts, in units: int64 (n, 1)."""
        key = ("offset", size)
        found: Array | None = group.cache.get(key)
        if found is None:
            found = group.cache[key] = (self.clocks.warp(group) * (self.words * 4 // size))[:, None]
        return found

    def _keep(self, entry: Logged) -> None:
        self.log.append(entry)
        self._log_bytes += entry.index.nbytes
        while self._log_bytes > _LOG_BYTES:
            self._log_bytes -= self.log.popleft().index.nbytes

    def _check_asynchronous(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int
    ) -> None:
        """Check that no wgmma or bulk copy reads what is about to be written."""
        proxies = self.machine.proxies
        if proxies is not None and proxies.readers:
            lanes = group.active() if mask is None else mask
            words = spread(index, group.n)[lanes] * (size // 4)
            every = (words[:, None] + np.arange(size // 4)).reshape(-1)
            proxies.check_write(site, group, every, lanes)

    def _check_written(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int, kind: str
    ) -> None:
        """Check an access against the last writes of its words."""
        limits = self.clocks.limits(group)
        if mask is None:
            stamps = stamps_of(self._written_units[size], index)
            recent = stamps >= limits[:, :, None]
        else:
            stamps = stamps_of(self._written_units[size], spread(index, group.n)[mask])
            recent = stamps >= spread(limits, group.n)[mask][:, None]
        if recent.any():
            self._exactly_written(site, group, spread(index, group.n), mask, size, kind)

    def _exactly_written(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int, kind: str
    ) -> None:
        active = (group.active() if mask is None else mask)[:, :, None]
        stamps = stamps_of(self._written_units[size], np.where(active[..., 0], index, 0))
        if kind == "read":
            never = (stamps == NEVER) & active
            if never.any():
                raise unwritten(self, site, group, index, never, size)
        pending = (stamps >= PENDING) & (stamps != NEVER) & active
        if pending.any():
            raise race(self, site, group, index, pending, size, kind, stamps, "copy")
        plain = (stamps < PENDING) & active
        if kind == "atomic":
            plain &= (stamps & ATOMIC) == 0
        unordered = plain & ~self.clocks.ordered(group, stamps)
        if unordered.any():
            raise race(self, site, group, index, unordered, size, kind, stamps, "write")

    def _check_reads(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int, kind: str
    ) -> None:
        """Check a write against other warps' last reads of its words."""
        limits = self.clocks.limits(group)
        part = self.words * 4 // size
        own = self.clocks.warp(group)
        for step in range(1, self.warps):
            place = spread(index + (((own + step) % self.warps) * part)[:, None], group.n)
            chosen = place if mask is None else place[mask]
            bound = limits[:, :, None] if mask is None else spread(limits, group.n)[mask][:, None]
            if (stamps_of(self._read_units[size], chosen) >= bound).any():
                active = (group.active() if mask is None else mask)[:, :, None]
                stamps = stamps_of(self._read_units[size], np.where(active[..., 0], place, 0))
                unordered = active & (stamps > 0) & ~self.clocks.ordered(group, stamps)
                if unordered.any():
                    raise race(
                        self,
                        site,
                        group,
                        spread(index, group.n),
                        unordered,
                        size,
                        kind,
                        stamps,
                        "read",
                    )

    def _mark(
        self,
        site: int,
        group: Group,
        index: Array,
        mask: Array | None,
        size: int,
        stamps: Array,
        kind: str,
    ) -> None:
        """Set the write stamps, and find other warps that write the same words in the same
        instruction.
        """
        self._keep(Logged(site, kind, group.rows, self.clocks.stamps(group), index, mask, size))
        units = self._written_units[size]
        if mask is None:
            chosen, mine = spread(index, group.n), spread(stamps, group.n)
        else:
            chosen, mine = spread(index, group.n)[mask], spread(stamps, group.n)[mask]
        units[chosen] = mine
        if self.warps == 1:
            return
        got, wanted = stamps_of(units, chosen), stamps_of(mine, None)
        clash = got != wanted
        if clash.any():
            lost = np.zeros((group.n, LANES, clash.shape[-1]), bool)
            lost[group.active() if mask is None else mask] = clash.reshape(-1, clash.shape[-1])
            stamps_now = stamps_of(units, np.where(lost.any(axis=2), spread(index, group.n), 0))
            raise race(
                self, site, group, spread(index, group.n), lost, size, kind, stamps_now, kind
            )
