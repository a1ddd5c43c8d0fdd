"""Vector clocks: what each warp knows of what the others, and asynchronous copies, have done.

Every warp has a clock, which ticks at barriers. An access is stamped with its warp and that warp's
clock; a barrier tells each warp that leaves it what all that arrived knew. An access is ordered
before what a warp does now if the warp knows of a clock at least as high as the stamp.

Bulk copies have clocks too, one for each mbarrier that they report to ("agents"): who has waited
there knows of what they brought. And a second set of clocks says what the asynchronous proxy sees:
a write of a warp is seen by wgmma and by bulk copies after a fence.proxy.async of somebody who
knew of it. Both sets are handed on in the same ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.group import Group
from attnprobe.ptx.stamps import CLOCK_SHIFT, PENDING, WARP
from attnprobe.ptx.values import LANES, Array

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

AGENT = 1 << 24  # clocks of agents start here, above any that warps reach


class Clocks:
    """The clocks of all warps of a chunk.

    Attributes
    ----------
    known : what each warp knows of each clock: int64 (blocks, warps, warps + agents).
    visible : of that, what the asynchronous proxy sees; None in kernels without one.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.warps = machine.warps_per_block
        blocks = machine.block_count
        agents = WARP + 1 - self.warps if machine.code.asynchronous else 0
        self.known = np.zeros((blocks, self.warps, self.warps + agents), np.int64)
        own = np.arange(self.warps)
        self.known[:, own, own] = 1
        self.visible = np.zeros_like(self.known) if agents else None
        self.sets = [self.known] if self.visible is None else [self.known, self.visible]
        self.joined: dict[object, list[Array]] = {}

    def warp(self, group: Group) -> Array:
        """Return each warp's number within its block."""
        return group.rows % self.warps

    def slot(self, group: Group) -> Array:
        """Return each warp's block slot."""
        return self.machine.slot[group.rows]

    def stamps(self, group: Group) -> Array:
        """Return the stamp of what each warp does now: uint32 (n, 1)."""
        found: Array | None = group.cache.get("stamps")
        if found is None:
            warp = self.warp(group)
            clock = self.known[self.slot(group), warp, warp]
            found = (clock << CLOCK_SHIFT | warp).astype(np.uint32)[:, None]
            group.cache["stamps"] = found
        return found

    def limits(self, group: Group) -> Array:
        """Return the stamp from which on an access may not be ordered before each warp's now:
        uint32 (n, 1).
        """
        found: Array | None = group.cache.get("limits")
        if found is None:
            warp = self.warp(group)
            known = self.known[self.slot(group), warp, : self.warps].copy()
            known[np.arange(group.n), warp] = PENDING >> CLOCK_SHIFT
            highest = min(PENDING, AGENT << CLOCK_SHIFT)
            found = (known.min(axis=1) + 1 << CLOCK_SHIFT).clip(0, highest)
            found = group.cache["limits"] = found.astype(np.uint32)[:, None]
        return found

    def ordered(self, group: Group, stamps: Array) -> Array:
        """Return whether stamped accesses (n, 32, words) are before each warp's now."""
        who = np.minimum(stamps & WARP, self.known.shape[2] - 1).astype(np.int64)
        own = self.warp(group)
        known = self.known[self.slot(group), own]
        clocks = np.take_along_axis(known, who.reshape(group.n, -1), axis=1).reshape(stamps.shape)
        result: Array = (who == own[:, None, None]) | (clocks >= (stamps >> CLOCK_SHIFT))
        return result

    @staticmethod
    def forget(group: Group) -> None:
        """Drop what was derived from the group's clocks, which have changed."""
        for key in [
            key for key in group.cache if key in ("stamps", "limits") or isinstance(key, tuple)
        ]:
            del group.cache[key]

    def advance(self, group: Group) -> None:
        """Let the group's clocks tick past all that they know."""
        slots, warp = self.slot(group), self.warp(group)
        highest = self.known[slots, warp, : self.warps].max(axis=1)
        self.known[slots, warp, warp] = highest + 1
        self.forget(group)

    def full_barrier(self, group: Group) -> None:
        """All live warps of the group's blocks have met."""
        slots = np.unique(self.slot(group))
        alive = self.machine.live.reshape(-1, self.warps, LANES)[slots].any(axis=2)
        for clocks in self.sets:
            held = clocks[slots]
            joined = np.where(alive[:, :, None], held, 0).max(axis=1)
            clocks[slots] = np.where(alive[:, :, None], joined[:, None, :], held)
        held = self.known[slots]
        own = np.arange(self.warps)
        highest = held[:, :, : self.warps].max(axis=2)
        held[:, own, own] = np.where(alive, highest + 1, held[:, own, own])
        self.known[slots] = held
        self.forget(group)

    def arrive(self, key: object, group: Group) -> None:
        """The group's warps have arrived at barrier ``key``: what they did so far is before its
        release.
        """
        joined = self._joined(key)
        slots, warp = self.slot(group), self.warp(group)
        for total, clocks in zip(joined, self.sets, strict=True):
            np.maximum.at(total, slots, clocks[slots, warp])
        self.advance(group)

    def _joined(self, key: object) -> list[Array]:
        found = self.joined.get(key)
        if found is None:
            shape = self.known.shape[::2]
            found = self.joined[key] = [np.zeros(shape, np.int64) for _ in self.sets]
        return found

    def leave(self, key: object, group: Group) -> None:
        """The group leaves barrier ``key``: it knows what those who arrived knew."""
        slots, warp = self.slot(group), self.warp(group)
        for total, clocks in zip(self._joined(key), self.sets, strict=True):
            clocks[slots, warp] = np.maximum(clocks[slots, warp], total[slots])
        self.advance(group)

    def release(self, key: object, slots: Array, groups: list[Group]) -> None:
        """Barrier ``key`` of the blocks ``slots`` is complete: ``groups`` leave it."""
        for group in groups:
            self.leave(key, group)
        for total in self._joined(key):
            total[slots] = 0

    def publish(self, key: object, done: object, slots: Array) -> None:
        """Keep what is joined at ``key`` in ``slots`` under another key."""
        for kept, total in zip(self._joined(done), self._joined(key), strict=True):
            kept[slots] = total[slots]

    def came(self, key: object, slot: int, agent: int, clock: int) -> None:
        """Let those who leave ``key`` know of an agent's clock."""
        self._joined(key)[0][slot, agent] = clock

    def fence_proxy(self, group: Group) -> None:
        """The asynchronous proxy sees all that the group's warps know of."""
        if self.visible is None:
            return
        slots, warp = self.slot(group), self.warp(group)
        self.visible[slots, warp] = np.maximum(self.visible[slots, warp], self.known[slots, warp])
        self.advance(group)
