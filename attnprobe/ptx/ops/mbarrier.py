"""mbarrier: init, inval, arrive with its forms, expect_tx, complete_tx, and the waits."""

from __future__ import annotations

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Addr, Instr, Operand, Reg, Sink
from attnprobe.ptx.ops.data import address_of, space_of
from attnprobe.ptx.ops.registry import ending, op
from attnprobe.ptx.units import SHARED_WINDOW, Access


def shared_place(e: Emitter, operand: Operand, generic: bool, code: str, count: int = 1) -> str:
    """Return "access, group, address" of an operand in shared memory, for a call.

    Where the text names no space the address is generic; an address that lies elsewhere is then
    out of the bounds of shared memory.
    """
    base, offset = address_of(e, operand, "generic" if generic else "shared")
    if generic:
        base = e.tmp(f"{base} - {e.const(SHARED_WINDOW, 'u8')}")
    access = Access(int(e.site()), code, count, offset)
    return f"{e.obj(access, lambda: access)}, g, {base}"


def _place(e: Emitter, operand: Operand) -> str:
    return shared_place(e, operand, space_of(e.instr) == "generic", "u8")


@op("mbarrier.init")
def init(e: Emitter, instr: Instr) -> None:
    """Make an object whose phases wait for so many arrivals."""
    place, count = _place(e, instr.operands[0]), e.src(instr.operands[1], "u4")
    e.line(f"m.mbarriers.init({place}, {count}, {e.active()})")


@op("mbarrier.inval")
def inval(e: Emitter, instr: Instr) -> None:
    """End the life of an object."""
    e.line(f"m.mbarriers.invalidate({_place(e, instr.operands[0])}, {e.active()})")


@op("mbarrier.arrive", "mbarrier.arrive_drop")
def arrive(e: Emitter, instr: Instr) -> None:
    """state = the phase, and what it waits for; then arrive, once or ``count`` times.

    .expect_tx expects bytes before.
    """
    state: Operand = Sink()
    operands = instr.operands
    if not isinstance(operands[0], Addr):
        state, *operands = operands
    place = _place(e, operands[0])
    value = e.src(operands[1], "u4") if len(operands) > 1 else "None"
    pair = f"None, {value}" if "expect_tx" in instr.mods else f"{value}, None"
    drop = "arrive_drop" in instr.mods
    found = e.tmp(f"m.mbarriers.arrive({place}, {pair}, {drop}, {e.active()})")
    e.dst(state, found, "u8")


@op("mbarrier.pending_count")
def pending_count(e: Emitter, instr: Instr) -> None:
    """Arrivals that the phase of a state still waited for."""
    target, state = instr.operands
    bits = e.src(state, "u8")
    e.dst(target, e.tmp(f"m.mbarriers.pending_count({bits})"), "u4")


@op("mbarrier.expect_tx")
def expect_tx(e: Emitter, instr: Instr) -> None:
    """Let the phase wait for so many bytes more."""
    place, count = _place(e, instr.operands[0]), e.src(instr.operands[1], "u4")
    e.line(f"m.mbarriers.expect({place}, {count}, {e.active()})")


@op("mbarrier.complete_tx")
def complete_tx(e: Emitter, instr: Instr) -> None:
    """Count bytes as come."""
    place, count = _place(e, instr.operands[0]), e.src(instr.operands[1], "u4")
    e.line(f"m.mbarriers.complete({place}, {count}, {e.active()})")


@ending("mbarrier.try_wait", "mbarrier.test_wait")
def wait(e: Emitter, instr: Instr) -> str:
    """p = whether a phase is complete: the latest of a parity, or that of a state."""
    target, address, phase, *_ = instr.operands  # a hint for how long may follow
    if not isinstance(target, Reg):
        raise e.error(f"the result of {instr.name} is a predicate")
    parity = "parity" in instr.mods
    wanted = e.src(phase, "u4" if parity else "u8")
    base, offset = address_of(e, address, "generic" if space_of(instr) == "generic" else "shared")
    if space_of(instr) == "generic":
        base = e.tmp(f"{base} - {e.const(SHARED_WINDOW, 'u8')}")
    access = Access(int(e.site()), "u8", 1, offset)
    known = e.obj(access, lambda: access)
    guard = e.guard() if instr.guard is not None else "None"
    return f"return {guard}, ({known}, {base}, {wanted}, {parity}, {target.index})"
