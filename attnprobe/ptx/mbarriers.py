"""mbarrier objects: arrivals and bytes that a phase still waits for, and who waits for the phase.

An object lies at an address of shared memory, but its state is kept here: for all blocks of the
chunk at once, as with other barriers. A wait parks its group until the phase is complete. That is
one of the waits that PTX allows: try_wait may take as long as it likes, and the result of a
test_wait may come late. Where nothing else can run, waits give up and are false once, so that a
program which only looked may go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.errors import EmulatorError
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.launch_state import lane_text
from attnprobe.ptx.units import Access
from attnprobe.ptx.values import Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

MAX_COUNT = (1 << 20) - 1  # of arrivals and of bytes
BYTES = 8
_PHASE = np.uint64(32)  # bits of a state below the number of its phase: arrivals still waited for


class Object:
    """The mbarrier at one shared address, in every block slot of the chunk.

    Attributes
    ----------
    count : arrivals that every phase waits for; 0 where the object is not initialised.
    pending : arrivals that the phase under way still waits for.
    bytes : bytes that it still waits for; below 0 where they came before they were expected.
    phase : number of the phase under way.
    """

    def __init__(self, address: int, blocks: int) -> None:
        self.address = address
        self.count = np.zeros(blocks, np.int64)
        self.pending = np.zeros(blocks, np.int64)
        self.bytes = np.zeros(blocks, np.int64)
        self.phase = np.zeros(blocks, np.int64)


@dataclass
class Parked:
    """Lanes that wait: for the completion of a phase of one parity, or of a numbered phase."""

    group: Group
    instr: Instr
    after: int
    register: int
    address: int
    target: Array
    parity: bool


class MBarriers:
    """All mbarrier objects of a chunk."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.objects: dict[int, Object] = {}
        self.parked: list[Parked] = []
        self.progress = True

    # What generated code calls

    def init(self, access: Access, group: Group, address: Array, count: Array,
             mask: Array | None) -> None:  # fmt: skip
        """Make objects whose phases wait for ``count`` arrivals."""
        for key, lanes in self._keys(access, group, address, mask):
            barrier = self.objects.get(key)
            if barrier is None:
                barrier = self.objects[key] = Object(key, self.machine.block_count)
            slots = self._slots(group, lanes)
            if barrier.count[slots].any():
                raise self._fault(access, group, lanes, key, "is initialised already")
            counts = spread(count, group.n)[lanes].astype(np.int64)
            if (counts < 1).any() or (counts > MAX_COUNT).any():
                text = f"cannot wait for {counts[0]} arrivals: 1 to {MAX_COUNT}"
                raise self._fault(access, group, lanes, key, text)
            barrier.count[slots] = barrier.pending[slots] = counts
            barrier.bytes[slots] = barrier.phase[slots] = 0
            if self.machine.proxies is not None:
                self.machine.proxies.initialised(group, lanes, key)

    def invalidate(self, access: Access, group: Group, address: Array, mask: Array | None) -> None:
        """End the life of objects."""
        for key, lanes in self._keys(access, group, address, mask):
            barrier = self._known(access, group, lanes, key)
            barrier.count[self._slots(group, lanes)] = 0

    def arrive(self, access: Access, group: Group, address: Array, count: Array | None,
               expected: Array | None, drop: bool, mask: Array | None) -> Array:  # fmt: skip
        """Expect bytes, then arrive; return the states before: uint64 (n, 32).

        Lanes that arrive together do so one after the other, as their states show.

        ``drop``: later phases wait for so many arrivals less.
        """
        states = np.zeros((group.n, 32), np.uint64)
        for key, named in self._keys(access, group, address, mask):
            barrier = self._known(access, group, named, key)
            each = np.ones((group.n, 32), np.int64) if count is None else spread(count, group.n)
            for lanes in self._turns(group, barrier, named, each):
                slots = self._slots(group, lanes)
                states[lanes] = self._states(barrier, slots, each[lanes])
                if self.machine.proxies is not None:
                    self.machine.proxies.arrived(access.site, group, lanes, key)
                if expected is not None:
                    self._add_bytes(access, group, lanes, barrier, expected)
                counts = np.zeros(self.machine.block_count, np.int64)
                np.add.at(counts, slots, each[lanes].astype(np.int64))
                if drop:
                    barrier.count -= counts
                    if (barrier.count[slots] < 0).any():
                        raise self._fault(access, group, lanes, key, "has no arrivals left to drop")
                self._count_down(access, group, lanes, barrier, counts)
        return states

    def _states(self, barrier: Object, slots: Array, counts: Array) -> Array:
        """Return what each of the lanes in ``slots`` finds that arrives after those before it."""
        before = np.zeros(len(slots), np.int64)
        for slot in np.unique(slots):
            own = slots == slot
            before[own] = np.cumsum(counts[own]) - counts[own]
        left = (barrier.pending[slots] - before).astype(np.uint64)
        return barrier.phase[slots].astype(np.uint64) << _PHASE | left

    @staticmethod
    def pending_count(states: Array) -> Array:
        """Return the arrivals that phases still waited for when these states were given."""
        return (states & np.uint64(MAX_COUNT)).astype(np.uint32)

    def _turns(self, group: Group, barrier: Object, lanes: Array, each: Array) -> list[Array]:
        """Return the lanes that arrive together: all, or warp by warp where a phase ends between.

        Those who come after its end are no part of what the phase hands on.
        """
        counts = np.zeros(self.machine.block_count, np.int64)
        slots = self._slots(group, lanes)
        np.add.at(counts, slots, each[lanes].astype(np.int64))
        if (counts[slots] <= barrier.pending[slots]).all():
            return [lanes]
        turns = []
        for row in np.flatnonzero(lanes.any(axis=1)):
            one = np.zeros_like(lanes)
            one[row] = lanes[row]
            turns.append(one)
        return turns

    def expect(self, access: Access, group: Group, address: Array, count: Array,
               mask: Array | None) -> None:  # fmt: skip
        """Let the phase wait for so many bytes more."""
        for key, lanes in self._keys(access, group, address, mask):
            barrier = self._known(access, group, lanes, key)
            self._add_bytes(access, group, lanes, barrier, count)

    def complete(self, access: Access, group: Group, address: Array, count: Array,
                 mask: Array | None) -> None:  # fmt: skip
        """Count bytes as come, as a copy does."""
        for key, lanes in self._keys(access, group, address, mask):
            self._known(access, group, lanes, key)
            counts = spread(count, group.n)[lanes].astype(np.int64)
            for slot, size in zip(self._slots(group, lanes), counts, strict=True):
                self.came(key, int(slot), int(size))

    # What copies do

    def target(self, access: Access, group: Group, address: Array, mask: Array) -> Array:
        """Return the checked shared addresses of the objects that copies of ``mask`` report to."""
        for key, lanes in self._keys(access, group, address, mask):
            self._known(access, group, lanes, key)
            if self.machine.proxies is not None:
                self.machine.proxies.reported(access.site, group, lanes, key)
        local = spread(address, group.n)[mask].astype(np.int64)
        return local + access.offset

    def came(self, key: int, slot: int, size: int) -> None:
        """Count ``size`` bytes that a copy brought to the block in ``slot``."""
        barrier = self.objects[key]
        barrier.bytes[slot] -= size
        self.progress = True
        self._turn(barrier, np.array([slot]))

    # Phases

    def _add_bytes(
        self, access: Access, group: Group, lanes: Array, barrier: Object, expected: Array
    ) -> None:
        slots = self._slots(group, lanes)
        np.add.at(barrier.bytes, slots, spread(expected, group.n)[lanes].astype(np.int64))
        if (np.abs(barrier.bytes[slots]) > MAX_COUNT).any():
            text = f"cannot wait for more than {MAX_COUNT} bytes"
            raise self._fault(access, group, lanes, barrier.address, text)

    def _count_down(
        self, access: Access, group: Group, lanes: Array, barrier: Object, counts: Array
    ) -> None:
        """Take ``counts`` arrivals off, phase after phase where one instruction brings several."""
        self.progress = True
        while counts.any():
            slots = np.flatnonzero(counts)
            now = np.minimum(counts, barrier.pending)
            if not now[slots].all():
                text = "gets more arrivals than its phase waits for, and bytes are still to come"
                raise self._fault(access, group, lanes, barrier.address, text)
            barrier.pending -= now
            counts = counts - now
            self._turn(barrier, slots)

    def _turn(self, barrier: Object, slots: Array) -> None:
        """Begin the next phase in those ``slots`` where the present one waits for nothing."""
        done = slots[(barrier.pending[slots] == 0) & (barrier.bytes[slots] == 0)]
        if not len(done):
            return
        barrier.phase[done] += 1
        barrier.pending[done] = barrier.count[done]
        if self.machine.proxies is not None:
            self.machine.proxies.completed(barrier.address, done)
        waiting, self.parked = self.parked, []
        for entry in waiting:
            if entry.address == barrier.address:
                self._look(entry)
            else:
                self.parked.append(entry)

    # Waits

    def wait(self, group: Group, instr: Instr, after: int, arguments: tuple[Any, ...]) -> None:
        """Let ``group`` go on at block ``after`` once its phase is complete.

        ``arguments``: the access, the address, the parity or state, which of the two it is, and
        the register of the result.
        """
        access, address, target, parity, register = arguments
        for key, lanes in self._keys(access, group, address, None):
            self._known(access, group, lanes, key)
            part = self._part(group, lanes, after)
            rows = np.isin(group.rows, part.rows)
            wanted = spread(target, group.n)[rows]
            wanted = (wanted if parity else wanted >> _PHASE).astype(np.int64)
            self._look(Parked(part, instr, after, register, key, wanted, parity))

    def _part(self, group: Group, lanes: Array, after: int) -> Group:
        if lanes.sum() == group.lanes:
            return group
        return group.part(lanes, group.block, self.machine.code.blocks[after].live_in)

    def _look(self, entry: Parked) -> None:
        """Release the lanes of ``entry`` whose phase is complete, and park the others."""
        group = entry.group
        phase = self.objects[entry.address].phase[self.machine.slot[group.rows]][:, None]
        if entry.parity:
            complete = (phase & 1) != (entry.target & 1)
        else:
            complete = phase > entry.target
        ready = spread(complete, group.n) & group.active()
        if not ready.any():
            self.parked.append(entry)
            return
        late = group.active() & ~ready
        if late.any():
            rest = self._part(group, late, entry.after)
            target = entry.target[np.isin(group.rows, rest.rows)]
            self.parked.append(Parked(rest, entry.instr, entry.after, entry.register,
                                      entry.address, target, entry.parity))  # fmt: skip
        self._release(entry, self._part(group, ready, entry.after), True)

    def _release(self, entry: Parked, group: Group, result: bool) -> None:
        if self.machine.proxies is not None and result:
            self.machine.proxies.passed(group, entry.address)
        group.regs[entry.register] = np.full((1, 1), result)
        group.block = entry.after
        self.machine.queue.append(group)

    def give_up(self) -> bool:
        """Let all waits be false, if anything has happened since they last were."""
        if not self.parked or not self.progress:
            return False
        self.progress = False
        waiting, self.parked = self.parked, []
        for entry in waiting:
            self._release(entry, entry.group, False)
        return True

    def waits(self) -> list[str]:
        """Return a line for every block's warps that wait, for the report of a deadlock."""
        machine = self.machine
        lines = []
        for entry in self.parked:
            slots = machine.slot[entry.group.rows]
            for slot in np.unique(slots)[:2]:
                rows = entry.group.rows[slots == slot]
                warps = ", ".join(str(int(row) % machine.warps_per_block) for row in rows)
                lanes = lane_text(entry.group.active()[slots == slot].any(axis=0))
                block = machine.launch.block_name(int(machine.block_numbers[slot]))
                barrier = self.objects[entry.address]
                lines.append(
                    f"{block}: warp {warps}, {lanes} at the mbarrier at shared address "
                    f"{entry.address}: phase {int(barrier.phase[slot])} waits for "
                    f"{int(barrier.pending[slot])} of {int(barrier.count[slot])} arrivals and "
                    f"{int(barrier.bytes[slot])} bytes\n    at {machine.launch.where(entry.instr)}"
                )
        return sorted(lines)

    # Places

    def _keys(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[tuple[int, Array]]:
        """Return (shared address, lanes) of each object that active lanes name."""
        self.machine.spaces.shared_index(access, group, address, mask, BYTES)
        active = group.active() if mask is None else mask
        local = spread(address, group.n).astype(np.int64) + access.offset
        keys = np.unique(local[active])
        if len(keys) == 1:
            return [(int(keys[0]), active)]
        return [(int(key), active & (local == key)) for key in keys]

    def _slots(self, group: Group, lanes: Array) -> Array:
        """Return the block slot of each of the ``lanes``, flat."""
        return np.repeat(self.machine.slot[group.rows], lanes.sum(axis=1))

    def _known(self, access: Access, group: Group, lanes: Array, key: int) -> Object:
        barrier = self.objects.get(key)
        if barrier is None or not barrier.count[self._slots(group, lanes)].all():
            raise self._fault(access, group, lanes, key, "is not initialised")
        return barrier

    def _fault(
        self, access: Access, group: Group, lanes: Array, key: int, what: str
    ) -> EmulatorError:
        return self.machine.fault(
            EmulatorError,
            self.machine.site(access.site),
            group,
            lanes,
            f"the mbarrier at shared address {key} {what}",
        )
