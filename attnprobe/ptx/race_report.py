"""What the errors of the race checker say: both accesses, by whom, and on which lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault, RaceError
from attnprobe.ptx.group import Group
from attnprobe.ptx.stamps import CLOCK_SHIFT, WARP
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.race import Checker

_DOES = {
    "read": "reads",
    "write": "writes",
    "copy": "copies (cp.async) to",
    "atomic": "atomically updates",
}
_DID = {
    "read": "read",
    "write": "wrote",
    "copy": "issued a copy (cp.async) to",
    "atomic": "atomically updated",
}
RACE = "race: no barrier orders two accesses"
COPY = "cp.async is still under way here: it lands at the wait that covers it"


def unwritten(
    checker: Checker, site: int, group: Group, index: Array, bad: Array, size: int
) -> EmulatorError:
    """Return the error of a read of words (n, 32, words) that nothing wrote."""
    lanes: Array = np.asarray(bad.any(axis=2))
    row, lane = np.argwhere(lanes)[0]
    address = _address(checker, group, index, int(row), int(lane), size) + 4 * int(
        np.argmax(bad[row, lane])
    )
    what = f"read of shared memory that nothing wrote: shared address {address}"
    machine = checker.machine
    return machine.fault(MemoryFault, machine.site(site), group, lanes, what)


def _address(checker: Checker, group: Group, index: Array, row: int, lane: int, size: int) -> int:
    spaces = checker.machine.spaces
    return int(index[row, lane]) * size - int(spaces.base[group.rows[row], 0])


def race(
    checker: Checker,
    site: int,
    group: Group,
    index: Array,
    bad: Array,
    size: int,
    kind: str,
    stamps: Array,
    other: str,
) -> EmulatorError:
    """Return the error that names this access and the earlier one.

    ``bad``: which words (n, 32, words); ``stamps``: what the shadow has there; ``kind`` and
    ``other``: what the two accesses are.
    """
    machine = checker.machine
    row, lane, word = (int(value) for value in np.argwhere(bad)[0])
    stamp = int(stamps[row, lane, word])
    address = _address(checker, group, index, row, lane, size) + 4 * word
    where = int(index[row, lane]) * (size // 4) + word
    slot = int(machine.slot[group.rows[row]])
    proxies = machine.proxies
    bulk = proxies.earlier(where, other) if proxies is not None else None
    if bulk is not None:
        head, first = bulk
    else:
        head = COPY if other == "copy" and kind != "copy" else RACE
        first = earlier(checker, slot * checker.warps + (stamp & WARP), stamp, where, other)
    who = machine.launch.who(machine, int(group.rows[row]), bad[row].any(axis=1))
    return RaceError(
        f"{head}; shared address {address}\n"
        f"  {who} {_DOES[kind]} it\n  at {machine.launch.where(machine.site(site))}\n"
        f"  after {first}"
    )


def earlier(checker: Checker, row: int, stamp: int, word: int, kind: str) -> str:
    """Return who made the earlier access, and where, from the log."""
    machine = checker.machine
    kinds = {"write": ("write", "copy", "atomic"), "copy": ("copy",)}.get(kind, (kind,))
    for entry in reversed(checker.log):
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
            return f"{who} {_DID[entry.kind]} it\n  at {where}"
    who = machine.launch.who(machine, row, np.zeros(LANES, bool))
    return f"{who.rsplit(',', 1)[0]} {_DID[kind]} it, too long ago to name the line"
