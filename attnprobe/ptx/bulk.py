"""Bulk copies: boxes of tensors (TMA) and plain runs of bytes, between global and shared memory.

In fast mode a copy is done when it is issued. In checked mode it is as late as can be: one into
shared memory lands when nothing else can run, one out of it reads at the wait that covers it. What
touches its bytes in the meantime is an error.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault
from attnprobe.layouts.swizzle import CHUNK
from attnprobe.layouts.tensor_map import BYTES, TensorMap
from attnprobe.ptx import tensor_maps
from attnprobe.ptx.boxes import Box, box
from attnprobe.ptx.group import Group
from attnprobe.ptx.proxies import Operation
from attnprobe.ptx.units import PARAM_WINDOW, WINDOW_BYTES, Access
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

TENSOR_ALIGN = 128


@dataclass
class Load:
    """One lane's copy into shared memory: where its chunks go, what they are, who is told."""

    site: int
    row: int
    places: Array
    data: Array
    barrier: int
    size: int
    held: Operation | None = None


@dataclass
class Store:
    """One lane's copy out of shared memory.

    ``number``: how many groups of copies the lane had committed before. ``target``: the buffer's
    bytes and, for each chunk, what of it goes where.
    """

    site: int
    row: int
    lane: int
    number: int
    places: Array
    target: Box
    held: Operation | None = None


class Bulk:
    """The bulk copies of one chunk of blocks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.loads: deque[Load] = deque()
        self.stores: list[Store] = []
        self.committed = np.zeros((machine.warps, LANES), np.int64)

    # What generated code calls

    def load_tensor(self, shared: Access, group: Group, to: Array, tensor: Array,
                    coordinates: tuple[Array, ...], barrier: Access, at: Array,
                    mask: Array | None) -> None:  # fmt: skip
        """Copy one box per lane from a tensor; its bytes count on the lane's barrier."""
        active = group.active() if mask is None else mask
        keys = self.machine.mbarriers.target(barrier, group, at, active)
        lanes = np.argwhere(active)
        starts = self._starts(shared, group, to, active, TENSOR_ALIGN)
        where = np.stack([spread(c, group.n)[active].view(np.int32) for c in coordinates], axis=-1)
        for (place, lane), start, key, corner, address in zip(
            lanes, starts, keys, where, spread(tensor, group.n)[active], strict=True
        ):
            told = self._map(shared, group, place, lane, int(address), len(corner))
            found = self._box(shared, group, place, lane, told, corner, write=False)
            places = told.chunk_places(int(start)) + self._base(group, place)
            self._check_room(shared, group, place, lane, int(start), told.shared_bytes)
            row = int(group.rows[place])
            self._issue(Load(shared.site, row, places, found.read(), int(key), told.box_bytes))

    def store_tensor(self, shared: Access, group: Group, tensor: Array,
                     coordinates: tuple[Array, ...], source: Array,
                     mask: Array | None) -> None:  # fmt: skip
        """Copy one box per lane into a tensor; what leaves the tensor is not written."""
        active = group.active() if mask is None else mask
        starts = self._starts(shared, group, source, active, TENSOR_ALIGN)
        where = np.stack([spread(c, group.n)[active].view(np.int32) for c in coordinates], axis=-1)
        for (place, lane), start, corner, address in zip(
            np.argwhere(active), starts, where, spread(tensor, group.n)[active], strict=True
        ):
            told = self._map(shared, group, place, lane, int(address), len(corner))
            found = self._box(shared, group, place, lane, told, corner, write=True)
            self._check_room(shared, group, place, lane, int(start), told.shared_bytes)
            places = told.chunk_places(int(start)) + self._base(group, place)
            self._send(shared.site, group, place, lane, places, found)

    def load(self, shared: Access, group: Group, to: Array, remote: Access, source: Array,
             size: Array, barrier: Access, at: Array, mask: Array | None) -> None:  # fmt: skip
        """Copy a run of bytes per lane into shared memory."""
        active = group.active() if mask is None else mask
        keys = self.machine.mbarriers.target(barrier, group, at, active)
        starts = self._starts(shared, group, to, active, CHUNK)
        sizes, sources = spread(size, group.n)[active], spread(source, group.n)[active]
        for (place, lane), start, key, count, address in zip(
            np.argwhere(active), starts, keys, sizes, sources, strict=True
        ):
            run = self._run(shared, group, place, lane, int(address) + remote.offset, int(count))
            self._check_room(shared, group, place, lane, int(start), int(count))
            found = self._box(shared, group, place, lane, run, np.zeros(1, int), write=False)
            places = start + CHUNK * np.arange(int(count) // CHUNK) + self._base(group, place)
            row = int(group.rows[place])
            self._issue(Load(shared.site, row, places, found.read(), int(key), int(count)))

    def store(self, shared: Access, group: Group, remote: Access, target: Array, source: Array,
              size: Array, mask: Array | None) -> None:  # fmt: skip
        """Copy a run of bytes per lane out of shared memory."""
        active = group.active() if mask is None else mask
        starts = self._starts(shared, group, source, active, CHUNK)
        sizes, targets = spread(size, group.n)[active], spread(target, group.n)[active]
        for (place, lane), start, count, address in zip(
            np.argwhere(active), starts, sizes, targets, strict=True
        ):
            run = self._run(shared, group, place, lane, int(address) + remote.offset, int(count))
            self._check_room(shared, group, place, lane, int(start), int(count))
            found = self._box(shared, group, place, lane, run, np.zeros(1, int), write=True)
            places = start + CHUNK * np.arange(int(count) // CHUNK) + self._base(group, place)
            self._send(shared.site, group, place, lane, places, found)

    def hint(self, group: Group, remote: Access, source: Array, size: Array,
             mask: Array | None) -> None:  # fmt: skip
        """Check the run of bytes that each lane asks a cache for; it is no access."""
        active = group.active() if mask is None else mask
        sizes = spread(size, group.n)[active].astype(np.int64)
        begins = spread(source, group.n)[active].astype(np.int64) + remote.offset
        memory = self.machine.launch.memory
        buffer = memory.at(int(begins.min())) if begins.size else None
        if buffer is not None and begins.min() >= buffer.low and sizes.min() > 0:
            skew = int(np.bitwise_or.reduce(begins | sizes)) % CHUNK
            if (begins + sizes).max() <= buffer.high and not skew:
                return
        for (place, lane), count, begin in zip(np.argwhere(active), sizes, begins, strict=True):
            run = self._run(remote, group, place, lane, int(begin), int(count))
            found = box(memory, run, np.zeros(1, int), write=False)
            if isinstance(found, str):
                raise self._fault(remote, group, place, lane, MemoryFault, found)

    def commit(self, group: Group, mask: Array | None) -> None:
        """Close the group of copies that each lane has issued out of shared memory."""
        self.committed[group.rows] += group.active() if mask is None else mask

    def wait(self, group: Group, pending: int, mask: Array | None) -> None:
        """Wait until at most so many of each lane's groups are under way."""
        if not self.stores:
            return
        lanes = np.zeros((self.machine.warps, LANES), bool)
        lanes[group.rows] = group.active() if mask is None else mask
        left = []
        for store in self.stores:
            least = self.committed[store.row, store.lane] - pending
            if lanes[store.row, store.lane] and store.number < least:
                self._write(store)
            else:
                left.append(store)
        self.stores = left

    # Landing

    def _issue(self, load: Load) -> None:
        proxies = self.machine.proxies
        if proxies is None:
            self._land(load)
            return
        load.held = proxies.write_begins(load.site, load.row, load.places)
        self.loads.append(load)

    def land_one(self) -> bool:
        """Let the oldest copy into shared memory land; return whether there was one.

        Raises
        ------
        EmulatorError
            If its block has ended: hardware would write to another block's shared memory.
        """
        if not self.loads:
            return False
        slot = self.machine.slot[self.loads[0].row]
        if not self.machine.live[self.machine.slot == slot].any():
            raise self._unfinished(self.loads[0])
        self._land(self.loads.popleft())
        return True

    def _land(self, load: Load) -> None:
        machine = self.machine
        machine.spaces.units[CHUNK][load.places >> 4] = load.data
        slot = int(machine.slot[load.row])
        if machine.proxies is not None and load.held is not None:
            machine.proxies.write_ends(load.held, load.barrier)
        machine.mbarriers.came(load.barrier, slot, load.size)

    def _send(
        self, site: int, group: Group, place: int, lane: int, places: Array, target: Box
    ) -> None:
        row = int(group.rows[place])
        store = Store(site, row, int(lane), int(self.committed[row, lane]), places, target)
        if self.machine.proxies is None:
            self._write(store)
            return
        store.held = self.machine.proxies.read_begins(site, np.array([row]), places, "bulk")
        self.stores.append(store)

    def _write(self, store: Store) -> None:
        store.target.write(self.machine.spaces.units[CHUNK][store.places >> 4])
        if self.machine.proxies is not None and store.held is not None:
            self.machine.proxies.read_ends(store.held)

    def unfinished(self) -> EmulatorError | None:
        """Return the error of copies that nobody waited for before the block ended, if any."""
        return self._unfinished(self.stores[0]) if self.stores else None

    def _unfinished(self, left: Load | Store) -> EmulatorError:
        instr = self.machine.site(left.site)
        lanes = np.zeros(LANES, bool)
        who = self.machine.launch.who(self.machine, left.row, lanes).rsplit(",", 1)[0]
        return EmulatorError(
            "a block has ended while a bulk copy still uses its shared memory: nobody waited for "
            f"it\n  issued by {who}\n  at {self.machine.launch.where(instr)}"
        )

    # Places

    def _base(self, group: Group, place: int) -> int:
        return int(self.machine.spaces.base[group.rows[place], 0])

    def _starts(
        self, access: Access, group: Group, address: Array, active: Array, align: int
    ) -> Array:
        """Return the shared addresses of the active lanes, checked: int64, flat."""
        local = spread(address, group.n).astype(np.int64) + access.offset
        skewed = active & (local % align != 0)
        if skewed.any():
            what = f"a bulk copy at shared address {int(local[skewed][0])}, no multiple of {align}"
            raise self.machine.spaces.fault(access.site, group, skewed, f"misaligned: {what}")
        starts: Array = local[active]
        return starts

    def _check_room(
        self, access: Access, group: Group, place: int, lane: int, start: int, size: int
    ) -> None:
        limit = self.machine.spaces.size
        if start >= 0 and start + size <= limit:
            return
        raise self._fault(
            access, group, place, lane, MemoryFault,
            f"out of bounds: {size} bytes at shared memory address {start}, which has {limit} "
            "bytes",
        )  # fmt: skip

    def _map(
        self, access: Access, group: Group, place: int, lane: int, address: int, rank: int
    ) -> TensorMap:
        """Return the tensor map at a generic address."""
        launch = self.machine.launch
        local = address - PARAM_WINDOW
        buffer = launch.memory.at(address)
        if 0 <= local < WINDOW_BYTES:
            raw = launch.params[local : local + BYTES]
        elif buffer is not None and buffer.low <= address <= buffer.high - BYTES:
            raw = buffer.raw[address - buffer.origin :][:BYTES]
        else:
            raise self._fault(access, group, place, lane, MemoryFault,
                              f"no tensor map at address {address:#x}")  # fmt: skip
        try:
            told = tensor_maps.decoded(raw.tobytes())
        except EmulatorError as error:
            raise self._fault(access, group, place, lane, EmulatorError, str(error)) from None
        if told.rank != rank:
            raise self._fault(access, group, place, lane, EmulatorError,
                              f"{rank} coordinates for a tensor of {told.rank} axes")  # fmt: skip
        return told

    def _run(
        self, access: Access, group: Group, place: int, lane: int, address: int, size: int
    ) -> TensorMap | tuple[int, int]:
        """Return a checked run of bytes in global memory: (address, bytes)."""
        if address % CHUNK or size % CHUNK or size <= 0:
            raise self._fault(
                access, group, place, lane, MemoryFault,
                f"misaligned: a bulk copy of {size} bytes at global address {address:#x}; both "
                "must be multiples of 16",
            )  # fmt: skip
        return address, size

    def _box(self, access: Access, group: Group, place: int, lane: int,
             told: TensorMap | tuple[int, int], corner: Array, *, write: bool) -> Box:  # fmt: skip
        refusal = told.refusal(corner, write) if isinstance(told, TensorMap) else ""
        if refusal:
            raise self._fault(access, group, place, lane, EmulatorError, refusal)
        lanes = _one_lane(group, place, lane)
        self.machine.dependence.check(access.site, group, lanes)
        found = box(self.machine.launch.memory, told, corner, write=write)
        if isinstance(found, str):
            raise self._fault(access, group, place, lane, MemoryFault, found)
        return found

    def _fault(self, access: Access, group: Group, place: int, lane: int,
               kind: type[EmulatorError], what: str) -> EmulatorError:  # fmt: skip
        lanes = _one_lane(group, place, lane)
        return self.machine.fault(kind, self.machine.site(access.site), group, lanes, what)


def _one_lane(group: Group, place: int, lane: int) -> Array:
    lanes = np.zeros((group.n, LANES), bool)
    lanes[place, lane] = True
    return lanes
