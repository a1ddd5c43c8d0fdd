"""One chunk of blocks while it runs: its groups, who runs next, how groups part and meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnprobe.errors import EmulatorError
from attnprobe.ptx import special
from attnprobe.ptx.barrier import Barriers, deadlock
from attnprobe.ptx.bulk import Bulk
from attnprobe.ptx.copies import Copies
from attnprobe.ptx.dependence import Dependence
from attnprobe.ptx.group import Group, merge
from attnprobe.ptx.group_plan import WARPS
from attnprobe.ptx.inflight import InFlightError
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.launch_state import LaunchState
from attnprobe.ptx.mbarriers import MBarriers
from attnprobe.ptx.program import CodeBlock
from attnprobe.ptx.proxies import Proxies
from attnprobe.ptx.register_fences import RegisterFences
from attnprobe.ptx.spaces import Spaces
from attnprobe.ptx.values import LANES, Array, poison, spread
from attnprobe.ptx.warpgroup import Products

# After so many steps the group that has waited longest runs once: spinning cannot starve the
# others.
FAIRNESS = 2048
REGISTERS = 65536  # of a multiprocessor, for setmaxnreg


class Machine:
    """Runs one chunk of blocks to its end.

    Attributes
    ----------
    rows : every warp of the chunk has a number: block slot * warps_per_block + warp.
    live : lanes that exist and have not exited: bool (warps, 32).
    slot : block slot of each warp: int64 (warps,).
    """

    def __init__(self, launch: LaunchState, block_numbers: Array) -> None:
        self.launch = launch
        self.code = launch.code
        self.block_numbers = block_numbers
        self.block_count = len(block_numbers)
        self.block_shape, self.grid_shape = launch.block, launch.grid
        self.threads = launch.threads
        self.warps_per_block = -(-self.threads // LANES)
        self.warps = self.block_count * self.warps_per_block
        self.dynamic_shared_bytes = launch.dynamic_shared
        self.shared_bytes = launch.shared_bytes
        self.slot = np.repeat(np.arange(self.block_count), self.warps_per_block)
        exists = np.arange(self.warps_per_block * LANES).reshape(-1, LANES) < self.threads
        self.live = np.tile(exists, (self.block_count, 1))
        self.table = special.chunk_table(self)
        self.dependence = Dependence(self)
        self.spaces = Spaces(self)
        self.barriers = Barriers(self)
        self.copies = Copies(self)
        checker = self.spaces.checker
        self.proxies: Proxies | None = None
        if checker is not None and self.code.asynchronous:
            self.proxies = Proxies(self, checker)
        self.mbarriers = MBarriers(self)
        self.bulk = Bulk(self)
        self.products = Products(self)
        self.fences: RegisterFences | None = None
        if checker is not None and self.code.group_wide:
            self.fences = RegisterFences(self)
        self.registers = np.zeros(self.warps, np.int64)  # of setmaxnreg, for each thread
        self.queue: list[Group] = []
        self.steps = 0
        self.lane_instructions = 0
        self.splits = 0
        self.merges = 0

    # What generated code calls

    def special(self, group: Group, name: str) -> Array:
        """Return a special register's value for ``group``."""
        found: Array | None = group.cache.get(name)
        if found is None:
            if name in ("clock", "clock_hi", "clock64", "globaltimer"):
                code = np.uint32 if name.startswith("clock") and name != "clock64" else np.uint64
                return np.full((1, 1), self.steps, code)
            if name == "gridid":
                return np.ones((1, 1), np.uint64)
            whole = self.table[name]
            found = whole if whole.shape[0] == 1 or group.n == self.warps else whole[group.rows]
            group.cache[name] = found
        return found

    def symbol(self, name: str, offset: int) -> Array:
        """Return the address of a global variable."""
        return np.full((1, 1), self.launch.symbols[name] + offset, np.uint64)

    def dynamic_shared(self, offset: int) -> Array:
        """Return the shared address at which dynamic shared memory starts, plus ``offset``."""
        return np.full((1, 1), self.launch.dynamic_offset + offset, np.uint32)

    def whole_warps(self, site: int, group: Group, lanes: Array | None) -> None:
        """Check that all lanes of each warp execute the instruction at ``site``."""
        if lanes is None:
            return
        short: Array = np.asarray(lanes.any(axis=1) & ~lanes.all(axis=1))
        if short.any():
            raise self.fault(EmulatorError, self.site(site), group, lanes & short[:, None],
                             "only some lanes of the warp execute this: all 32 must")  # fmt: skip

    def fence_proxy(self, group: Group) -> None:
        """The asynchronous proxy sees what the group's warps know of."""
        if self.proxies is not None:
            self.proxies.clocks.fence_proxy(group)

    def fence(self, group: Group) -> None:
        """Other blocks may see what the group's warps know of, if they are told."""
        if self.launch.between is not None:
            self.launch.between.fence(self, group)

    def fence_init(self, group: Group) -> None:
        """Bulk copies see the mbarriers that the group's warps have made."""
        if self.proxies is not None:
            self.proxies.fence_init(group)

    # Scheduling

    def run(self) -> None:
        """Run all warps of the chunk until they have exited.

        Raises
        ------
        EmulatorError
            Any of its kinds; DeadlockError if warps wait at barriers that nobody will complete.
        """
        regs = [poison(code) for code in self.code.codes]
        rows = np.arange(self.warps)
        known = None if self.fences is None else self.fences.begin()
        self.queue = [Group(rows, self.live.copy(), 0, regs, known)]
        while True:
            while (group := self._next_group()) is not None:
                self._step(group)
            if self.bulk.land_one() or self.mbarriers.give_up():
                continue
            if self.queue:  # warps whose warpgroup does not come together
                self._step(self.queue.pop())
            waits = [*self.barriers.waits(), *self.mbarriers.waits()]
            if waits:
                raise deadlock(waits)
            error = self.bulk.unfinished()
            if error is not None:
                raise error
            return

    def _next_group(self) -> Group | None:
        """Take the group that runs next from the queue; None if none can."""
        stuck: list[Group] = []
        while self.queue:
            group = self._chosen()
            if not self.code.blocks[group.block].group_wide or self._together(group):
                self.queue += stuck
                return group
            stuck.append(group)
        self.queue = stuck
        return None

    def _together(self, group: Group) -> bool:
        """Whether the group has all warps of each of its warpgroups."""
        number = group.rows % self.warps_per_block % WARPS
        found = np.unique(group.rows - number)
        return len(found) * WARPS == group.n and self.complete(group)

    def _chosen(self) -> Group:
        """Take the group that should run next, merged with those at the same block."""
        queue = self.queue
        if len(queue) == 1:
            return queue.pop()
        self.steps += 1
        if self.steps % FAIRNESS == 0:
            ready = [group for group in queue if not self._lacks_lanes(group)]
            chosen = min(ready or queue, key=lambda group: group.stamp)
        else:
            chosen = min(queue, key=self._priority)
        same = [group for group in queue if group.block == chosen.block]
        if len(same) == 1:
            queue.remove(chosen)
            return chosen
        self.queue = [group for group in queue if group.block != chosen.block]
        self.merges += 1
        return merge(same, self.code.blocks[chosen.block].live_in)

    def _priority(self, group: Group) -> tuple[bool, int]:
        """Order of running: earlier blocks first, but warps that must converge wait for their
        lanes.
        """
        return (self._lacks_lanes(group), self.code.blocks[group.block].flow.rank)

    def _lacks_lanes(self, group: Group) -> bool:
        """Whether warps must come together for what the group would run, and have not."""
        return self.code.blocks[group.block].converges and not self.complete(group)

    def complete(self, group: Group) -> bool:
        """Whether all lanes of the group's warps that have not exited are in it."""
        if group.mask is None:
            return True
        return not (self.live[group.rows] & ~group.mask).any()

    def _step(self, group: Group) -> None:
        block = self.code.blocks[group.block]
        self.steps += 1
        group.stamp = self.steps
        self.lane_instructions += block.count * group.lanes
        if self.products.pending:
            self.products.check_writes(group, block)
        if self.fences is not None:
            self.fences.step(group, block.fences)
        try:
            result = block.call(self, group, group.regs)
        except InFlightError as error:
            raise self._in_flight(group, block, error) from None
        kind = block.flow.kind
        if kind == "next":
            self._go(group, block.flow.after)
        elif kind == "branch":
            self._branch(group, block, result)
        elif kind == "barrier":
            self._barrier(group, block, result)
        elif kind == "await":
            self._await(group, block, result)
        elif kind == "collect":
            self.products.wait(group, result)
            self._go(group, block.flow.after)
        elif kind == "exit":
            taken, rest = self._divide(group, result, -1, block.flow.after)
            if rest is not None:
                self.queue.append(rest)
            if taken is not None:
                self._exit(taken)
        elif kind == "switch":
            self._switch(group, block, result)
        else:
            self._trap(group, block, result)

    def _go(self, group: Group, block: int) -> None:
        if block < 0:
            self._exit(group)
            return
        group.block = block
        self.queue.append(group)

    def _divide(
        self, group: Group, condition: Array | None, yes: int, no: int
    ) -> tuple[Group | None, Group | None]:
        """Return the parts of ``group`` for which ``condition`` holds and does not, sent on
        their ways.
        """
        if condition is None or condition.shape == (1, 1):
            if condition is None or condition[0, 0]:
                group.block = yes
                return group, None
            group.block = no
            return None, group
        lanes = spread(condition, group.n)
        active = group.active()
        taken = lanes & active
        count = int(np.count_nonzero(taken))
        if count == group.lanes:
            group.block = yes
            return group, None
        if count == 0:
            group.block = no
            return None, group
        self.splits += 1
        blocks = self.code.blocks
        first = group.part(taken, yes, blocks[yes].live_in if yes >= 0 else ())
        second = group.part(active & ~lanes, no, blocks[no].live_in if no >= 0 else ())
        return first, second

    def _branch(self, group: Group, block: CodeBlock, condition: Array | None) -> None:
        for part in self._divide(group, condition, block.flow.targets[0], block.flow.after):
            if part is not None:
                self.queue.append(part)

    def _switch(self, group: Group, block: CodeBlock, result: tuple[Array, Array | None]) -> None:
        index, guard = result
        rest: Group | None
        taken, rest = self._divide(group, guard, group.block, block.flow.after)
        if rest is not None:
            self.queue.append(rest)
        if taken is None:
            return
        lanes = spread(index, group.n)
        if taken is not group:
            lanes = lanes[np.isin(group.rows, taken.rows)]
        for value in np.unique(lanes[taken.active()]):
            if value >= len(block.flow.targets):
                assert block.ending is not None
                raise self.fault(
                    EmulatorError,
                    block.ending,
                    taken,
                    lanes >= len(block.flow.targets),
                    f"the index {value} has no target",
                )
            target = block.flow.targets[int(value)]
            self.queue.append(
                taken.part(
                    (lanes == value) & taken.active(), target, self.code.blocks[target].live_in
                )
            )

    def _barrier(self, group: Group, block: CodeBlock, result: tuple[Any, ...]) -> None:
        guard, *arguments = result
        taken = self._guarded(group, block, guard)
        if taken is not None:
            assert block.ending is not None
            self.barriers.arrive(taken, block.ending, block.flow.after, arguments)

    def _await(self, group: Group, block: CodeBlock, result: tuple[Any, Any]) -> None:
        guard, arguments = result
        taken = self._guarded(group, block, guard)
        if taken is not None:
            assert block.ending is not None
            self.mbarriers.wait(taken, block.ending, block.flow.after, arguments)

    def _guarded(self, group: Group, block: CodeBlock, guard: Any) -> Group | None:
        """Return the lanes that a barrier is for, still at it; send the others on behind it."""
        after = block.flow.after
        taken, rest = self._divide(group, guard, group.block, after)
        if rest is not None:
            rest.block = after
            self.queue.append(rest)
        if taken is not None:
            taken.block = group.block
        return taken

    def set_registers(self, site: int, group: Group, count: int, more: bool) -> None:
        """Note that each thread of the group's warps has ``count`` registers from now on."""
        self.whole_warps(site, group, group.mask)
        known = self.registers[group.rows]
        wrong = (known > 0) & (known > count if more else known < count)
        if wrong.any():
            had = int(known[wrong][0])
            raise self.fault(EmulatorError, self.site(site), group,
                             group.active() & wrong[:, None],
                             f"setmaxnreg from {had} to {count} goes the other way")  # fmt: skip
        self.registers[group.rows] = count
        of_block = self.registers.reshape(self.block_count, -1)
        asked = np.where(of_block.all(axis=1), of_block.sum(axis=1) * LANES, 0)
        if (asked > REGISTERS).any():
            raise self.fault(EmulatorError, self.site(site), group, group.active(),
                             f"the warps of a block ask for {int(asked.max())} registers: a "
                             f"multiprocessor has {REGISTERS}")  # fmt: skip

    def _exit(self, group: Group) -> None:
        self.dependence.leave(group)
        self.live[group.rows] &= ~group.active()
        self.mbarriers.progress = True
        self.barriers.exited(group)

    def _trap(self, group: Group, block: CodeBlock, condition: Array | None) -> None:
        taken, rest = self._divide(group, condition, group.block, block.flow.after)
        if rest is not None:
            self.queue.append(rest)
        if taken is not None:
            assert block.ending is not None
            raise self.fault(
                EmulatorError, block.ending, taken, taken.active(), "the kernel executed trap"
            )

    # Errors

    def _in_flight(self, group: Group, block: CodeBlock, error: InFlightError) -> EmulatorError:
        first = error.value.flight.pieces[0].issued.form.site
        return self.fault(
            EmulatorError, block.origin(error), group, group.active(),
            "this uses a register of a wgmma that nobody has waited for, issued\n  at "
            + self.launch.where(self.site(first)),
        )  # fmt: skip

    def site(self, number: int) -> Instr:
        """Return the instruction at a site number."""
        return self.code.shared.sites[number]

    def fault(
        self, kind: type[EmulatorError], instr: Instr, group: Group, lanes: Array, what: str
    ) -> EmulatorError:
        """Return an error that says what went wrong where: PTX line, source line, block, warp
        and lanes.
        """
        row = int(np.argmax(lanes.any(axis=1)))
        others = int(np.count_nonzero(lanes.any(axis=1))) - 1
        also = f" (and {others} other warps)" if others > 0 else ""
        who = self.launch.who(self, int(group.rows[row]), lanes[row])
        return kind(f"{what}\n  by {who}{also}\n  at {self.launch.where(instr)}")
