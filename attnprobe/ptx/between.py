"""Races between warps of different blocks in global memory: what acquire and release order.

A block may read what another block of the launch wrote only where a chain of synchronisation leads
from the write to the read. Links of such a chain are barriers of a block, and words that both use
with strong operations (atom, red, ld and st that are relaxed, acquire, release or volatile, of a
scope beyond the block): a release there, or a fence before a strong write, hands on what the warp
knows; an acquire, or a strong read before a fence, takes it over.

Source: PTX ISA, "Memory Consistency Model": release and acquire patterns, causality order. Looked
at by warps: what one lane does counts for all. Reads are not remembered, so that a write which
comes too early for a reader is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import RaceError
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.memory import Buffer
from attnprobe.ptx.units import Access
from attnprobe.ptx.values import Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

MOST_WARPS = 4096  # of a launch: what each knows of each is a table
ORDERS = ("relaxed", "acquire", "release", "acq_rel", "sc")
RELEASES, ACQUIRES = ("release", "acq_rel", "sc"), ("acquire", "acq_rel", "sc")
_Place = tuple[int, int]  # origin of a buffer, byte in it


def order_of(instr: Instr) -> str:
    """Return how strong a load or store is between blocks, as ``Access.order`` has it.

    Source: PTX ISA, "ld", "st"; "Memory Consistency Model": volatile is treated as relaxed.
    """
    if "cta" in instr.mods:
        return ""
    weakest = "relaxed" if {"volatile", "mmio"} & set(instr.mods) else ""
    return next((mod for mod in instr.mods if mod in ORDERS), weakest)


def atomic_order_of(instr: Instr) -> str:
    """Return the same for atom and red, which are relaxed and of the device where nothing is said.

    Source: PTX ISA, "atom".
    """
    return "" if "cta" in instr.mods else order_of(instr) or "relaxed"


def meets(instr: Instr) -> bool:
    """Whether blocks may be meant to learn of each other by ``instr``."""
    if any(mod.startswith("shared") for mod in instr.mods):
        return False
    ordered = {"volatile", "mmio", *ORDERS} & set(instr.mods)
    return instr.op in ("atom", "red") or (instr.op in ("ld", "st") and bool(ordered))


@dataclass(frozen=True)
class Shadow:
    """The last write of each byte of a buffer: by which warp (-1: none), when, where in the text,
    and whether it was a strong one.
    """

    warp: Array
    clock: Array
    site: Array
    strong: Array


class Between:
    """What the warps of a launch know of each other.

    Attributes
    ----------
    known : int32 (warps, warps): the clock up to which each warp knows of each other one.
    """

    def __init__(self, warps: int, warps_per_block: int) -> None:
        self.known = np.zeros((warps, warps), np.int32)
        np.fill_diagonal(self.known, 1)
        self.per_block = warps_per_block
        self.fenced: dict[int, Array] = {}  # what a warp knew at its last fence
        self.heard: dict[int, Array] = {}  # what its strong reads found since
        self.left: dict[_Place, Array] = {}  # what was handed on at a word
        self.arrived: dict[tuple[object, int], Array] = {}  # at a barrier of a block
        self.shadows: dict[int, Shadow] = {}

    def warps(self, machine: Machine, group: Group) -> Array:
        """Return each warp's number in the launch."""
        blocks = machine.block_numbers[machine.slot[group.rows]]
        found: Array = blocks * self.per_block + group.rows % self.per_block
        return found

    # What hands on knowledge

    def full_barrier(self, machine: Machine, group: Group) -> None:
        """All warps of the group's blocks have met."""
        warps = self.warps(machine, group)
        for block in np.unique(warps // self.per_block):
            rows = warps[warps // self.per_block == block]
            self.known[rows] = self.known[rows].max(axis=0)
            self.known[rows, rows] += 1

    def arrive(self, machine: Machine, key: object, group: Group) -> None:
        """The group's warps have arrived at barrier ``key``."""
        for warp in self.warps(machine, group):
            place = (key, int(warp) // self.per_block)
            before = self.arrived.get(place)
            mine = self.known[warp].copy()
            self.arrived[place] = mine if before is None else np.maximum(before, mine)
            self.known[warp, warp] += 1

    def release(self, machine: Machine, key: object, groups: list[Group]) -> None:
        """``groups`` leave barrier ``key``, which is complete."""
        left = {}
        for group in groups:
            for warp in self.warps(machine, group):
                place = (key, int(warp) // self.per_block)
                left[place] = self.arrived[place]
                own = self.known[warp, warp]
                self.known[warp] = np.maximum(self.known[warp], left[place])
                self.known[warp, warp] = own
        for place in left:
            del self.arrived[place]

    def fence(self, machine: Machine, group: Group) -> None:
        """The group's warps execute a fence of a scope beyond the block."""
        for warp in map(int, self.warps(machine, group)):
            if warp in self.heard:
                self._learn(warp, self.heard.pop(warp))
            self.fenced[warp] = self.known[warp].copy()
            self.known[warp, warp] += 1

    def _learn(self, warp: int, found: Array) -> None:
        own = self.known[warp, warp]
        self.known[warp] = np.maximum(self.known[warp], found)
        self.known[warp, warp] = own

    # Accesses

    def read(
        self, machine: Machine, access: Access, group: Group, buffer: Buffer, index: Array,
        lanes: Array,
    ) -> None:  # fmt: skip
        """Check a read. ``index``: unit of each of the ``lanes`` (bool (n, 32)) in the buffer."""
        if buffer.origin in self.shadows:
            self._check(machine, access, group, buffer, index, lanes, "read")
        if access.order:
            warps = np.nonzero(lanes)[0]
            numbers = self.warps(machine, group)[warps]
            for warp, unit in zip(map(int, numbers), map(int, index), strict=True):
                self._strong_read(warp, (buffer.origin, unit * access.bytes), access.order)

    def write(
        self, machine: Machine, access: Access, group: Group, buffer: Buffer, index: Array,
        lanes: Array,
    ) -> None:  # fmt: skip
        """Check and record a write; arguments as in ``read``."""
        self._check(machine, access, group, buffer, index, lanes, "write")
        numbers = self.warps(machine, group)[np.nonzero(lanes)[0]]
        self._mark(access, buffer, index, numbers)
        if not access.order:  # warps that write the same bytes in this very instruction
            self._check(machine, access, group, buffer, index, lanes, "write")
        if access.order:
            for warp, unit in zip(map(int, numbers), map(int, index), strict=True):
                place = (buffer.origin, unit * access.bytes)
                self.left.pop(place, None)
                self._strong_write(warp, place, access.order)

    def atomic(
        self, machine: Machine, access: Access, group: Group, buffer: Buffer, index: Array,
        lanes: Array,
    ) -> None:  # fmt: skip
        """Check and record an atomic operation: a strong read and a strong write, lane by lane."""
        self._check(machine, access, group, buffer, index, lanes, "atomic")
        numbers = self.warps(machine, group)[np.nonzero(lanes)[0]]
        self._mark(access, buffer, index, numbers)
        for warp, unit in zip(map(int, numbers), map(int, index), strict=True):
            place = (buffer.origin, unit * access.bytes)
            self._strong_read(warp, place, access.order)
            self._strong_write(warp, place, access.order)

    def _strong_read(self, warp: int, place: _Place, order: str) -> None:
        found = self.left.get(place)
        if found is None:
            return
        if order in ACQUIRES:
            self._learn(warp, found)
        else:
            before = self.heard.get(warp)
            self.heard[warp] = found if before is None else np.maximum(before, found)

    def _strong_write(self, warp: int, place: _Place, order: str) -> None:
        if order in RELEASES:
            given: Array | None = self.known[warp].copy()
            self.known[warp, warp] += 1
        else:
            given = self.fenced.get(warp)
        if given is not None:
            before = self.left.get(place)
            self.left[place] = given if before is None else np.maximum(before, given)

    def _shadow(self, buffer: Buffer) -> Shadow:
        found = self.shadows.get(buffer.origin)
        if found is None:
            size = len(buffer.raw)
            clock, site = (np.zeros(size, np.int32) for _ in range(2))
            found = Shadow(np.full(size, -1, np.int32), clock, site, np.zeros(size, bool))
            self.shadows[buffer.origin] = found
        return found

    def _mark(self, access: Access, buffer: Buffer, index: Array, warps: Array) -> None:
        shadow = self._shadow(buffer)
        at = _bytes(access, index)
        shadow.warp[at] = warps[:, None]
        shadow.clock[at] = self.known[warps, warps][:, None]
        shadow.site[at] = access.site
        shadow.strong[at] = bool(access.order)

    def _check(
        self, machine: Machine, access: Access, group: Group, buffer: Buffer, index: Array,
        lanes: Array, kind: str,
    ) -> None:  # fmt: skip
        shadow = self._shadow(buffer)
        at = _bytes(access, index)
        writer = shadow.warp[at]
        me = self.warps(machine, group)[np.nonzero(lanes)[0]][:, None]
        wrong = (writer >= 0) & (writer // self.per_block != me // self.per_block)
        wrong &= self.known[me, writer] < shadow.clock[at]
        if access.order:
            wrong &= ~shadow.strong[at]
        if wrong.any():
            raise self._race(machine, access, group, buffer, at, wrong, lanes, kind)

    def _race(
        self, machine: Machine, access: Access, group: Group, buffer: Buffer, at: Array,
        wrong: Array, lanes: Array, kind: str,
    ) -> RaceError:  # fmt: skip
        """Return the error that names both accesses."""
        shadow, launch = self._shadow(buffer), machine.launch
        which, byte = (int(value) for value in np.argwhere(wrong)[0])
        place = int(at[which, byte])
        rows, columns = np.nonzero(lanes)
        bad = np.zeros(lanes.shape[1], bool)
        bad[columns[wrong.any(axis=1) & (rows == rows[which])]] = True
        who = launch.who(machine, int(group.rows[rows[which]]), bad)
        writer = int(shadow.warp[place])
        other = f"{launch.block_name(writer // self.per_block)}, warp {writer % self.per_block}"
        does = {"read": "reads", "write": "writes", "atomic": "atomically updates"}[kind]
        return RaceError(
            "race: no release and acquire order accesses of two blocks; "
            f"{launch.memory.nearest(buffer.origin + place)}\n"
            f"  {who} {does} it\n  at {launch.where(machine.site(access.site))}\n"
            f"  after {other} wrote it\n  at {launch.where(machine.site(int(shadow.site[place])))}"
        )


def _bytes(access: Access, index: Array) -> Array:
    """Return the bytes of each lane's access: int64 (lanes, bytes)."""
    return index[:, None] * access.bytes + np.arange(access.bytes)


def lanes_of(group: Group, mask: Array | None, index: Array) -> tuple[Array, Array]:
    """Return the active lanes (bool (n, 32)) and the units of those, in order."""
    lanes = group.active() if mask is None else mask
    return lanes, spread(index, group.n)[lanes]
