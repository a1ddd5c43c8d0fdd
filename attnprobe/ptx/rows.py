"""Rows of matrices in shared memory: lanes supply the addresses, the plan says who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.fragments import Loader
from attnprobe.ptx.group import Group
from attnprobe.ptx.units import Access, gather
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.spaces import Spaces


def load_rows(
    spaces: Spaces, access: Access, group: Group, address: Array, mask: Array | None, loader: Loader
) -> list[Array]:
    """Return the registers of ldmatrix: each of the first lanes supplies the address of one row."""
    size, used = access.bytes, loader.addresses
    index, mask = _index(spaces, access, group, address, mask, used)
    if spaces.checker is not None:
        spaces.checker.read(access.site, group, index, mask, size)
    if mask is not None and used == LANES:
        return loader.split(gather(spaces.units[size], index, mask, group.n))
    return loader.split(spaces.units[size][index[:, :used]])


def store_rows(
    spaces: Spaces, access: Access, group: Group, address: Array, mask: Array | None, units: Array
) -> None:
    """Store the rows (n, rows) of stmatrix where the first lanes say."""
    size, used = access.bytes, units.shape[1]
    index, mask = _index(spaces, access, group, address, mask, used)
    if spaces.checker is not None:
        spaces.checker.write(access.site, group, index, mask, size)
    spaces.units[size][index[:, :used]] = units


def _index(
    spaces: Spaces, access: Access, group: Group, address: Array, mask: Array | None, used: int
) -> tuple[Array, Array | None]:
    """Return each lane's unit of shared memory, and the lanes that supply one."""
    if used < LANES:
        lanes = np.arange(LANES) < used
        mask = np.broadcast_to(lanes, (group.n, LANES)) if mask is None else mask & lanes
    place = spread(address, group.n)
    return spaces.shared_index(access, group, place, mask, access.bytes), mask
