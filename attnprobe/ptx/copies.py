"""cp.async for one chunk: at once in fast mode; in checked mode data lands only at the wait that covers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.group import Group
from attnprobe.ptx.memory import unit_dtype
from attnprobe.ptx.spaces import Access
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine


class Copies:
    """The asynchronous copies of one chunk of blocks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def issue(
        self, shared: Access, remote: Access, group: Group, to: Array, at: Array, wanted: Array | None,
        mask: Array | None,
    ) -> None:  # fmt: skip
        """Copy from global to shared memory; bytes past ``wanted`` are zeros and are not read."""
        spaces = self.machine.spaces
        size = shared.bytes
        index = spaces.shared_index(shared, group, to, mask, size)
        data = self._fetch(remote, group, at, wanted, mask, size)
        if mask is not None:
            spaces.units[size][spread(index, group.n)[mask]] = data[mask]
        else:
            spaces.units[size][spread(index, group.n)] = data

    def _fetch(
        self, remote: Access, group: Group, at: Array, wanted: Array | None, mask: Array | None, size: int
    ) -> Array:
        """Return what the copies bring: (n, 32) units."""
        spaces = self.machine.spaces
        unit = unit_dtype(size)
        amount = np.full((1, 1), size, np.uint32) if wanted is None else np.minimum(wanted, np.uint32(size))
        if amount.shape == (1, 1) and amount[0, 0] == size:
            parts = spaces.load_global(remote, group, at, mask)
            return np.ascontiguousarray(_whole(parts, group.n, unit))
        out = np.zeros((group.n, LANES), unit)
        lanes = spread(amount, group.n)
        active = group.active() if mask is None else mask
        full = (lanes == size) & active
        if full.any():
            parts = spaces.load_global(remote, group, at, None if full.all() else full)
            loaded = _whole(parts, group.n, unit)
            out = np.where(full, loaded, out)
        raw = out.view(np.uint8).reshape(group.n, LANES, size)
        for length in np.unique(lanes[active & (lanes > 0) & (lanes < size)]):
            some = (lanes == length) & active
            for offset in range(int(length)):
                one = Access(remote.site, "u1", 1, remote.offset + offset)
                raw[..., offset] = np.where(some, spaces.load_global(one, group, at, some)[0], raw[..., offset])
        return out

    def commit(self, group: Group, mask: Array | None) -> None:
        """Close a group of copies."""

    def wait(self, site: int, group: Group, pending: int, mask: Array | None) -> None:
        """Wait until at most ``pending`` groups are in flight, or for all copies (-1)."""


def _whole(parts: list[Array], warps: int, unit: np.dtype[np.generic]) -> Array:
    """Return loaded elements as units again."""
    if len(parts) == 1:
        return spread(parts[0], warps).view(unit)
    joined = np.stack([spread(part, warps) for part in parts], axis=-1)
    return joined.view(unit)[..., 0]
