"""Loads and stores in every state space, with bounds and alignment checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault
from attnprobe.ptx.between import lanes_of
from attnprobe.ptx.group import Group
from attnprobe.ptx.memory import Buffer, as_units
from attnprobe.ptx.race import Checker
from attnprobe.ptx.units import (
    WINDOW_BYTES,
    WINDOWS,
    Access,
    gather,
    join,
    poisoned,
    scatter,
    split,
)
from attnprobe.ptx.values import LANES, POISON_BYTE, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine


class Spaces:
    """The memory of one chunk of blocks, and global memory seen from it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        launch = machine.launch
        self.size = launch.shared_bytes
        self.stride = -(-self.size // 32) * 32
        self.raw = np.full(machine.block_count * self.stride, POISON_BYTE, np.uint8)
        self.units = {size: as_units(self.raw, size) for size in (1, 2, 4, 8, 16, 32)}
        self.base = (np.arange(machine.block_count, dtype=np.int64) * self.stride).repeat(
            machine.warps_per_block
        )
        self.base = self.base[:, None]
        self.local_size = machine.code.local_bytes
        self.local = np.full(machine.warps * LANES * self.local_size, POISON_BYTE, np.uint8)
        lanes = np.arange(machine.warps * LANES, dtype=np.int64).reshape(-1, LANES)
        self.local_base = lanes * self.local_size
        self.between = launch.between
        self.checker = Checker(machine, self.stride) if launch.checked and self.size else None

    # Shared memory

    def base_of(self, group: Group) -> Array:
        """Return where each warp's block starts in the chunk's shared memory: int64 (n, 1)."""
        found: Array | None = group.cache.get("base")
        if found is None:
            found = self.base if group.n == self.machine.warps else self.base[group.rows]
            group.cache["base"] = found
        return found

    def shared_index(
        self, access: Access, group: Group, address: Array, mask: Array | None, size: int
    ) -> Array:
        """Return the number of the accessed unit of ``size`` bytes for each lane: int64 (n, 32)
        or (n, 1).

        Raises
        ------
        MemoryFault
            If any active lane's access is misaligned or not within the block's shared memory.
        """
        local = address.astype(np.int64)
        if access.offset:
            local += access.offset
        inside = local if mask is None else spread(local, group.n)[mask]
        if inside.size:
            union = int(np.bitwise_or.reduce(inside, axis=None))
            if union < 0 or union > self.size - size or union & (size - 1):
                self._check_local(access, group, local, mask, size, self.size, "shared memory")
        return (local + self.base_of(group)) >> (size.bit_length() - 1)

    def _check_local(
        self,
        access: Access,
        group: Group,
        local: Array,
        mask: Array | None,
        size: int,
        limit: int,
        what: str,
    ) -> None:
        """Raise the exact error of an access to shared or local memory, if there is one."""
        lanes = spread(local, group.n)
        active = group.active() if mask is None else mask
        outside = ((lanes < 0) | (lanes > limit - size)) & active
        if outside.any():
            value = int(lanes[outside][0])
            raise self.fault(
                access.site,
                group,
                outside,
                f"out of bounds: {size} bytes at {what} address {value}, which has {limit} bytes",
            )
        skewed = (lanes % size != 0) & active
        if skewed.any():
            value = int(lanes[skewed][0])
            raise self.fault(
                access.site,
                group,
                skewed,
                f"misaligned: {size} bytes at {what} address {value}, not a multiple of {size}",
            )

    def load_shared(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[Array]:
        """Return the elements that each lane loads: ``count`` arrays (n, 32)."""
        size = access.bytes
        index = self.shared_index(access, group, address, mask, size)
        if self.checker is not None:
            self.checker.read(access.site, group, index, mask, size)
        return split(gather(self.units[size], index, mask, group.n), access)

    def atomic_places(
        self, access: Access, group: Group, space: str, address: Array, mask: Array | None
    ) -> list[tuple[Array, Array, Array]]:
        """Return (memory units, lanes, unit of each of those lanes) of an atomic operation."""
        size = access.bytes
        active = group.active() if mask is None else mask
        if space == "generic":
            found = []
            for part, local, lanes in self._windows(group, address, access.offset, mask):
                found += self.atomic_places(access, group, part, local, lanes)
            return found
        if space == "shared":
            index = self.shared_index(access, group, address, mask, size)
            if self.checker is not None:
                self.checker.atomic(access.site, group, index, mask, size)
            return [(self.units[size], active, spread(index, group.n)[active])]
        places = self.buffer_of(access, group, address, mask, size, write=True)
        if isinstance(places, tuple):
            buffer, index = places
            places = [(buffer, active, spread(index, group.n)[active])]
        if self.between is not None:
            for buffer, lanes, index in places:
                self.between.atomic(self.machine, access, group, buffer, index, lanes)
        return [(buffer.units(size), lanes, index) for buffer, lanes, index in places]

    def store_shared(
        self, access: Access, group: Group, address: Array, values: list[Array], mask: Array | None
    ) -> None:
        """Store ``count`` values per lane."""
        size = access.bytes
        index = self.shared_index(access, group, address, mask, size)
        if self.checker is not None:
            self.checker.write(access.site, group, index, mask, size)
        scatter(self.units[size], index, join(values, access, group.n), mask, group.n)

    # Local memory

    def _local_index(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> Array:
        size = access.bytes
        local = address.astype(np.int64) + access.offset
        self._check_local(access, group, local, mask, size, self.local_size, "local memory")
        return (local + self.local_base[group.rows]) // size

    def load_local(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[Array]:
        """Return the elements that each lane loads from its local memory."""
        index = self._local_index(access, group, address, mask)
        return split(gather(as_units(self.local, access.bytes), index, mask, group.n), access)

    def store_local(
        self, access: Access, group: Group, address: Array, values: list[Array], mask: Array | None
    ) -> None:
        """Store to local memory."""
        index = self._local_index(access, group, address, mask)
        scatter(
            as_units(self.local, access.bytes), index, join(values, access, group.n), mask, group.n
        )

    # Parameters

    def load_param(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[Array]:
        """Return parameter bytes; ``address`` counts from the first parameter."""
        size = access.bytes
        params = self.machine.launch.params
        local = address.astype(np.int64) + access.offset
        self._check_local(access, group, local, mask, size, len(params), "parameter")
        index = local // size
        if mask is not None:
            index = np.where(spread(mask, group.n), spread(index, group.n), 0)
        return split(np.asarray(as_units(params, size)[index]), access)

    def store_param(
        self, access: Access, group: Group, address: Array, values: list[Array], mask: Array | None
    ) -> None:
        """Refuse: parameters are read-only."""
        lanes = group.active() if mask is None else mask
        raise self.fault(access.site, group, lanes, "write to a parameter, which is read-only")

    # Global memory

    def load_global(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[Array]:
        """Return the elements that each lane loads from global memory."""
        return split(self.load_units(access, group, address, mask), access)

    def load_units(self, access: Access, group: Group, address: Array, mask: Array | None) -> Array:
        """Return what each lane loads from global memory in one piece: units that broadcast to
        (n, 32).
        """
        size = access.bytes
        found = self.buffer_of(access, group, address, mask, size, write=False)
        if isinstance(found, tuple):
            buffer, index = found
            if self.between is not None:
                lanes, picked = lanes_of(group, mask, index)
                self.between.read(self.machine, access, group, buffer, picked, lanes)
            return gather(buffer.units(size), index, mask, group.n)
        out = poisoned((group.n, LANES), size)
        for buffer, lanes, index in found:
            if self.between is not None:
                self.between.read(self.machine, access, group, buffer, index, lanes)
            out[lanes] = buffer.units(size)[index]
        return out

    def store_global(
        self, access: Access, group: Group, address: Array, values: list[Array], mask: Array | None
    ) -> None:
        """Store to global memory."""
        size = access.bytes
        found = self.buffer_of(access, group, address, mask, size, write=True)
        joined = join(values, access, group.n)
        if isinstance(found, tuple):
            buffer, index = found
            if self.between is not None:
                lanes, picked = lanes_of(group, mask, index)
                self.between.write(self.machine, access, group, buffer, picked, lanes)
            scatter(buffer.units(size), index, joined, mask, group.n)
            return
        for buffer, lanes, index in found:
            if self.between is not None:
                self.between.write(self.machine, access, group, buffer, index, lanes)
            buffer.units(size)[index] = spread(joined, group.n)[lanes]

    def buffer_of(
        self,
        access: Access,
        group: Group,
        address: Array,
        mask: Array | None,
        size: int,
        *,
        write: bool,
    ) -> tuple[Buffer, Array] | list[tuple[Buffer, Array, Array]]:
        """Return the buffer that all active lanes access and the unit of ``size`` bytes of each
        lane.

        Where lanes access several buffers: a list of (buffer, lanes, units of those lanes).

        Raises
        ------
        MemoryFault
            If a lane's access is misaligned, not within a mapped array, or writes to a read-only
            one.
        """
        if access.offset:
            address = address + np.uint64(access.offset & (2**64 - 1))
        inside = address if mask is None else spread(address, group.n)[mask]
        if inside.size == 0:
            return []
        self.machine.dependence.check(access.site, group, mask)
        buffer = self.machine.launch.memory.at(int(inside.flat[0]))
        if buffer is not None and (buffer.writable or not write):
            low, high = int(inside.min()), int(inside.max())
            skew = size > 1 and int(np.bitwise_or.reduce(inside, axis=None)) & (size - 1)
            if low >= buffer.low and high + size <= buffer.high and not skew:
                offset = address - np.uint64(buffer.origin)
                return buffer, (offset >> np.uint64(size.bit_length() - 1)).view(np.int64)
        return self._several(access, group, spread(address, group.n), mask, size, write)

    def _several(
        self,
        access: Access,
        group: Group,
        address: Array,
        mask: Array | None,
        size: int,
        write: bool,
    ) -> list[tuple[Buffer, Array, Array]]:
        active = group.active() if mask is None else mask
        skewed = (address % np.uint64(size) != 0) & active
        if skewed.any():
            value = int(address[skewed][0])
            raise self.fault(
                access.site,
                group,
                skewed,
                f"misaligned: {size} bytes at global address {value:#x}, not a multiple of {size} "
                f"({self.machine.launch.memory.nearest(value)})",
            )
        memory = self.machine.launch.memory
        left = active.copy()
        result = []
        while left.any():
            buffer = memory.at(int(address[left][0]))
            first = np.uint64(buffer.low if buffer is not None else 1)
            last = np.uint64(max(buffer.high - size, 0) if buffer is not None else 0)
            here = left & (address >= first) & (address <= last)
            if buffer is None or not here[left][0]:
                raise self._outside(access, group, address, left, size, write)
            if write and not buffer.writable:
                what = f"write to {buffer.name}, which is mapped read-only"
                raise self.fault(access.site, group, here, what)
            offset = address[here] - np.uint64(buffer.origin)
            index = (offset >> np.uint64(size.bit_length() - 1)).astype(np.int64)
            result.append((buffer, here, index))
            left &= ~here
        return result

    def _outside(
        self, access: Access, group: Group, address: Array, lanes: Array, size: int, write: bool
    ) -> EmulatorError:
        """Return the error of those ``lanes`` whose access lies in no array."""
        memory = self.machine.launch.memory
        wrong = lanes.copy()
        for place in zip(*np.nonzero(lanes), strict=True):
            value = int(address[place])
            buffer = memory.at(value)
            wrong[place] = buffer is None or not buffer.low <= value <= buffer.high - size
        value = int(address[wrong][0])
        verb = "write" if write else "read"
        what = f"{verb} of {size} bytes at global address {value:#x}, {memory.nearest(value)}"
        return self.fault(access.site, group, wrong, f"out of bounds: {what}")

    # Generic addresses

    def _windows(
        self, group: Group, address: Array, offset: int, mask: Array | None
    ) -> list[tuple[str, Array, Array | None]]:
        """Return (space, address in that space, lanes) for each space that active lanes access."""
        lanes = spread(address, group.n)
        active = group.active() if mask is None else mask
        found: list[tuple[str, Array, Array | None]] = []
        rest = active
        for space, window in WINDOWS.items():
            here = (
                (lanes >= np.uint64(window)) & (lanes < np.uint64(window + WINDOW_BYTES)) & active
            )
            if here.any():
                found.append((space, lanes - np.uint64(window), None if here.all() else here))
                rest = rest & ~here
        if rest.any():
            found.append(("global", address, None if rest.all() else rest))
        return found

    def load_generic(
        self, access: Access, group: Group, address: Array, mask: Array | None
    ) -> list[Array]:
        """Return the elements that each lane loads through a generic address."""
        out: list[Array] | None = None
        for space, local, lanes in self._windows(group, address, access.offset, mask):
            part = getattr(self, f"load_{space}")(access, group, local, lanes)
            if out is None or lanes is None:
                out = part
            else:
                out = [np.where(lanes, new, old) for new, old in zip(part, out, strict=True)]
        if out is None:
            return split(poisoned((1, 1), access.bytes), access)
        return out

    def store_generic(
        self, access: Access, group: Group, address: Array, values: list[Array], mask: Array | None
    ) -> None:
        """Store through generic addresses."""
        for space, local, lanes in self._windows(group, address, access.offset, mask):
            getattr(self, f"store_{space}")(access, group, local, values, lanes)

    def fault(self, site: int, group: Group, lanes: Array, what: str) -> EmulatorError:
        """Return a MemoryFault at a site."""
        return self.machine.fault(MemoryFault, self.machine.site(site), group, lanes, what)
