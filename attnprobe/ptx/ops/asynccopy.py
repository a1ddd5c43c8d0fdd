"""cp.async: copies from global to shared memory that land at a wait."""

from __future__ import annotations

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Addr, Imm, Instr, Operand, Reg
from attnprobe.ptx.ops.data import address_of
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.units import Access


def _plain(instr: Instr) -> bool:
    return not {"bulk", "mbarrier", "reduce"} & {mod.split("::")[0] for mod in instr.mods}


@op("cp.async.ca", "cp.async.cg", accepts=_plain)
def cp_async(e: Emitter, instr: Instr) -> None:
    """Copy 4, 8 or 16 bytes; with a source size, the rest is zeros; with a predicate, all is."""
    target, source, size, *rest = instr.operands
    if not isinstance(size, Imm) or size.value not in (4, 8, 16):
        raise e.error("cp.async copies 4, 8 or 16 bytes")
    rest = [operand for operand in rest if not _is_policy(operand)]
    to, to_offset = address_of(e, target, "shared")
    space = "global" if isinstance(source, Addr) else ""
    at, at_offset = address_of(e, source, space)
    wanted = "None"
    if rest and isinstance(rest[0], Reg) and rest[0].bits == 1:
        from attnprobe.ptx.values import pick

        wanted = (
            f"{e.fn(pick)}({e.src(rest[0], 'p')}, {e.const(0, 'u4')}, {e.const(size.value, 'u4')})"
        )
    elif rest:
        wanted = e.src(rest[0], "u4")
    code, count = {4: ("u4", 1), 8: ("u8", 1), 16: ("u8", 2)}[size.value]
    shared = Access(int(e.site()), code, count, to_offset)
    remote = Access(int(e.site()), code, count, at_offset)
    names = f"{e.obj(shared, lambda: shared)}, {e.obj(remote, lambda: remote)}"
    e.line(f"m.copies.issue({names}, g, {to}, {at}, {wanted}, {e.active()})")


def _is_policy(operand: Operand) -> bool:
    """Whether an operand is a 64-bit cache policy."""
    return isinstance(operand, Reg) and operand.bits == 64


@op("cp.async.commit_group")
def commit_group(e: Emitter, instr: Instr) -> None:
    """Close the group of copies issued since the last commit."""
    e.line(f"m.copies.commit(g, {e.active()})")


@op("cp.async.wait_group")
def wait_group(e: Emitter, instr: Instr) -> None:
    """Wait until at most so many of this thread's latest groups are in flight."""
    count = instr.operands[0]
    if not isinstance(count, Imm):
        raise e.error("the number of groups is a literal")
    e.line(f"m.copies.wait(g, {count.value}, {e.active()})")


@op("cp.async.wait_all")
def wait_all(e: Emitter, instr: Instr) -> None:
    """Wait for all of this thread's copies, committed or not."""
    e.line(f"m.copies.wait(g, -1, {e.active()})")
