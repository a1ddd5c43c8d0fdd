"""The asynchronous proxy in checked mode: what bulk copies and wgmma read and write, and when.

From its issue until somebody has waited for it, nobody may write what such an operation reads, and
nobody may touch what it writes. What warps wrote it may read only behind a fence.proxy.async. An
mbarrier hands on the clocks of those who arrived, and that of the copies that reported to it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault, RaceError
from attnprobe.ptx.clocks import AGENT
from attnprobe.ptx.group import Group
from attnprobe.ptx.race_report import RACE, earlier
from attnprobe.ptx.stamps import CLOCK_SHIFT, NEVER, PENDING, WARP
from attnprobe.ptx.values import Array

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine
    from attnprobe.ptx.race import Checker

_KEPT = 256
_NAMES = {"bulk": "a bulk copy", "wgmma": "wgmma"}


@dataclass(eq=False)
class Operation:
    """One asynchronous access to shared memory: by which warps, and which words."""

    site: int
    rows: Array
    words: Array
    kind: str
    writes: bool


@dataclass
class Made:
    """Who initialised an mbarrier, per block slot: warp, its clock, and whether copies know."""

    warp: Array
    clock: Array
    fenced: Array


class Proxies:
    """Checks of the asynchronous operations of one chunk of blocks."""

    def __init__(self, machine: Machine, checker: Checker) -> None:
        self.machine, self.checker, self.clocks = machine, checker, checker.clocks
        self.warps = checker.warps
        self.reading = np.zeros(checker.words, np.uint16)
        self.readers: list[Operation] = []
        self.writers: list[Operation] = []
        self.done: deque[Operation] = deque(maxlen=_KEPT)
        self.agents: dict[int, int] = {}
        self.ticks = 0
        self.made: dict[int, Made] = {}

    # mbarriers

    def initialised(self, group: Group, lanes: Array, key: int) -> None:
        """Note who made the mbarrier ``key``."""
        blocks = self.machine.block_count
        if key not in self.made:
            self.made[key] = Made(*(np.zeros(blocks, np.int64) for _ in range(3)))
            agents = self.clocks.known.shape[2] - self.warps
            self.agents[key] = self.warps + len(self.agents) % agents
        rows = group.rows[lanes.any(axis=1)]
        slots, warp = self.machine.slot[rows], rows % self.warps
        made = self.made[key]
        made.warp[slots], made.fenced[slots] = warp, 0
        made.clock[slots] = self.clocks.known[slots, warp, warp]

    def fence_init(self, group: Group) -> None:
        """Bulk copies see the mbarriers that the group's warps have made."""
        slots, warp = self.clocks.slot(group), self.clocks.warp(group)
        for made in self.made.values():
            made.fenced[slots] |= made.warp[slots] == warp

    def used(self, site: int, group: Group, lanes: Array, key: int) -> None:
        """Check that a barrier orders the making of mbarrier ``key`` before its use."""
        slots, warp = self._of(group, lanes)
        made = self.made[key]
        known = self.clocks.known[slots, warp, made.warp[slots]]
        if ((known < made.clock[slots]) & (warp != made.warp[slots])).any():
            raise self._fault(site, group, lanes, f"the mbarrier at shared address {key} is used, "
                              "and no barrier orders that behind its mbarrier.init")  # fmt: skip

    def arrived(self, site: int, group: Group, lanes: Array, key: int) -> None:
        """The warps of ``lanes`` arrive: what they did is before the end of the phase."""
        self.used(site, group, lanes, key)
        part = group if lanes.any(axis=1).all() else self._some(group, lanes)
        self.clocks.arrive(("arrived", key), part)
        self.clocks.forget(group)

    def reported(self, site: int, group: Group, lanes: Array, key: int) -> None:
        """Check that bulk copies may report to the mbarrier."""
        self.used(site, group, lanes, key)
        slots, warp = self._of(group, lanes)
        made = self.made[key]
        assert self.clocks.visible is not None
        seen = self.clocks.visible[slots, warp, made.warp[slots]] >= made.clock[slots]
        if not (seen | (made.fenced[slots] > 0)).all():
            raise self._fault(site, group, lanes, f"a bulk copy reports to the mbarrier at shared "
                              f"address {key}, and no fence.mbarrier_init or fence.proxy.async "
                              "stands behind its mbarrier.init")  # fmt: skip

    def completed(self, key: int, slots: Array) -> None:
        """A phase is complete: who waits for it knows what has arrived so far."""
        self.clocks.publish(("arrived", key), ("complete", key), slots)

    def passed(self, group: Group, key: int) -> None:
        """The group's wait has ended."""
        self.clocks.leave(("complete", key), group)

    def _of(self, group: Group, lanes: Array) -> tuple[Array, Array]:
        rows = group.rows[lanes.any(axis=1)]
        return self.machine.slot[rows], rows % self.warps

    def _some(self, group: Group, lanes: Array) -> Group:
        return Group(group.rows[lanes.any(axis=1)], None, group.block, [])

    # Asynchronous writes

    def write_begins(self, site: int, row: int, places: Array) -> Operation:
        """Check a bulk copy to 16-byte chunks at ``places``, issued by the warp ``row``."""
        operation = Operation(site, np.array([row]), self._words(places), "bulk", True)
        self._check_writes(operation)
        if self.reading[operation.words].any():
            raise self._conflict(operation, self._holder(operation.words, self.readers))
        self._check_reads(operation)
        self.checker.written[operation.words] = PENDING | row % self.warps
        self.writers.append(operation)
        return operation

    def write_ends(self, operation: Operation, key: int) -> None:
        """The copy has landed, and reports to the mbarrier ``key``."""
        self.ticks += 1
        agent, clock = self.agents[key], AGENT + self.ticks
        self.checker.written[operation.words] = clock << CLOCK_SHIFT | agent
        slot = int(self.machine.slot[operation.rows[0]])
        self.clocks.came(("arrived", key), slot, agent, clock)
        self.writers.remove(operation)
        self.done.append(operation)

    # Asynchronous reads

    def read_begins(self, site: int, rows: Array, places: Array, kind: str) -> Operation:
        """Check a read of 16-byte chunks at ``places``, issued by the warps ``rows``."""
        operation = Operation(site, rows, self._words(places), kind, False)
        self._check_writes(operation)
        self.reading[operation.words] += 1
        self.readers.append(operation)
        return operation

    def read_ends(self, operation: Operation) -> None:
        """The operation has read, and its warps have waited for that."""
        self.reading[operation.words] -= 1
        self.readers.remove(operation)
        self.done.append(operation)
        shadow = self.checker.read_by.reshape(self.warps, -1)
        for row in operation.rows:
            slot, warp = int(self.machine.slot[row]), int(row) % self.warps
            clock = int(self.clocks.known[slot, warp, warp])
            shadow[warp, operation.words] = clock << CLOCK_SHIFT | warp

    def check_write(self, site: int, group: Group, words: Array, lanes: Array) -> None:
        """Check a write by warps: nothing may be reading there. ``words``: of the ``lanes``."""
        if self.readers and self.reading[words].any():
            reader = self._holder(words, self.readers)
            address = self._address(reader.rows[0], np.intersect1d(words, reader.words)[0])
            what = (
                f"{_NAMES[reader.kind]} still reads this: nobody has waited for it; shared address "
                f"{address}"
            )
            later = f"\n  after {self._who(reader)}"
            fault = self.machine.fault(RaceError, self.machine.site(site), group, lanes, what)
            raise RaceError(str(fault) + later)

    # Checks

    @staticmethod
    def _words(places: Array) -> Array:
        """Return the numbers of the words of 16-byte chunks at byte addresses within the chunk."""
        return ((places.reshape(-1, 1) >> 2) + np.arange(4)).reshape(-1)

    def _check_writes(self, new: Operation) -> None:
        """Check against the last writes of the words: ordered, landed, and seen."""
        stamps = self.checker.written[new.words].astype(np.int64)
        if not new.writes and (stamps == NEVER).any():
            address = self._address(new.rows[0], new.words[np.argmax(stamps == NEVER)])
            what = f"read of shared memory that nothing wrote: shared address {address}"
            raise self._error(MemoryFault, new, what)
        known = stamps != NEVER
        if (known & (stamps >= PENDING)).any():
            raise self._conflict(new, self._holder(new.words, self.writers))
        who = np.where(known, stamps & WARP, 0)
        clock = np.where(known, stamps >> CLOCK_SHIFT, 0)
        slot, warps = int(self.machine.slot[new.rows[0]]), new.rows % self.warps
        mine = self.clocks.known[slot, warps].min(axis=0)
        mine[warps] = np.iinfo(np.int64).max if len(warps) == 1 else mine[warps]
        late = clock > mine[np.minimum(who, len(mine) - 1)]
        if late.any():
            raise self._unordered(new, int(np.argmax(late)), stamps, "write")
        assert self.clocks.visible is not None
        seen = self.clocks.visible[slot, warps].max(axis=0)
        unseen = (who < self.warps) & (clock > seen[np.minimum(who, len(seen) - 1)])
        if unseen.any():
            place = int(np.argmax(unseen))
            address = self._address(new.rows[0], new.words[place])
            what = (
                f"no fence.proxy.async between a write and {_NAMES[new.kind]}, which does not see "
                f"it; shared address {address}"
            )
            first = self._first(new, place, stamps, "write")
            raise self._error(RaceError, new, what, first)

    def _check_reads(self, new: Operation) -> None:
        """Check a write against all warps' last reads of the words."""
        slot, warp = int(self.machine.slot[new.rows[0]]), int(new.rows[0]) % self.warps
        stamps = self.checker.read_by.reshape(self.warps, -1)[:, new.words].astype(np.int64)
        known = self.clocks.known[slot, warp, : self.warps].copy()
        known[warp] = np.iinfo(np.int64).max
        late = stamps >> CLOCK_SHIFT > known[:, None]
        if late.any():
            reader, place = (int(value) for value in np.argwhere(late)[0])
            raise self._unordered(new, place, stamps[reader], "read")

    # Errors

    def earlier(self, word: int, other: str) -> tuple[str, str] | None:
        """Return what is wrong and who made the earlier access, where an asynchronous one did."""
        for operation in self.writers if other == "copy" else ():
            if (operation.words == word).any():
                head = "a bulk copy is still under way here: it lands before its mbarrier's phase"
                return head, self._who(operation)
        stamp = int(self.checker.written[word])
        if other == "write" and self.warps <= stamp & WARP and stamp < PENDING:
            for operation in reversed(self.done):
                if operation.writes and (operation.words == word).any():
                    return f"{RACE}: nobody here waited at its mbarrier", self._who(operation)
        return None

    def _who(self, operation: Operation) -> str:
        machine = self.machine
        row = int(operation.rows[0])
        block = machine.launch.block_name(int(machine.block_numbers[machine.slot[row]]))
        warps = sorted(int(one) % self.warps for one in operation.rows)
        names = f"warp {warps[0]}" if len(warps) == 1 else f"warps {warps[0]}-{warps[-1]}"
        verb = "copied to" if operation.writes else "read"
        does = f"{_NAMES[operation.kind]} that {verb}"
        where = machine.launch.where(machine.site(operation.site))
        return f"{block}, {names} issued {does} it\n  at {where}"

    def _address(self, row: int, word: int) -> int:
        return int(word) * 4 - int(self.machine.spaces.base[row, 0])

    def _holder(self, words: Array, operations: list[Operation]) -> Operation:
        for operation in operations:
            if np.isin(words, operation.words).any():
                return operation
        return operations[0]

    def _first(self, new: Operation, place: int, stamps: Array, kind: str) -> str:
        word, stamp = int(new.words[place]), int(stamps[place])
        found = self.earlier(word, kind)
        if found is not None:
            return found[1]
        slot = int(self.machine.slot[new.rows[0]])
        if kind == "read":
            for done in reversed(self.done):
                if not done.writes and (done.words == word).any():
                    return self._who(done)
        return earlier(self.checker, slot * self.warps + (stamp & WARP), stamp, word, kind)

    def _unordered(self, new: Operation, place: int, stamps: Array, kind: str) -> EmulatorError:
        address = self._address(new.rows[0], new.words[place])
        return self._error(RaceError, new, f"{RACE}; shared address {address}",
                           self._first(new, place, stamps, kind))  # fmt: skip

    def _conflict(self, new: Operation, old: Operation) -> EmulatorError:
        both = np.intersect1d(new.words, old.words)
        address = self._address(new.rows[0], both[0] if len(both) else new.words[0])
        what = "is still under way there" if old.writes else "still reads that"
        return self._error(RaceError, new, f"{_NAMES[old.kind]} {what}: nobody has waited for it; "
                           f"shared address {address}", self._who(old))  # fmt: skip

    def _error(
        self, kind: type[EmulatorError], new: Operation, what: str, first: str = ""
    ) -> EmulatorError:
        after = f"\n  after {first}" if first else ""
        return kind(f"{what}\n  {self._who(new)}{after}")

    def _fault(self, site: int, group: Group, lanes: Array, what: str) -> EmulatorError:
        return self.machine.fault(RaceError, self.machine.site(site), group, lanes, what)
