"""Moving data: mov with packing, cvta, ld and st in every state space."""

from __future__ import annotations

import numpy as np

from attnprobe.ptx.between import order_of
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Addr, Instr, Reg, Special, Sym, Vec
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.units import WINDOWS, Access
from attnprobe.ptx.values import DTYPES, RAW_CODES, TYPE_BITS, TYPE_CODES, Array, bits_of

SPACES = ("global", "shared", "local", "const", "param")


@op("mov")
def mov(e: Emitter, instr: Instr) -> None:
    """d = a: an alias of registers, a literal, an address, or {a, b, ...} packed or unpacked."""
    target, source = instr.operands
    if isinstance(target, Vec):
        _unpack(e, target, source)
    elif isinstance(source, Vec):
        _pack(e, instr, source)
    elif isinstance(source, Reg):
        waiting = e.pending(source)
        if waiting is not None and instr.guard is None and isinstance(target, Reg):
            e.wait(target, waiting)
            return
        name, code = e.read(source)
        e.dst(target, name, code)
    elif isinstance(source, Sym | Special):
        code = RAW_CODES[target.bits] if isinstance(target, Reg) else "u8"
        e.dst(target, e.src(source, code), code)
    else:
        code = e.shared.codes[target.index] if isinstance(target, Reg) else TYPE_CODES[e.type()]
        if isinstance(target, Reg) and bits_of(code) != TYPE_BITS[e.type()]:
            code = TYPE_CODES[e.type()]
        if code[0] == "f" and TYPE_CODES[e.type()][0] != "f":
            raw = RAW_CODES[bits_of(code)]  # mov.b32 of a literal: bits, not a number
            e.dst(target, e.view(e.src(source, raw), raw, code), code)
            return
        e.dst(target, e.src(source, code), code)


def _unpack(e: Emitter, target: Vec, source: object) -> None:
    total = TYPE_BITS[e.type()] if e.type() != "b128" else 128
    size = total // len(target.items)
    whole = e.src(source, RAW_CODES[total])  # type: ignore[arg-type]
    code = RAW_CODES[size]
    for number, item in enumerate(target.items):
        shifted = (
            whole if number == 0 else f"({whole} >> {e.const(number * size, RAW_CODES[total])})"
        )
        e.dst(item, f"{shifted}.astype({code})", code)


def _pack(e: Emitter, instr: Instr, source: Vec) -> None:
    total = TYPE_BITS[e.type()]
    size = total // len(source.items)
    wide = RAW_CODES[total]
    parts = []
    for number, item in enumerate(source.items):
        part = e.convert(e.src(item, RAW_CODES[size]), RAW_CODES[size], wide)
        parts.append(part if number == 0 else f"({part} << {e.const(number * size, wide)})")
    e.dst(instr.operands[0], " | ".join(parts), wide)


@op("cvta")
def cvta(e: Emitter, instr: Instr) -> None:
    """d = an address of a state space as a generic one, or back (``.to``)."""
    window = WINDOWS.get(space_of(instr), 0)
    code = RAW_CODES[TYPE_BITS[e.type()]]
    a = e.src(instr.operands[1], code)
    if not window:
        e.dst(instr.operands[0], a, code)
    else:
        sign = "-" if "to" in instr.mods else "+"
        e.dst(instr.operands[0], f"{a} {sign} {e.const(window, code)}", code)


@op("mapa")
def mapa(e: Emitter, instr: Instr) -> None:
    """d = the address in the shared memory of a block of the cluster: this one, the only one."""
    code = TYPE_CODES[e.type()]
    e.dst(instr.operands[0], e.src(instr.operands[1], code), code)


@op("isspacep")
def isspacep(e: Emitter, instr: Instr) -> None:
    """p = whether a generic address lies in a state space."""
    a = e.src(instr.operands[1], "u8")
    e.dst(instr.operands[0], f"{e.fn(in_window)}({a}, {space_of(instr)!r})", "p")


def in_window(address: Array, space: str) -> Array:
    """Return whether generic addresses lie in ``space``."""
    window = address >> np.uint64(32)
    if space in WINDOWS:
        result: Array = window == WINDOWS[space] >> 32
        return result
    return ~np.isin(window, [start >> 32 for start in WINDOWS.values()])


def space_of(instr: Instr) -> str:
    """Return the state space among the modifiers, "generic" if none."""
    for mod in instr.mods:
        word = mod.split("::")[0]
        if word in SPACES:
            return word
    return "generic"


def access_of(e: Emitter, kind: str, count: int, offset: int, order: str = "") -> str:
    """Return the name of the constant that describes this access."""
    access = Access(int(e.site()), TYPE_CODES[kind], count, offset, order)
    return e.obj(access, lambda: access)


def address_of(e: Emitter, operand: object, space: str) -> tuple[str, int]:
    """Return the expression of an address operand's base and its constant offset."""
    if not isinstance(operand, Addr):
        raise e.error("an address stands in brackets")
    code = "u8" if space in ("global", "const", "generic") else "u4"
    if operand.base is None:
        return e.const(operand.offset, code), 0
    if isinstance(operand.base, Reg) and space not in ("global", "const", "generic"):
        name, have = e.read(operand.base)
        return name if have[0] != "f" else e.view(
            name, have, RAW_CODES[bits_of(have)]
        ), operand.offset
    return e.src(operand.base, code), operand.offset


def _vector_count(instr: Instr) -> int:
    return next((int(mod[1:]) for mod in instr.mods if mod in ("v2", "v4", "v8")), 1)


def _space(e: Emitter, instr: Instr, base: object) -> str:
    """Return the space of an access; a variable's own space where the text names none."""
    space = space_of(instr)
    if space == "generic" and isinstance(base, Addr) and isinstance(base.base, Sym):
        known = e.shared.symbols.get(base.base.name, ("generic", 0))[0]
        return "shared" if known == "dynamic" else known
    return "global" if space == "const" else space


@op("ld", "ldu")
def ld(e: Emitter, instr: Instr) -> None:
    """d = memory: any space, .v2 .v4; cache modifiers have no effect, for ordering ones see
    between.py.
    """
    count, kind = _vector_count(instr), e.type()
    space = _space(e, instr, instr.operands[1])
    targets = e.vector(instr.operands[0])
    base, offset = address_of(e, instr.operands[1], space)
    code = TYPE_CODES[kind]
    key = ("param", base, offset, code, count)
    if space == "param" and key in e.cache and instr.guard is None:
        loaded = e.cache[key]
    else:
        access = access_of(e, kind, count, offset, order_of(instr))
        loaded = e.tmp(f"m.spaces.load_{space}({access}, g, {base}, {e.active()})")
    for number, target in enumerate(targets):
        e.dst(target, f"{loaded}[{number}]", code)


@op("st")
def st(e: Emitter, instr: Instr) -> None:
    """memory = a: any space but param, .v2 .v4."""
    count, kind = _vector_count(instr), e.type()
    space = _space(e, instr, instr.operands[0])
    code = TYPE_CODES[kind]
    values = ", ".join(e.src(item, code) for item in e.vector(instr.operands[1]))
    base, offset = address_of(e, instr.operands[0], space)
    access = access_of(e, kind, count, offset, order_of(instr))
    e.line(f"m.spaces.store_{space}({access}, g, {base}, [{values}], {e.active()})")


@op("prefetch", "prefetchu", "discard", "applypriority", "createpolicy")
def nothing(e: Emitter, instr: Instr) -> None:
    """Hints to the caches: no effect, save that createpolicy gives a value."""
    if instr.op == "createpolicy":
        e.dst(instr.operands[0], e.const(0, "u8"), "u8")


def element_dtype(kind: str) -> np.dtype[np.generic]:
    """Return the dtype in which a PTX type lies in memory."""
    return DTYPES[TYPE_CODES[kind]]
