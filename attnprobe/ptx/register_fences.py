"""wgmma.fence: whether one stands between an access to a register and the wgmma that uses it.

A wgmma reads and writes its accumulator and its A in registers at a time of its own. A
``wgmma.fence`` must stand before the first wgmma of a warpgroup, and between any other access to
one of these registers, a read or a write, and the next wgmma that uses it; only accumulators that
one wgmma hands to the next of the same shape need none.

Source: PTX ISA, Asynchronous Warpgroup-Level Matrix Instructions, wgmma.fence.

A ``mov`` from register to register is no access here: the compiler writes one for each accumulator
that an asm statement takes, behind the fence too, and the assembler makes none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError
from attnprobe.ptx import flow
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr, Operand, Reg, Vec
from attnprobe.ptx.values import Array

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

# What is known of a register: the PTX line of the latest access that no fence follows; CLEAN; or,
# of an accumulator that wgmma alone has used since, the number of their shape, below CLEAN.
CLEAN, NEVER = 0, 2**31 - 1  # NEVER: there was no fence yet


@dataclass(frozen=True)
class Use:
    """One register that a wgmma of a block uses.

    Attributes
    ----------
    instr, register : the wgmma, and the register as it names it.
    shape : what the register may be known as beside CLEAN, or CLEAN for A.
    entry : the register that held the value when the block began; -1 where ``known`` says it all.
    known : what is known of it there, where the block itself decides.
    """

    instr: Instr
    register: Reg
    shape: int
    entry: int
    known: int

    @property
    def suits(self) -> bool:
        """Whether the block itself shows that all is well."""
        return self.entry < 0 and self.known in (CLEAN, self.shape)


@dataclass(frozen=True)
class Effect:
    """What a block does to what is known of registers.

    Attributes
    ----------
    uses : by its wgmmas, that the block alone does not show to be right.
    fenced : whether it has a fence: what is not listed is clean then, else as before.
    places, values : registers, and what is known of them after it.
    copies, sources : registers that are known as others were before it.
    """

    uses: tuple[Use, ...]
    fenced: bool
    places: Array
    values: Array
    copies: Array
    sources: Array

    def after(self, known: Array) -> Array:
        """Return what is known of all registers after the block, of what was before it."""
        if not self.fenced and not len(self.places) and not len(self.copies):
            return known
        found = np.zeros_like(known) if self.fenced else known.copy()
        found[self.places] = self.values
        found[self.copies] = known[self.sources]
        return found


class _Reader:
    """Goes through one block. A register is known by a number, or as another was at the entry."""

    def __init__(self, shapes: dict[str, int]) -> None:
        self.shapes = shapes
        self.fenced = False
        self.state: dict[int, int] = {}
        self.entry: dict[int, int] = {}
        self.uses: list[Use] = []

    def take(self, instr: Instr) -> None:
        if instr.op == "wgmma":
            self._wgmma(instr)
        elif _renames(instr):
            self._mov(instr)
        else:
            for register in flow.reads(instr) | flow.writes(instr):
                self._set(register, instr.line)

    def _set(self, register: int, value: int) -> None:
        self.state[register] = value
        self.entry.pop(register, None)

    def _known(self, register: int) -> tuple[int, int]:
        """Return (entry register or -1, number)."""
        if register in self.entry:
            return self.entry[register], CLEAN
        if register in self.state:
            return -1, self.state[register]
        return (-1, CLEAN) if self.fenced else (register, CLEAN)

    def _mov(self, instr: Instr) -> None:
        target, source = instr.operands
        assert isinstance(target, Reg)
        assert isinstance(source, Reg)
        entry, value = self._known(source.index)
        self._set(target.index, value)
        if entry >= 0:
            del self.state[target.index]
            self.entry[target.index] = entry

    def _wgmma(self, instr: Instr) -> None:
        if "fence" in instr.mods:
            self.fenced = True
            self.state.clear()
            self.entry.clear()
        if "mma_async" not in instr.mods:
            return
        name = next(mod for mod in instr.mods if mod.startswith("m64n"))
        shape = self.shapes.setdefault(name, CLEAN - 1 - len(self.shapes))
        d, a = instr.operands[:2]
        for allowed, operand in ((shape, d), (CLEAN, a)):
            for register in _vector(operand):
                use = Use(instr, register, allowed, *self._known(register.index))
                if not use.suits:
                    self.uses.append(use)
        for register in _vector(d):
            self._set(register.index, shape)


def effect(block: flow.Block, shapes: dict[str, int]) -> Effect:
    """Return what ``block`` does; ``shapes`` numbers the shapes of wgmma, and gets new ones."""
    reader = _Reader(shapes)
    for instr in (*block.instrs, *((block.ending,) if block.ending is not None else ())):
        reader.take(instr)
    moved = {to: source for to, source in reader.entry.items() if to != source}
    return Effect(
        tuple(reader.uses),
        reader.fenced,
        np.array(list(reader.state), np.intp),
        np.array(list(reader.state.values()), np.int64),
        np.array(list(moved), np.intp),
        np.array(list(moved.values()), np.intp),
    )


class RegisterFences:
    """Watches the fences of one chunk."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def begin(self) -> Array:
        """Return what is known at the kernel's beginning."""
        return np.full(len(self._machine.code.codes), NEVER, np.int64)

    def step(self, group: Group, effect: Effect) -> None:
        """Check the wgmmas of the block that ``group`` is about to run, and note its accesses.

        Raises
        ------
        EmulatorError
            Where a wgmma uses a register that was used otherwise since the last fence.
        """
        known = group.known
        assert known is not None
        for use in effect.uses:
            found = int(known[use.entry]) if use.entry >= 0 else use.known
            if found not in (CLEAN, use.shape):
                raise self._fault(group, use, found)
        group.known = effect.after(known)

    def _fault(self, group: Group, use: Use, found: int) -> EmulatorError:
        launch = self._machine.launch
        if found == NEVER:
            what = "no wgmma.fence stands before the first wgmma"
        elif found < CLEAN:
            what = (
                f"no wgmma.fence stands between this and a wgmma of another shape that has "
                f"{use.register.name} as its accumulator"
            )
        else:
            lines = launch.module.text_lines
            what = (
                f"no wgmma.fence stands between this and the latest access to {use.register.name}"
                f"\n  at PTX line {found}: {lines[found - 1].strip()}"
            )
        return self._machine.fault(EmulatorError, use.instr, group, group.active(), what)


def _renames(instr: Instr) -> bool:
    plain = instr.op == "mov" and instr.guard is None and len(instr.operands) == 2
    return plain and all(isinstance(operand, Reg) for operand in instr.operands)


def _vector(operand: Operand) -> list[Reg]:
    items = operand.items if isinstance(operand, Vec) else ()
    return [item for item in items if isinstance(item, Reg)]
