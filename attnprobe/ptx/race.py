"""Races in shared memory, found by vector clocks per warp and a shadow per 4-byte word.

Every warp has a clock. An access is stamped with its warp and that warp's clock; a barrier tells
each warp that leaves it the clocks of all that arrived. An access is ordered before what a warp
does now if the warp knows of a clock at least as high as the stamp. A write must be ordered after
every earlier access of the word by other warps, a read after every earlier write. Within a warp
order is the program's.

The shadow holds one stamp for the last write of each word and one for each warp's last read of it.
Nearly all checks are one comparison: a stamp below ``limit`` of the warp is ordered for certain,
since the warp knows a higher clock of every other warp. Only what is not goes the exact way.
Unwritten words and words to which a copy is under way have stamps above every limit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault, RaceError
from attnprobe.ptx.group import Group
from attnprobe.ptx.memory import as_units
from attnprobe.ptx.stamps import (
    ATOMIC,
    CLOCK_SHIFT,
    NEVER,
    PENDING,
    WARP,
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
        self.clock = np.zeros((blocks, self.warps, self.warps), np.int64)
        own = np.arange(self.warps)
        self.clock[:, own, own] = 1
        self.joined: dict[int, Array] = {}
        sizes = (4, 8, 16, 32)
        self._written_units = {size: as_units(self.written.view(np.uint8), size) for size in sizes}
        self._read_units = {size: as_units(self.read_by.view(np.uint8), size) for size in sizes}
        self.log: deque[Logged] = deque()
        self._log_bytes = 0

    # Clocks

    def _warp(self, group: Group) -> Array:
        return group.rows % self.warps

    def _slot(self, group: Group) -> Array:
        return self.machine.slot[group.rows]

    def _stamps(self, group: Group) -> Array:
        """Return the stamp of what each warp does now: uint32 (n, 1)."""
        found: Array | None = group.cache.get("stamps")
        if found is None:
            warp = self._warp(group)
            clock = self.clock[self._slot(group), warp, warp]
            found = (clock << CLOCK_SHIFT | warp).astype(np.uint32)[:, None]
            group.cache["stamps"] = found
        return found

    def _limits(self, group: Group) -> Array:
        """Return the stamp from which on an access may not be ordered before each warp's now:
        uint32 (n, 1).
        """
        found: Array | None = group.cache.get("limits")
        if found is None:
            warp = self._warp(group)
            known = self.clock[self._slot(group), warp].copy()
            known[np.arange(group.n), warp] = PENDING >> CLOCK_SHIFT
            found = ((known.min(axis=1) + 1 << CLOCK_SHIFT).clip(0, PENDING)).astype(np.uint32)[
                :, None
            ]
            group.cache["limits"] = found
        return found

    @staticmethod
    def _forget(group: Group) -> None:
        """Drop what was derived from the group's clocks, which have changed."""
        for key in [
            key for key in group.cache if key in ("stamps", "limits") or isinstance(key, tuple)
        ]:
            del group.cache[key]

    def full_barrier(self, group: Group) -> None:
        """All live warps of the group's blocks have met."""
        slots = np.unique(self._slot(group))
        alive = self.machine.live.reshape(-1, self.warps, LANES)[slots].any(axis=2)
        clocks = self.clock[slots]
        joined = np.where(alive[:, :, None], clocks, 0).max(axis=1)
        clocks = np.where(alive[:, :, None], joined[:, None, :], clocks)
        own = np.arange(self.warps)
        mine = np.where(alive, joined.max(axis=1)[:, None] + 1, clocks[:, own, own])
        clocks[:, own, own] = mine
        self.clock[slots] = clocks
        self._forget(group)
        if group.n == self.machine.warps:
            # Nothing before can race with anything to come, but copies may still be under way.
            copies = [entry for entry in self.log if entry.kind == "copy"][-_COPIES_KEPT:]
            self.log = deque(copies)
            self._log_bytes = sum(entry.index.nbytes for entry in copies)

    def arrive(self, key: int, group: Group) -> None:
        """The group's warps have arrived at barrier ``key``: what they did so far is before its
        release.
        """
        joined = self.joined.get(key)
        if joined is None:
            joined = self.joined[key] = np.zeros(self.clock.shape[::2], np.int64)
        slots, warp = self._slot(group), self._warp(group)
        np.maximum.at(joined, slots, self.clock[slots, warp])
        self._advance(group)

    def release(self, key: int, slots: Array, groups: list[Group]) -> None:
        """Barrier ``key`` of the blocks ``slots`` is complete: ``groups`` leave it."""
        joined = self.joined[key]
        for group in groups:
            mine, warp = self._slot(group), self._warp(group)
            self.clock[mine, warp] = np.maximum(self.clock[mine, warp], joined[mine])
            self._advance(group)
        joined[slots] = 0

    def _advance(self, group: Group) -> None:
        slots, warp = self._slot(group), self._warp(group)
        self.clock[slots, warp, warp] = self.clock[slots, warp].max(axis=1) + 1
        self._forget(group)

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
        self._keep(Logged(site, "read", group.rows, self._stamps(group), index, mask, size))

    def write(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check and record a write."""
        index, size = words_of(index, size)
        self._check_written(site, group, index, mask, size, "write")
        self._check_reads(site, group, index, mask, size, "write")
        self._mark(site, group, index, mask, size, self._unit_stamps(group, size), "write")

    def issue(self, site: int, group: Group, index: Array, mask: Array | None, size: int) -> None:
        """Check a copy at its issue, and mark its words as under way."""
        self._check_written(site, group, index, mask, size, "copy")
        self._check_reads(site, group, index, mask, size, "copy")
        pending = (self._warp(group) | PENDING).astype(np.uint32)[:, None]
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
        self._check_written(site, group, index, mask, size, "atomic")
        self._check_reads(site, group, index, mask, size, "atomic")
        stamps = widened(self._stamps(group) | np.uint32(ATOMIC), size)
        lanes = group.active() if mask is None else mask
        self._written_units[size][spread(index, group.n)[lanes]] = spread(stamps, group.n)[lanes]
        self._keep(Logged(site, "atomic", group.rows, self._stamps(group), index, mask, size))

    def _unit_stamps(self, group: Group, size: int) -> Array:
        key = ("stamps", size)
        found: Array | None = group.cache.get(key)
        if found is None:
            found = group.cache[key] = widened(self._stamps(group), size)
        return found

    def _row_offset(self, group: Group, size: int) -> Array:
        """Return where each warp's part of the read shadow starts, in units: int64 (n, 1)."""
        key = ("offset", size)
        found: Array | None = group.cache.get(key)
        if found is None:
            found = group.cache[key] = (self._warp(group) * (self.words * 4 // size))[:, None]
        return found

    def _keep(self, entry: Logged) -> None:
        self.log.append(entry)
        self._log_bytes += entry.index.nbytes
        while self._log_bytes > _LOG_BYTES:
            self._log_bytes -= self.log.popleft().index.nbytes

    def _check_written(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int, kind: str
    ) -> None:
        """Check an access against the last writes of its words."""
        limits = self._limits(group)
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
                raise self._unwritten(site, group, index, never, size)
        pending = (stamps >= PENDING) & (stamps != NEVER) & active
        if pending.any():
            raise self._race(site, group, index, pending, size, kind, stamps, "copy")
        plain = (stamps < PENDING) & active
        if kind == "atomic":
            plain &= (stamps & ATOMIC) == 0
        unordered = plain & ~self._ordered(group, stamps)
        if unordered.any():
            raise self._race(site, group, index, unordered, size, kind, stamps, "write")

    def _ordered(self, group: Group, stamps: Array) -> Array:
        """Return whether stamped accesses (n, 32, words) are before each warp's now."""
        warp = stamps & WARP
        warp = np.minimum(warp, self.warps - 1).astype(np.int64)
        slots, own = self._slot(group), self._warp(group)
        known = self.clock[slots, own]
        clocks = np.take_along_axis(known, warp.reshape(group.n, -1), axis=1).reshape(stamps.shape)
        result: Array = (warp == own[:, None, None]) | (clocks >= (stamps >> CLOCK_SHIFT))
        return result

    def _check_reads(
        self, site: int, group: Group, index: Array, mask: Array | None, size: int, kind: str
    ) -> None:
        """Check a write against other warps' last reads of its words."""
        limits = self._limits(group)
        part = self.words * 4 // size
        own = self._warp(group)
        for step in range(1, self.warps):
            place = spread(index + (((own + step) % self.warps) * part)[:, None], group.n)
            chosen = place if mask is None else place[mask]
            bound = limits[:, :, None] if mask is None else spread(limits, group.n)[mask][:, None]
            if (stamps_of(self._read_units[size], chosen) >= bound).any():
                active = (group.active() if mask is None else mask)[:, :, None]
                stamps = stamps_of(self._read_units[size], np.where(active[..., 0], place, 0))
                unordered = active & (stamps > 0) & ~self._ordered(group, stamps)
                if unordered.any():
                    raise self._race(
                        site, group, spread(index, group.n), unordered, size, kind, stamps, "read"
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
        self._keep(Logged(site, kind, group.rows, self._stamps(group), index, mask, size))
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
            raise self._race(
                site, group, spread(index, group.n), lost, size, kind, stamps_now, kind
            )

    # Errors

    def _unwritten(
        self, site: int, group: Group, index: Array, bad: Array, size: int
    ) -> EmulatorError:
        lanes: Array = np.asarray(bad.any(axis=2))
        row, lane = np.argwhere(lanes)[0]
        address = self._address(group, index, int(row), int(lane), size) + 4 * int(
            np.argmax(bad[row, lane])
        )
        what = f"read of shared memory that nothing wrote: shared address {address}"
        return self.machine.fault(MemoryFault, self.machine.site(site), group, lanes, what)

    def _address(self, group: Group, index: Array, row: int, lane: int, size: int) -> int:
        spaces = self.machine.spaces
        return int(index[row, lane]) * size - int(spaces.base[group.rows[row], 0])

    def _race(
        self,
        site: int,
        group: Group,
        index: Array,
        bad: Array,
        size: int,
        kind: str,
        stamps: Array,
        other: str,
    ) -> EmulatorError:
        """Return the error that names this access and the earlier one."""
        row, lane, word = (int(value) for value in np.argwhere(bad)[0])
        stamp = int(stamps[row, lane, word])
        address = self._address(group, index, row, lane, size) + 4 * word
        where = int(index[row, lane]) * (size // 4) + word
        slot = int(self.machine.slot[group.rows[row]])
        first = self._earlier(slot * self.warps + (stamp & WARP), stamp, where, other)
        mine = bad[row].any(axis=1)
        launch = self.machine.launch
        who = launch.who(self.machine, int(group.rows[row]), mine)
        instr = self.machine.site(site)
        verbs = {
            "read": "reads",
            "write": "writes",
            "copy": "copies (cp.async) to",
            "atomic": "atomically updates",
        }
        if other == "copy" and kind != "copy":
            head = "cp.async is still under way here: it lands at the wait that covers it"
        else:
            head = "race: no barrier orders two accesses"
        return RaceError(
            f"{head}; shared address {address}\n"
            f"  {who} {verbs[kind]} it\n  at {launch.where(instr)}\n  after {first}"
        )

    def _earlier(self, row: int, stamp: int, word: int, kind: str) -> str:
        """Return who made the earlier access, and where, from the log."""
        machine = self.machine
        verbs = {
            "read": "read",
            "write": "wrote",
            "copy": "issued a copy (cp.async) to",
            "atomic": "atomically updated",
        }
        kinds = {"write": ("write", "copy", "atomic"), "copy": ("copy",)}.get(kind, (kind,))
        for entry in reversed(self.log):
            if entry.kind not in kinds:
                continue
            place = np.searchsorted(entry.rows, row)
            if place >= len(entry.rows) or entry.rows[place] != row:
                continue
            same = entry.stamps[place, 0] >> CLOCK_SHIFT == stamp >> CLOCK_SHIFT
            if not same and entry.kind != "copy":
                continue
            words = spread(entry.index, len(entry.rows))[place] * (entry.size // 4)
            lanes = (words <= word) & (word < words + entry.size // 4)
            if entry.mask is not None:
                lanes = lanes & entry.mask[place]
            if lanes.any():
                who = machine.launch.who(machine, row, lanes)
                where = machine.launch.where(machine.site(entry.site))
                return f"{who} {verbs[entry.kind]} it\n  at {where}"
        who = machine.launch.who(machine, row, np.zeros(LANES, bool))
        return f"{who.rsplit(',', 1)[0]} {verbs[kind]} it, too long ago to name the line"
