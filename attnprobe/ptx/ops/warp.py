"""Between the lanes of a warp: shfl, vote, match, activemask, redux, elect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import EmulatorError
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr, Sink
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import LANES, TYPE_CODES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

_LANE = np.arange(LANES, dtype=np.int64)[None, :]
_BIT = (np.uint32(1) << np.arange(LANES, dtype=np.uint32))[None, :]


def _members(e: Emitter, mask: str) -> str:
    """Write the check that the named lanes are here; return the lanes that take part."""
    return e.tmp(f"{e.fn(members)}(m, g, {e.site()}, {mask}, {e.active()})")


def members(m: Machine, g: Group, site: int, named: Array, active: Array | None) -> Array | None:
    """Return the lanes that take part: None for all 32.

    Raises
    ------
    EmulatorError
        If a lane executes the instruction that does not name itself, or names lanes that have not
        exited and are not here.
    """
    if active is None and named.shape == (1, 1) and named[0, 0] == 0xFFFFFFFF:
        return None
    lanes = g.active() if active is None else active
    wanted = (spread(named, g.n) & _BIT) != 0
    strange = lanes & ~wanted
    if strange.any():
        raise m.fault(
            EmulatorError,
            m.site(site),
            g,
            strange,
            "lanes execute this that its member mask does not name",
        )
    # A mask that different lanes give differently is undefined; the union is what must be here.
    union = (wanted & lanes[:, :, None].any(axis=2)).any(axis=1, keepdims=True) & wanted
    absent = union & ~lanes & m.live[g.rows] & lanes.any(axis=1, keepdims=True)
    if absent.any():
        raise m.fault(
            EmulatorError, m.site(site), g, absent,
            "the member mask names lanes that are not here: they took another way",
        )  # fmt: skip
    return None if lanes.all() else lanes


@op("shfl.sync", converges=True)
def shfl(e: Emitter, instr: Instr) -> None:
    """d = a of another lane; p says whether that lane is within bounds (if not, d = own a)."""
    mode = next(mod for mod in instr.mods if mod in ("up", "down", "bfly", "idx"))
    target, predicate = e.pair(instr.operands[0])
    kind = "u4"
    a_operand, b, c, mask = instr.operands[1:]
    from attnprobe.ptx.ir import Reg

    if isinstance(a_operand, Reg):
        _, have = e.read(a_operand)
        kind = have if have in ("u4", "i4", "f4") else "u4"
    a = e.src(a_operand, kind)
    lanes = _members(e, e.src(mask, "u4"))
    pair = e.tmp(
        f"{e.fn(shuffle)}({a}, {e.src(b, 'u4')}, {e.src(c, 'u4')}, {mode!r}, {lanes}, g.n)"
    )
    e.dst(target, f"{pair}[0]", kind)
    if not isinstance(predicate, Sink):
        e.dst(predicate, f"{pair}[1]", "p")


def shuffle(
    a: Array, b: Array, c: Array, mode: str, lanes: Array | None, warps: int
) -> tuple[Array, Array]:
    """Return (values, in bounds) of shfl: from lanes that do not take part comes poison."""
    value = b.astype(np.int64) & 31
    limit, segment = c.astype(np.int64) & 31, (c.astype(np.int64) >> 8) & 31
    low = _LANE & segment
    high = low | (limit & ~segment)
    if mode == "up":
        source = _LANE - value
        inside = source >= high
    elif mode == "down":
        source = _LANE + value
        inside = source <= high
    elif mode == "bfly":
        source = _LANE ^ value
        inside = source <= high
    else:
        source = low | (value & ~segment)
        inside = source <= high
    source = np.where(inside, source, _LANE)
    if source.shape[0] == 1:
        full = a if a.shape[1] == LANES else np.broadcast_to(a, (a.shape[0], LANES))
        out = full[:, source[0]]
    else:
        out = np.take_along_axis(spread(a, warps), np.broadcast_to(source, (warps, LANES)), axis=1)
    if lanes is not None:
        there = np.take_along_axis(lanes, np.broadcast_to(source, (warps, LANES)), axis=1)
        poison = np.full((1, 1), 0xFFFFFFFF, np.uint32).view(a.dtype)
        out = np.where(there, out, poison)
    return out, inside


@op("vote.sync", converges=True)
def vote(e: Emitter, instr: Instr) -> None:
    """d = whether all, any or equally many lanes hold a predicate, or the mask of those that do."""
    mode = next(mod for mod in instr.mods if mod in ("all", "any", "uni", "ballot"))
    predicate = e.src(instr.operands[1], "p")
    lanes = _members(e, e.src(instr.operands[2], "u4"))
    code = "u4" if mode == "ballot" else "p"
    e.dst(instr.operands[0], f"{e.fn(ballot)}({predicate}, {lanes}, {mode!r}, g.n)", code)


def ballot(predicate: Array, lanes: Array | None, mode: str, warps: int) -> Array:
    """Return the vote of the lanes that take part: (warps, 1)."""
    held = spread(predicate, warps)
    yes = held if lanes is None else held & lanes
    if mode == "ballot":
        return lane_mask(yes)
    some: Array = np.asarray(yes.any(axis=1, keepdims=True))
    no = ~held if lanes is None else ~held & lanes
    every: Array = np.asarray(~no.any(axis=1, keepdims=True))
    return {"any": some, "all": every, "uni": every | ~some}[mode]


def lane_mask(lanes: Array) -> Array:
    """Return bool (..., 32) as one uint32 a warp: (..., 1)."""
    return np.packbits(np.ascontiguousarray(lanes), axis=1, bitorder="little").view(np.uint32)


@op("activemask", converges=False)
def activemask(e: Emitter, instr: Instr) -> None:
    """d = the lanes that execute this."""
    e.dst(instr.operands[0], f"{e.fn(lane_mask)}(g.active())", "u4")


@op("match.any.sync", "match.all.sync", converges=True)
def match(e: Emitter, instr: Instr) -> None:
    """d = lanes with the same value (any), or all lanes if all agree, and whether they do (all)."""
    target, predicate = e.pair(instr.operands[0])
    code = TYPE_CODES[e.type()]
    a = e.src(instr.operands[1], code)
    lanes = _members(e, e.src(instr.operands[2], "u4"))
    pair = e.tmp(f"{e.fn(matching)}({a}, {lanes}, {'all' in instr.mods}, g.n)")
    e.dst(target, f"{pair}[0]", "u4")
    if not isinstance(predicate, Sink):
        e.dst(predicate, f"{pair}[1]", "p")


def matching(a: Array, lanes: Array | None, every: bool, warps: int) -> tuple[Array, Array]:
    """Return (mask of equal lanes, whether all agree)."""
    value = spread(a, warps)
    equal = value[:, :, None] == value[:, None, :]
    if lanes is not None:
        equal = equal & lanes[:, None, :]
    mask = np.packbits(equal, axis=2, bitorder="little").view(np.uint32)[..., 0]
    full = lane_mask(lanes) if lanes is not None else np.full((1, 1), 0xFFFFFFFF, np.uint32)
    rows = mask == full
    agree = (rows | ~lanes if lanes is not None else rows).all(axis=1, keepdims=True)
    if every:
        return np.where(agree, full, np.uint32(0)), agree
    return mask, agree


_REDUCE = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@op("redux.sync", converges=True, accepts=lambda instr: "f32" not in instr.mods)
def redux(e: Emitter, instr: Instr) -> None:
    """d = a reduced over the lanes that take part."""
    code = TYPE_CODES[e.type()]
    name = next(mod for mod in instr.mods if mod in _REDUCE)
    a = e.src(instr.operands[1], code)
    lanes = _members(e, e.src(instr.operands[2], "u4"))
    e.dst(instr.operands[0], f"{e.fn(reduce_lanes)}({a}, {lanes}, {name!r}, g.n)", code)


def reduce_lanes(a: Array, lanes: Array | None, name: str, warps: int) -> Array:
    """Return the reduction over a warp's lanes: (warps, 1)."""
    value = spread(a, warps)
    if lanes is not None:
        info = np.iinfo(a.dtype)
        neutral = {"add": 0, "or": 0, "xor": 0, "and": -1, "min": info.max, "max": info.min}[name]
        value = np.where(lanes, value, np.array(neutral).astype(a.dtype))
    return _REDUCE[name].reduce(value, axis=1, keepdims=True, dtype=a.dtype)


@op("elect.sync", converges=True)
def elect(e: Emitter, instr: Instr) -> None:
    """d|p = the lowest lane that takes part, and whether this is it."""
    target, predicate = e.pair(instr.operands[0])
    lanes = _members(e, e.src(instr.operands[1], "u4"))
    leader = e.tmp(f"{e.fn(first_lane)}({lanes}, g.n)")
    e.dst(target, leader, "u4")
    e.dst(predicate, f"m.special(g, 'laneid') == {leader}", "p")


def first_lane(lanes: Array | None, warps: int) -> Array:
    """Return the number of each warp's lowest lane: uint32 (warps, 1)."""
    if lanes is None:
        return np.zeros((1, 1), np.uint32)
    result: Array = np.argmax(lanes, axis=1)[:, None].astype(np.uint32)
    return result
