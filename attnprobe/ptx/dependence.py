"""griddepcontrol: a launch that begins while the launch before it in the stream is under way.

Until a thread of it has executed ``griddepcontrol.wait``, what the launch before writes and reads
is not settled, nor what launches before that do: it may touch nothing in global memory, not even
read it. A thread that ends without it could let a later launch begin beside earlier ones, and so
could ``griddepcontrol.launch_dependents`` before it. Hints to the caches are no accesses.

Source: PTX ISA, Parallel Synchronization and Communication Instructions, griddepcontrol; CUDA C++
Programming Guide, Programmatic Dependent Launch and Synchronization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import RaceError
from attnprobe.ptx.group import Group
from attnprobe.ptx.values import LANES, Array

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

_EARLIER = "the launch before may be under way still: no griddepcontrol.wait comes before this"


class Dependence:
    """Which threads of one chunk of blocks have waited for the launch before.

    Attributes
    ----------
    open : whether some have not; never where the launch waits for the one before as a whole.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.open = machine.launch.dependent
        self._waited = np.zeros((machine.warps, LANES), bool)

    def wait(self, group: Group, mask: Array | None) -> None:
        """Note that lanes have waited."""
        self._waited[group.rows] |= group.active() if mask is None else mask
        self.open = self.open and bool((self._machine.live & ~self._waited).any())

    def check(self, site: int, group: Group, mask: Array | None) -> None:
        """Check that lanes have waited before the instruction at ``site``.

        Raises
        ------
        RaceError
            If one of them has not.
        """
        if not self.open:
            return
        early = (group.active() if mask is None else mask) & ~self._waited[group.rows]
        if early.any():
            instr = self._machine.site(site)
            raise self._machine.fault(RaceError, instr, group, early, _EARLIER)

    def leave(self, group: Group) -> None:
        """Check that lanes which end have waited.

        Raises
        ------
        RaceError
            If one of them has not.
        """
        early = group.active() & ~self._waited[group.rows]
        if self.open and early.any():
            row = int(np.argmax(early.any(axis=1)))
            who = self._machine.launch.who(self._machine, int(group.rows[row]), early[row])
            raise RaceError(
                "a thread ends without griddepcontrol.wait: what is launched next would not wait "
                f"for the launch before this one\n  by {who}"
            )
