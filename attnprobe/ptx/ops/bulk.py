"""cp.async.bulk and cp.async.bulk.tensor: bulk copies (TMA), their groups, and hints about maps."""

from __future__ import annotations

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Addr, Imm, Instr
from attnprobe.ptx.ops.data import address_of
from attnprobe.ptx.ops.mbarrier import shared_place
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.units import Access

_INTO = ("shared::cluster.global", "shared::cta.global")
_OUT = "global.shared::cta"


def _direction(instr: Instr) -> str:
    """Return "in" or "out" of shared memory, "" for what is not emulated."""
    words = ".".join(instr.mods)
    strange = {"multicast::cluster", "im2col", "im2col_no_offs", "prefetch", "cp_mask", "reduce"}
    if strange & set(instr.mods):
        return ""
    if any(form in words for form in _INTO) and "mbarrier::complete_tx::bytes" in instr.mods:
        return "in"
    return "out" if _OUT in words and "bulk_group" in instr.mods else ""


def _known(instr: Instr) -> bool:
    return _direction(instr) != ""


def _access(e: Emitter, offset: int) -> str:
    access = Access(int(e.site()), "u8", 2, offset)
    return e.obj(access, lambda: access)


def _barrier(e: Emitter, operand: object) -> str:
    base, offset = address_of(e, operand, "shared")
    access = Access(int(e.site()), "u8", 1, offset)
    return f"{e.obj(access, lambda: access)}, {base}"


@op("cp.async.bulk.tensor", accepts=_known)
def tensor(e: Emitter, instr: Instr) -> None:
    """A box of a tensor into shared memory, told to an mbarrier; or out of it, in a bulk group."""
    into = _direction(instr) == "in"
    target, source = instr.operands[:2]
    told = source if into else target
    if not isinstance(told, Addr):
        raise e.error("a tensor map and its coordinates stand in brackets")
    base, offset = address_of(e, told, "generic")
    if offset:
        base = e.tmp(f"{base} + {e.const(offset, 'u8')}")
    corner = "".join(f"{e.src(item, 'u4')}, " for item in told.coordinates)
    place = shared_place(e, target if into else source, False, "u8", 2)
    if into:
        barrier = _barrier(e, instr.operands[2])
        e.line(f"m.bulk.load_tensor({place}, {base}, ({corner}), {barrier}, {e.active()})")
    else:
        access, group, at = place.split(", ")
        e.line(f"m.bulk.store_tensor({access}, {group}, {base}, ({corner}), {at}, {e.active()})")


@op("cp.async.bulk", accepts=_known)
def run(e: Emitter, instr: Instr) -> None:
    """A run of bytes into shared memory, told to an mbarrier; or out of it, in a bulk group."""
    into = _direction(instr) == "in"
    target, source, size = instr.operands[:3]
    place = shared_place(e, target if into else source, False, "u8", 2)
    remote, offset = address_of(e, source if into else target, "global")
    count, far = e.src(size, "u4"), _access(e, offset)
    if into:
        barrier = _barrier(e, instr.operands[3])
        e.line(f"m.bulk.load({place}, {far}, {remote}, {count}, {barrier}, {e.active()})")
    else:
        access, group, at = place.split(", ")
        e.line(f"m.bulk.store({access}, {group}, {far}, {remote}, {at}, {count}, {e.active()})")


@op("cp.async.bulk.commit_group")
def commit_group(e: Emitter, instr: Instr) -> None:
    """Close the group of copies out of shared memory issued since the last commit."""
    e.line(f"m.bulk.commit(g, {e.active()})")


@op("cp.async.bulk.wait_group")
def wait_group(e: Emitter, instr: Instr) -> None:
    """Wait until at most so many groups are under way; .read: until they have read their source."""
    count = instr.operands[0]
    if not isinstance(count, Imm):
        raise e.error("the number of groups is a literal")
    e.line(f"m.bulk.wait(g, {count.value}, {e.active()})")


@op("cp.async.bulk.prefetch.L2")
def prefetch_run(e: Emitter, instr: Instr) -> None:
    """A hint to the cache: no effect, but the run of bytes has to lie in an array."""
    remote, offset = address_of(e, instr.operands[0], "global")
    count = e.src(instr.operands[1], "u4")
    e.line(f"m.bulk.hint(g, {_access(e, offset)}, {remote}, {count}, {e.active()})")


@op("cp.async.bulk.prefetch.tensor", "prefetch.tensormap")
def prefetch(e: Emitter, instr: Instr) -> None:
    """A hint to the caches: no effect."""


@op("cp.async.mbarrier.arrive")
def copies_arrive(e: Emitter, instr: Instr) -> None:
    """Let this thread's cp.async copies land, then arrive; only .noinc counts as an arrival."""
    active = e.active()
    e.line(f"m.copies.wait(g, -1, {active})")
    if "noinc" in instr.mods:
        generic = not any(mod.startswith("shared") for mod in instr.mods)
        place = shared_place(e, instr.operands[0], generic, "u8")
        e.line(f"m.mbarriers.arrive({place}, None, None, False, {active})")
