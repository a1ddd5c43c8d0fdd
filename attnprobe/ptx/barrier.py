"""Barriers as objects: who has arrived, who waits, and the report when nobody can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.errors import DeadlockError, EmulatorError
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.values import Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

BARRIERS_PER_BLOCK = 16


class Waiting:
    """A group that waits: where it goes on, and what it brought for a reduction."""

    __slots__ = ("after", "group", "instr", "result")

    def __init__(
        self, group: Group, instr: Instr, after: int, result: tuple[str, int, Array] | None
    ) -> None:
        self.group, self.instr, self.after = group, instr, after
        self.result = result


class Barrier:
    """One barrier number, for all blocks of the chunk at once.

    Attributes
    ----------
    arrived : threads that have arrived, per block slot.
    expected : threads that must arrive, per block slot; 0 for all live threads, -1 where nobody
        has arrived.
    joined : which warps have arrived, bool (blocks, warps per block).
    votes : per block slot, how many of the arrived threads brought a true predicate (bar.red).
    """

    def __init__(self, machine: Machine) -> None:
        blocks = machine.block_count
        self.arrived = np.zeros(blocks, np.int64)
        self.expected = np.full(blocks, -1, np.int64)
        self.joined = np.zeros((blocks, machine.warps_per_block), bool)
        self.votes = np.zeros(blocks, np.int64)
        self.waiting: list[Waiting] = []


class Barriers:
    """All barriers of a chunk."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.between = machine.launch.between
        self.all: dict[int, Barrier] = {}

    def arrive(self, group: Group, instr: Instr, after: int, arguments: list[Any]) -> None:
        """Let ``group`` arrive, as the barrier instruction ``instr`` says.

        ``arguments``: action ("sync", "arrive" or a reduction), barrier number, thread count or
        None, and for a reduction the predicate and the result register with its code.
        """
        action, number, count, predicate, result = arguments
        numbers = np.unique(spread(number, group.n)[group.active()])
        if len(numbers) > 1:
            for one in numbers:
                lanes = (spread(number, group.n) == one) & group.active()
                part = group.part(lanes, group.block, range(len(group.regs)))
                keep = np.isin(group.rows, part.rows)
                cut = [_rows(value, keep) for value in (number, count, predicate)]
                cut[0] = np.full((1, 1), one, numbers.dtype)
                self.arrive(part, instr, after, [action, *cut, result])
            return
        wanted = self._count(group, instr, count)
        key = int(numbers[0])
        if key >= BARRIERS_PER_BLOCK:
            lanes = group.active()
            raise self.machine.fault(
                EmulatorError, instr, group, lanes, f"there is no barrier {key}: there are 16"
            )
        barrier = self.all.get(key)
        whole = barrier is None or (not barrier.waiting and not barrier.arrived.any())
        if (
            whole
            and action == "sync"
            and wanted in (0, self.machine.threads)
            and self._all_here(group)
        ):
            self._join_whole(group)
            group.block = after
            self.machine.queue.append(group)
            return
        if barrier is None:
            barrier = self.all[key] = Barrier(self.machine)
        self._enter(barrier, key, group, instr, after, action, wanted, predicate, result)

    def _count(self, group: Group, instr: Instr, count: Array | None) -> int:
        """Return the thread count that the instruction names, 0 for all threads."""
        if count is None:
            return 0
        counts = np.unique(spread(count, group.n)[group.active()])
        if len(counts) > 1 or counts[0] == 0 or counts[0] % 32:
            lanes = group.active()
            raise self.machine.fault(
                EmulatorError,
                instr,
                group,
                lanes,
                f"a barrier's thread count is one multiple of 32, not {counts}",
            )
        return int(counts[0])

    def _all_here(self, group: Group) -> bool:
        """Whether ``group`` holds all live lanes of each of its blocks."""
        machine = self.machine
        if group.n == machine.warps:
            return group.mask is None or machine.complete(group)
        found = group.cache.get("blocks")
        if found is None:
            found = group.cache["blocks"] = np.unique(machine.slot[group.rows])
        rows = machine.live.reshape(machine.block_count, -1)[found]
        return int(np.count_nonzero(rows)) == group.lanes

    def _join_whole(self, group: Group) -> None:
        checker = self.machine.spaces.checker
        if checker is not None:
            checker.full_barrier(group)
        if self.between is not None:
            self.between.full_barrier(self.machine, group)

    def _enter(
        self,
        barrier: Barrier,
        key: int,
        group: Group,
        instr: Instr,
        after: int,
        action: str,
        wanted: int,
        predicate: Array | None,
        result: tuple[int, str] | None,
    ) -> None:
        machine = self.machine
        slots = machine.slot[group.rows]
        touched = np.unique(slots)
        known = barrier.expected[touched]
        clash = (known >= 0) & (known != wanted)
        if clash.any():
            slot = int(touched[np.argmax(clash)])
            told = int(known[np.argmax(clash)])
            raise machine.fault(
                EmulatorError,
                instr,
                group,
                group.active() & (slots == slot)[:, None],
                f"barrier {key} is waited on with two thread counts: {told or 'all'} and "
                f"{wanted or 'all'}",
            )
        barrier.expected[touched] = wanted
        lanes = group.active().sum(axis=1)
        np.add.at(barrier.arrived, slots, lanes)
        barrier.joined[slots, group.rows % machine.warps_per_block] = True
        brought: tuple[str, int, Array] | None = None
        if predicate is not None and result is not None:
            votes = (spread(predicate, group.n) & group.active()).sum(axis=1)
            np.add.at(barrier.votes, slots, votes)
            brought = (action, result[0], np.zeros(0))
        checker = machine.spaces.checker
        if checker is not None:
            checker.clocks.arrive(key, group)
        if self.between is not None:
            self.between.arrive(machine, key, group)
        if action == "arrive":
            group.block = after
            machine.queue.append(group)
        else:
            barrier.waiting.append(Waiting(group, instr, after, brought))
        self._complete(key, barrier)

    def _complete(self, key: int, barrier: Barrier) -> None:
        """Release every block whose threads have all arrived."""
        machine = self.machine
        live = machine.live.reshape(machine.block_count, -1).sum(axis=1)
        wanted = np.where(barrier.expected == 0, live, barrier.expected)
        done = (barrier.expected >= 0) & (barrier.arrived >= wanted)
        if not done.any():
            return
        machine.mbarriers.progress = True
        still: list[Waiting] = []
        released: list[Group] = []
        for entry in barrier.waiting:
            group = entry.group
            mine = done[machine.slot[group.rows]]
            if not mine.any():
                still.append(entry)
                continue
            if not mine.all():
                rest = group.part(
                    group.active() & ~mine[:, None], group.block, range(len(group.regs))
                )
                still.append(Waiting(rest, entry.instr, entry.after, entry.result))
                group = group.part(
                    group.active() & mine[:, None], group.block, range(len(group.regs))
                )
            group.block = entry.after
            if entry.result is not None:
                self._reduce(barrier, group, entry.result)
            released.append(group)
        barrier.waiting = still
        checker = machine.spaces.checker
        if checker is not None:
            checker.clocks.release(key, np.flatnonzero(done), released)
        if self.between is not None:
            self.between.release(machine, key, released)
        machine.queue += released
        barrier.arrived[done] = 0
        barrier.expected[done] = -1
        barrier.joined[done] = False
        barrier.votes[done] = 0

    def _reduce(self, barrier: Barrier, group: Group, result: tuple[str, int, Array]) -> None:
        action, register, _ = result
        slots = self.machine.slot[group.rows]
        votes, arrived = barrier.votes[slots][:, None], barrier.arrived[slots][:, None]
        if action == "popc":
            group.regs[register] = votes.astype(group.regs[register].dtype)
        else:
            group.regs[register] = votes == arrived if action == "and" else votes > 0

    def exited(self, group: Group) -> None:
        """Look again at the barriers that wait for all live threads, now that ``group`` has
        exited.
        """
        for key, barrier in self.all.items():
            if barrier.waiting:
                self._complete(key, barrier)

    def waits(self) -> list[str]:
        """Return a line for every block's warps that wait, for the report of a deadlock."""
        machine = self.machine
        lines = []
        for key, barrier in sorted(self.all.items()):
            for entry in barrier.waiting:
                slots = machine.slot[entry.group.rows]
                for slot in np.unique(slots)[:2]:
                    lines.append(self._wait_line(key, barrier, entry, int(slot)))
        return lines

    def _wait_line(self, key: int, barrier: Barrier, entry: Waiting, slot: int) -> str:
        machine = self.machine
        group = entry.group
        rows = group.rows[machine.slot[group.rows] == slot]
        warps = ", ".join(str(int(row) % machine.warps_per_block) for row in rows)
        live = int(machine.live.reshape(machine.block_count, -1)[slot].sum())
        wanted = int(barrier.expected[slot]) or live
        missing = [
            str(warp)
            for warp in range(machine.warps_per_block)
            if not barrier.joined[slot, warp]
            and machine.live[slot * machine.warps_per_block + warp].any()
        ]
        absent = f"; not there: warp {', '.join(missing)}" if missing else ""
        block = machine.launch.block_name(int(machine.block_numbers[slot]))
        return (
            f"{block}: warp {warps} at barrier {key}: "
            f"{int(barrier.arrived[slot])} of {wanted} threads have arrived{absent}\n"
            f"    at {machine.launch.where(entry.instr)}"
        )


def deadlock(lines: list[str]) -> DeadlockError:
    """Return the report of who waits on what."""
    shown = "\n  ".join(lines[:12])
    more = f"\n  and {len(lines) - 12} more" if len(lines) > 12 else ""
    return DeadlockError(
        f"no warp can run: every one has exited or waits at a barrier\n  {shown}{more}"
    )


def _rows(value: Array | None, keep: Array) -> Array | None:
    if value is None or value.shape[0] == 1:
        return value
    return value[keep]
