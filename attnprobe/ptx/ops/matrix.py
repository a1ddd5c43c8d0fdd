"""Matrix instructions of a warp, from the rows of attnprobe.layouts: mma.sync, ldmatrix and kin.

Nothing here knows a layout: which lane holds which element, in which format, comes from the row
whose name is the instruction's.
"""

from __future__ import annotations

from attnprobe import layouts
from attnprobe.ptx.chains import Pending
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.exact_plan import ExactProduct, exact_product
from attnprobe.ptx.fragments import Loader, Mover, Product, loader, mover, product
from attnprobe.ptx.fused import fused, fusible
from attnprobe.ptx.ir import Instr, Operand
from attnprobe.ptx.ops.data import address_of
from attnprobe.ptx.ops.registry import op
from attnprobe.ptx.rows import load_rows, store_rows
from attnprobe.ptx.units import Access
from attnprobe.ptx.values import TYPE_CODES, spread

_FAMILIES = ("mma", "ldmatrix", "stmatrix", "movmatrix")


def _has_row(instr: Instr) -> bool:
    row = layouts.exact(instr.name)
    return row is not None and row.family in _FAMILIES and not row.memory


def _row(e: Emitter, instr: Instr) -> layouts.Instruction:
    """Return the row that the program was loaded with."""
    result: layouts.Instruction = e.shared.rows[instr.name]
    return result


def _code(kind: str) -> str:
    """Return the dtype code of a whole 32-bit register of elements."""
    code = TYPE_CODES.get(kind, "u4")
    return code if code in ("f4", "u4", "i4", "f8") else "u4"


@op("mma", converges=True, accepts=_has_row)
def mma(e: Emitter, instr: Instr) -> None:
    """D = A B + C."""
    row = _row(e, instr)
    plan: Product | ExactProduct = exact_product(row) if e.shared.exact else product(row)
    name = e.obj(("product", instr.name), lambda: plan)
    parts = {}
    for operand, given in zip(row.operands, instr.operands, strict=True):
        items = e.vector(given)
        if len(items) != operand.registers:
            raise e.error(
                f"operand {operand.name} of {row.ptx} has {operand.registers} registers, "
                f"not {len(items)}"
            )
        parts[operand.name] = items
    _check_lanes(e)
    if not e.shared.exact and e.instr.guard is None and fusible(row):
        _chained(e, row, parts)
        return
    raw_code = "f8" if row["A"].format.bits == 64 else "u4"
    a = _matrix(e, name, "A", tuple(e.src(item, raw_code) for item in parts["A"]))
    b = _matrix(e, name, "B", tuple(e.src(item, raw_code) for item in parts["B"]))
    c_code = _code(row["C"].format.name)
    c_regs = tuple(e.src(item, c_code) for item in parts["C"])
    c = e.cache.get(("D", instr.name, c_regs)) or f"{name}.pack_c(g.n, {', '.join(c_regs)})"
    d = e.tmp(f"{name}.multiply({a}, {b}, {c})")
    d_code = _code(row["D"].format.name)
    regs = e.tmp(f"{name}.unpack({d})")
    names = []
    for number, item in enumerate(parts["D"]):
        one = e.tmp(f"{regs}[{number}]")
        names.append(one)
        e.dst(item, one, d_code)
    e.cache[("D", instr.name, tuple(names))] = d


def _chained(e: Emitter, row: layouts.Instruction, parts: dict[str, tuple[Operand, ...]]) -> None:
    """Let the product wait: it may be one of many that are summed at once."""
    name = e.obj(("fused", row.ptx), lambda: fused(row))
    chain = e.chains.extend(name, [e.pending(item) for item in parts["C"]])
    if chain is None:
        chain = e.chains.add(name, tuple(e.src(item, "f4") for item in parts["C"]))
    a, b = (tuple(e.src(item, "u4") for item in parts[which]) for which in "AB")
    chain.steps.append((a, b))
    for number, item in enumerate(parts["D"]):
        e.wait(item, Pending(chain, number, len(chain.steps)))


def _matrix(e: Emitter, plan: str, which: str, registers: tuple[str, ...]) -> str:
    """Return the name of an operand as a matrix, made once for the same registers."""
    key = (plan, which, registers)
    if key not in e.cache:
        e.cache[key] = e.tmp(f"{plan}.pack_{which.lower()}(g.n, {', '.join(registers)})")
    return e.cache[key]


def _check_lanes(e: Emitter) -> None:
    """Write the check that whole warps execute the instruction."""
    if e.instr.guard is not None:
        e.line(f"m.whole_warps({e.site()}, g, {e.active()})")
    elif "whole" not in e.cache:
        e.cache["whole"] = "yes"
        e.line(f"if g.mask is not None: m.whole_warps({e.site()}, g, g.mask)")


@op("ldmatrix", converges=True, accepts=_has_row)
def ldmatrix(e: Emitter, instr: Instr) -> None:
    """d = rows of 8x8 matrices from shared memory, as the row's fragment says."""
    row = _row(e, instr)
    plan: Loader = loader(row)
    items = e.vector(instr.operands[0])
    operand = row.operands[0]
    if len(items) != operand.registers:
        raise e.error(f"{row.ptx} gives {operand.registers} registers, not {len(items)}")
    _check_lanes(e)
    base, offset = address_of(e, instr.operands[1], "shared")
    size = plan.row_bytes
    access = Access(int(e.site()), "u8", size // 8, offset)
    known = e.obj(access, lambda: access)
    name = e.obj(("loader", instr.name), lambda: plan)
    loaded = e.tmp(f"{e.fn(load_rows)}(m.spaces, {known}, g, {base}, {e.active()}, {name})")
    for number, item in enumerate(items):
        e.dst(item, f"{loaded}[{number}]", "u4")


@op("stmatrix", converges=True, accepts=_has_row)
def stmatrix(e: Emitter, instr: Instr) -> None:
    """Rows of 8x8 matrices in shared memory = registers, as the row's fragment says."""
    row = _row(e, instr)
    plan: Mover = mover(row)
    held = ", ".join(_held(e, instr, row.operands[0], 1))
    _check_lanes(e)
    base, offset = address_of(e, instr.operands[0], "shared")
    access = Access(int(e.site()), "u8", plan.row_bytes // 8, offset)
    name = e.obj(("mover", instr.name), lambda: plan)
    units = e.tmp(f"{name}.units(g.n, {held})")
    known = e.obj(access, lambda: access)
    e.line(f"{e.fn(store_rows)}(m.spaces, {known}, g, {base}, {e.active()}, {units})")


@op("movmatrix", converges=True, accepts=_has_row)
def movmatrix(e: Emitter, instr: Instr) -> None:
    """d = a transposed, as the row's fragments say."""
    row = _row(e, instr)
    plan = mover(row)
    held = ", ".join(_held(e, instr, row.operands[1], 1))
    _check_lanes(e)
    name = e.obj(("mover", instr.name), lambda: plan)
    e.dst(e.vector(instr.operands[0])[0], f"{name}.move(g.n, {held})[0]", "u4")


def _held(e: Emitter, instr: Instr, operand: layouts.Operand, number: int) -> list[str]:
    """Return the registers of an operand, spread over whole warps."""
    items = e.vector(instr.operands[number])
    if len(items) != operand.registers:
        raise e.error(f"{instr.name} takes {operand.registers} registers, not {len(items)}")
    return [f"{e.fn(spread)}({e.src(item, 'u4')}, g.n)" for item in items]
