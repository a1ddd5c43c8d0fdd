"""Atomics: atom and red in global and shared memory, lanes in ascending order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from attnprobe.ptx.between import atomic_order_of
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.group import Group
from attnprobe.ptx.ir import Instr, Operand
from attnprobe.ptx.ops.data import access_of, address_of, space_of
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.values import DTYPES, LANES, POISON_BYTE, TYPE_CODES, Array, spread

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine
    from attnprobe.ptx.units import Access

_ACTIONS = ("add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec")


def _accepts(instr: Instr) -> bool:
    kinds = {"u32", "s32", "b32", "u64", "s64", "b64", "f32", "f64"} & set(instr.mods)
    return (
        bool(kinds)
        and bool(set(_ACTIONS) & set(instr.mods))
        and not any(mod in ("v2", "v4", "v8") for mod in instr.mods)
    )


@op("atom", accepts=_accepts)
def atom(e: Emitter, instr: Instr) -> None:
    """d = old value; memory = old (op) b."""
    target, address, *values = instr.operands
    code, call = _call(e, instr, address, values)
    e.dst(target, call, code)


@op("red", accepts=_accepts)
def red(e: Emitter, instr: Instr) -> None:
    """memory = old (op) b."""
    address, *values = instr.operands
    e.line(_call(e, instr, address, values)[1])


def _call(e: Emitter, instr: Instr, address: Operand, values: Sequence[Operand]) -> tuple[str, str]:
    kind = e.type()
    code = TYPE_CODES[kind]
    action = next(mod for mod in instr.mods if mod in _ACTIONS)
    space = space_of(instr)
    base, offset = address_of(e, address, space)
    access = access_of(e, kind, 1, offset, atomic_order_of(instr))
    sources = ", ".join(e.src(value, code) for value in values[: 2 if action == "cas" else 1])
    return (
        code,
        f"{e.fn(atomically)}(m, g, {access}, {space!r}, {base}, {action!r}, {e.active()}, "
        f"{sources})",
    )


def atomically(
    m: Machine,
    g: Group,
    access: Access,
    space: str,
    address: Array,
    action: str,
    mask: Array | None,
    *values: Array,
) -> Array:
    """Do the atomic operation lane by lane, warps and lanes ascending, and return the old
    values.
    """
    dtype = DTYPES[access.code]
    old = np.empty((g.n, LANES), dtype)
    old.view(np.uint8)[...] = POISON_BYTE
    sources = [spread(value, g.n) for value in values]
    for units, lanes, index in m.spaces.atomic_places(access, g, space, address, mask):
        memory = units.view(dtype)
        picked = [source[lanes] for source in sources]
        old[lanes] = _sequence(memory, index, action, picked)
    return old


def _sequence(memory: Array, index: Array, action: str, values: list[Array]) -> Array:
    """Apply the action one after another at ``index`` (1-d) and return what each found."""
    found = np.empty(len(index), memory.dtype)
    if len(np.unique(index)) == len(index):
        found[...] = memory[index]
        memory[index] = _result(action, found, values)
        return found
    for place, where in enumerate(index):
        before = memory[where : where + 1].copy()
        found[place] = before[0]
        memory[where : where + 1] = _result(
            action, before, [value[place : place + 1] for value in values]
        )
    return found


def _result(action: str, old: Array, values: list[Array]) -> Array:
    new = values[0]
    if action == "add":
        return old + new
    if action == "min":
        return np.minimum(old, new)
    if action == "max":
        return np.maximum(old, new)
    if action == "exch":
        return new
    if action == "cas":
        return np.where(old == new, values[1], old)
    if action == "inc":
        result: Array = np.where(old >= new, old.dtype.type(0), old + old.dtype.type(1))
        return result
    if action == "dec":
        return np.where((old == 0) | (old > new), new, old - old.dtype.type(1))
    return {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[action](old, new)
