"""wgmma for one chunk: products issued, committed in groups, and made at the wait that covers them.

A product takes its operands when the wait lands it, as late as can be: shared memory that is
overwritten too early gives a wrong result also where no check looks. Products that add to one
another's D are then summed as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe.errors import EmulatorError, MemoryFault, UnsupportedError
from attnprobe.ptx.group import Group
from attnprobe.ptx.group_plan import CHUNK, WARPS, GroupPlan
from attnprobe.ptx.inflight import Flight, InFlight, Piece
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.proxies import Operation, Proxies
from attnprobe.ptx.values import LANES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine
    from attnprobe.ptx.program import CodeBlock


_ANY_ODD = 1_000_003  # a factor that tells one order of places from another


@dataclass(frozen=True)
class Form:
    """What the text says of one wgmma beside its operands.

    Attributes
    ----------
    negate_a, negate_b : imm-scale of -1.
    watched : registers that nobody may write before the product is done, one bit each.
    """

    site: int
    plan: GroupPlan
    negate_a: bool
    negate_b: bool
    watched: int


@dataclass(eq=False)
class Issued:
    """One product of some warpgroups.

    Attributes
    ----------
    rows : their warps, four for each.
    numbers : for each warp, how many groups it had committed before.
    a : registers, or chunk numbers in shared memory (warpgroups, rows, chunks).
    b : chunk numbers.
    keep : warpgroups that add to D.
    start : registers of D before.
    left, right : operands, once the product has landed.
    parts : the same product, of fewer warpgroups each, once it had to be taken apart.
    """

    form: Form
    rows: Array
    numbers: Array
    a: list[Any] | Array
    b: Array
    keep: Array
    start: list[Any]
    left: Array | None = None
    right: Array | None = None
    result: list[Array] | None = None
    parts: list[Issued] = field(default_factory=list)
    reads: list[Operation] = field(default_factory=list)

    @property
    def landed(self) -> bool:
        """Whether its operands have been taken."""
        return self.left is not None

    def leaves(self, rows: Array) -> list[tuple[Issued, Array, Array]]:
        """Return the products that make the values of warps ``rows``: each with these warps'
        places in it, and in ``rows``.
        """
        if not self.parts:
            return [(self, np.searchsorted(self.rows, rows), np.arange(len(rows)))]
        found = []
        for part in self.parts:
            here = np.flatnonzero(np.isin(rows, part.rows))
            if len(here):
                found += [(leaf, at, here[i]) for leaf, at, i in part.leaves(rows[here])]
        return found

    def values(self, number: int) -> Array:
        """Return D's register ``number``: (n, 32). The product has landed."""
        if self.result is None:
            self.result = self._made()
        return self.result[number]

    def _made(self) -> list[Array]:
        plan = self.form.plan
        steps = self._chain()
        start = steps[0]._start()
        if len(steps) > 1:  # summed over all of k at once
            left = np.concatenate([step.left for step in steps if step.left is not None], axis=2)
            right = np.concatenate([step.right for step in steps if step.right is not None], axis=2)
        else:
            assert self.left is not None
            assert self.right is not None
            left, right = self.left, self.right
        self.start = []  # products before this one are needed no more
        self.left = self.right = np.zeros(0)
        return plan.d.split(plan.multiply(left, right, start))

    def _chain(self) -> list[Issued]:
        """Return the products, itself last, that add to one D with nobody looking in between."""
        steps = [self]
        while steps[0].form.plan.fused and steps[0].keep.all():
            before = _all_of(steps[0].start, steps[0].rows)
            if before is None or not before.landed or before.result is not None:
                break
            if before.parts or before.form.plan.d.shape != self.form.plan.d.shape:
                break
            if not before.form.plan.fused:
                break
            steps.insert(0, before)
        return steps

    def _start(self) -> Array | None:
        """Return raw D before the product; None for zeros."""
        if not self.keep.any():
            return None
        plan = self.form.plan
        memo: dict[Any, Any] = {}
        whole: list[Any] = [
            value.landed(memo) if isinstance(value, InFlight) else value for value in self.start
        ]
        n = len(self.rows)
        raw = plan.d.raw([np.ascontiguousarray(spread(value, n)) for value in whole])
        if not self.keep.all():
            raw = np.where(self.keep[:, None, None], raw, raw.dtype.type(0))
        return raw


def _all_of(values: list[Any], rows: Array) -> Issued | None:
    """Return the product all of whose D these registers are, if they are."""
    first = values[0]
    if not isinstance(first, InFlight) or len(first.flight.pieces) != 1:
        return None
    flight, dtype = first.flight, first.dtype
    issued = flight.pieces[0].issued
    for number, value in enumerate(values):
        if not isinstance(value, InFlight) or value.flight is not flight:
            return None
        if value.numbers != (number,) or value.dtype != dtype:
            return None
    if flight.n != len(rows) or not np.array_equal(issued.rows, rows):
        return None
    return issued


class Products:
    """The products of one chunk of blocks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.committed = np.zeros(machine.warps, np.int64)
        self.pending: list[Issued] = []
        self.waits = np.zeros(machine.warps, np.int64)  # since the last product: where, as a number
        self.last_wait = np.full(machine.warps, -1)

    def issue(
        self, form: Form, group: Group, a: Any, b: Array, scale: Array, start: tuple[Any, ...]
    ) -> list[InFlight]:
        """Issue D = A B + D and return D's registers, in flight.

        ``a`` : descriptors, or a tuple of registers. ``scale``: whether D is added.
        """
        self._check_warps(form, group)
        self._check_waits(form, group)
        plan = form.plan
        keep = self._one_each(form, group, scale, "scale-d")
        right = self._places(form, group, b, plan.b)
        if isinstance(a, tuple):
            left: list[Any] | Array = [np.ascontiguousarray(spread(value, group.n)) for value in a]
        else:
            left = self._places(form, group, a, plan.a_stored)
        issued = Issued(
            form, group.rows, self.committed[group.rows], left, right, keep, list(start)
        )
        self.pending.append(issued)
        if self.machine.proxies is not None:
            self._reads(self.machine.proxies, issued)
        flight = Flight(group.n, (Piece(issued, np.arange(group.n), group.rows),))
        return [InFlight(flight, (number,), plan.d.dtype, None) for number in range(plan.d.count)]

    def commit(self, group: Group) -> None:
        """Close the group of products that each warp has issued."""
        self.committed[group.rows] += 1

    def wait(self, group: Group, pending: int) -> None:
        """Land what the warps of ``group`` must wait for, and fill in their registers."""
        self.waits[group.rows] = self.waits[group.rows] * _ANY_ODD + (group.block + 1)
        self.last_wait[group.rows] = group.block
        if self.pending:
            waits = np.zeros(self.machine.warps, bool)
            waits[group.rows] = True
            left: list[Issued] = []
            for issued in self.pending:
                due = waits[issued.rows] & (issued.numbers < self.committed[issued.rows] - pending)
                groups: Array = np.asarray(due.reshape(-1, WARPS).any(axis=1))
                left += self._land_part(issued, groups)
            self.pending = left
        regs, memo = group.regs, dict[Any, Any]()
        for number, value in enumerate(regs):
            if isinstance(value, InFlight):
                regs[number] = value.landed(memo)

    # Landing

    def _land_part(self, issued: Issued, due: Array) -> list[Issued]:
        """Land the warpgroups ``due`` of a product; return what of it stays pending."""
        if not due.any():
            return [issued]
        if due.all():
            self._land(issued)
            return []
        done, rest = _part(issued, due), _part(issued, ~due)
        issued.parts = [done, rest]
        self._land(done)
        return [rest]

    def _land(self, issued: Issued) -> None:
        form, units = issued.form, self.machine.spaces.units[CHUNK]
        plan = form.plan
        if isinstance(issued.a, list):
            assert plan.a is not None
            raw = plan.a.raw(issued.a)
        else:
            raw = plan.a_stored.raw(units, issued.a)
        issued.left = plan.numbers(raw, plan.a_format, form.negate_a)
        issued.right = plan.numbers(plan.b.raw(units, issued.b), plan.b_format, form.negate_b)
        for held in issued.reads:
            assert self.machine.proxies is not None
            self.machine.proxies.read_ends(held)

    def _reads(self, proxies: Proxies, issued: Issued) -> None:
        parts = [issued.b] if isinstance(issued.a, list) else [issued.a, issued.b]
        for number, rows in enumerate(issued.rows.reshape(-1, WARPS)):
            places = np.concatenate([part[number].reshape(-1) for part in parts]) * CHUNK
            held = proxies.read_begins(issued.form.site, rows, np.unique(places), "wgmma")
            issued.reads.append(held)

    # Checks

    def check_writes(self, group: Group, block: CodeBlock) -> None:
        """Check that a block does not compute registers of products that are in flight."""
        for issued in self.pending:
            both = issued.form.watched & block.clobbered
            if not both:
                continue
            place = np.searchsorted(issued.rows, group.rows).clip(max=len(issued.rows) - 1)
            mine: Array = np.asarray(issued.rows[place] == group.rows)
            if mine.any():
                first = next(at for at in block.clobbers if both >> at & 1)
                where = self.machine.site(issued.form.site)
                self._refuse_write(block.clobbers[first], group, mine, where)

    def touched(self, site: int, group: Group, name: str) -> None:
        """Raise the error of a write to a register of a product issued in the same block."""
        instr = self.machine.site(site)
        mine = np.ones(group.n, bool)
        self._refuse_write(instr, group, mine, self.machine.site(self.pending[-1].form.site))

    def _refuse_write(self, instr: Instr, group: Group, mine: Array, first: Instr) -> None:
        raise self.machine.fault(
            EmulatorError,
            instr,
            group,
            group.active() & mine[:, None],
            "this writes a register of a wgmma that nobody has waited for, issued\n  at "
            + self.machine.launch.where(first),
        )

    def _check_warps(self, form: Form, group: Group) -> None:
        """Check that whole warpgroups execute the product."""
        rows, lanes = group.rows, group.active()
        first = rows[::WARPS]
        whole = (
            group.mask is None
            and len(rows) % WARPS == 0
            and (rows.reshape(-1, WARPS) == first[:, None] + np.arange(WARPS)).all()
            and (first % self.machine.warps_per_block % WARPS == 0).all()
        )
        if not whole:
            what = "only some warps of a warpgroup execute this: all four must, with all lanes"
            raise self._fault(form, group, lanes, EmulatorError, what)

    def _check_waits(self, form: Form, group: Group) -> None:
        """Check that the warps of a warpgroup have executed the same waits since its last product.

        ``.aligned`` asks for that: a warp may not wait within a branch that it takes alone.
        """
        each = self.waits[group.rows].reshape(-1, WARPS)
        differs = (each != each[:, :1]).any(axis=1)
        if differs.any():
            lanes = np.repeat(differs, WARPS)[:, None] & group.active()
            last = self.last_wait[group.rows].reshape(-1, WARPS)[int(np.argmax(differs))]
            endings = (self.machine.code.blocks[block].ending for block in dict.fromkeys(last))
            places = [self.machine.launch.where(instr) for instr in endings if instr is not None]
            what = (
                "since its last product the warps of a warpgroup have not executed the same "
                "wgmma.wait_group, as .aligned asks; the latest of each\n  at "
                + "\n  at ".join(places)
            )
            raise self._fault(form, group, lanes, EmulatorError, what)
        self.waits[group.rows] = 0

    def _one_each(self, form: Form, group: Group, value: Array, name: str) -> Array:
        """Return a value that all lanes of a warpgroup must agree on: (warpgroups,)."""
        if value.shape == (1, 1):
            return np.repeat(value[0], group.n // WARPS)
        each = spread(value, group.n).reshape(-1, WARPS * LANES)
        differs = (each != each[:, :1]).any(axis=1)
        if differs.any():
            lanes = np.repeat(differs, WARPS)[:, None] & group.active()
            what = f"the lanes of a warpgroup disagree about {name}"
            raise self._fault(form, group, lanes, EmulatorError, what)
        found: Array = each[:, 0]
        return found

    def _places(self, form: Form, group: Group, descriptors: Array, stored: Any) -> Array:
        """Return the numbers of the 16-byte chunks of each warpgroup's matrix, bounds checked."""
        told = self._one_each(form, group, descriptors, "a matrix descriptor")
        spaces = self.machine.spaces
        bases = spaces.base[group.rows[::WARPS], 0]
        known: dict[int, Array] = {}
        out = []
        for bits in told:
            if int(bits) not in known:
                try:
                    places = stored.places(int(bits))
                except UnsupportedError as error:
                    raise self._fault(
                        form, group, group.active(), EmulatorError, str(error)
                    ) from None
                if places.max() + CHUNK > spaces.size:
                    what = (
                        f"out of bounds: the matrix behind descriptor {int(bits):#x} reaches "
                        f"shared memory address {int(places.max())}, which has {spaces.size} bytes"
                    )
                    raise self._fault(form, group, group.active(), MemoryFault, what)
                known[int(bits)] = places
            out.append(known[int(bits)])
        found: Array = (np.stack(out) + bases[:, None, None]) >> 4
        return found

    def _fault(
        self, form: Form, group: Group, lanes: Array, kind: type[EmulatorError], what: str
    ) -> EmulatorError:
        return self.machine.fault(kind, self.machine.site(form.site), group, lanes, what)


def _part(issued: Issued, groups: Array) -> Issued:
    """Return the product of some of the warpgroups."""
    warps = np.flatnonzero(np.repeat(groups, WARPS))
    return replace(
        issued,
        rows=issued.rows[warps],
        numbers=issued.numbers[warps],
        a=[value[warps] for value in issued.a] if isinstance(issued.a, list) else issued.a[groups],
        b=issued.b[groups],
        keep=issued.keep[groups],
        start=[
            value if value.shape[0] == 1 and len(issued.rows) > 1 else value[warps]
            for value in issued.start
        ],
        parts=[],
        reads=[held for held, mine in zip(issued.reads, groups, strict=False) if mine],
    )
