"""Warpgroup instructions, from the rows of attnprobe.layouts: wgmma, and setmaxnreg."""

from __future__ import annotations

from attnprobe import layouts
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.group_plan import group_plan
from attnprobe.ptx.ir import Imm, Instr, Reg, Vec
from attnprobe.ptx.ops.registry import ending, op, row_name
from attnprobe.ptx.warpgroup import Form


def _has_row(instr: Instr) -> bool:
    row = layouts.exact(row_name(instr))
    return row is not None and row.sparsity is None


@op("wgmma.mma_async", converges=True, accepts=_has_row)
def mma_async(e: Emitter, instr: Instr) -> None:
    """D = A B + D, from the issue on: D's registers are in flight until the wait that covers it."""
    if instr.guard is not None:
        raise e.error(f"{instr.name} takes no guard: all warps of the warpgroup execute it")
    row: layouts.Instruction = e.shared.rows[row_name(instr)]
    d, a, b, scale, *rest = instr.operands
    told = dict(zip((each.name for each in row.immediates[1:]), rest, strict=True))
    values = {name: e.immediate(given) for name, given in told.items()}
    negate_a, negate_b = (values.get(f"imm-scale-{name}", 1) == -1 for name in "ab")
    transposed = tuple(bool(values.get(f"imm-trans-{name}", 0)) for name in "ab")
    items = e.vector(d)
    if len(items) != row["D"].registers:
        raise e.error(f"D of {row.ptx} has {row['D'].registers} registers, not {len(items)}")
    plan = group_plan(row, *transposed, e.shared.exact)
    code = "f4" if row["D"].format.name == "f32" else "u4"
    start = ", ".join(e.src(item, code) for item in items)
    if isinstance(a, Vec):
        left = "(" + ", ".join(e.src(item, "u4") for item in a.items) + ",)"
    else:
        left = e.src(a, "u8")
    held = [item.index for item in (*items, *e.vector(a)) if isinstance(item, Reg)]
    form = Form(int(e.site()), plan, negate_a, negate_b, sum({1 << index for index in held}))
    known = e.obj(("wgmma", form.site), lambda: form)
    call = (
        f"m.products.issue({known}, g, {left}, {e.src(b, 'u8')}, {e.src(scale, 'p')}, ({start},))"
    )
    found = e.tmp(call)
    for number, item in enumerate(items):
        e.dst(item, f"{found}[{number}]", code)
    e.watched.update(held)


@op("wgmma.fence")
def fence(e: Emitter, instr: Instr) -> None:
    """Registers accessed before are ready for products after: register_fences.py looks for it."""


@op("wgmma.commit_group")
def commit_group(e: Emitter, instr: Instr) -> None:
    """Close the group of products issued since the last commit."""
    e.line("m.products.commit(g)")


@ending("wgmma.wait_group")
def wait_group(e: Emitter, instr: Instr) -> str:
    """Wait until at most so many groups are under way: the others' registers have their values."""
    count = instr.operands[0]
    if not isinstance(count, Imm):
        raise e.error("the number of groups is a literal")
    return f"return {count.value}"


@op("setmaxnreg")
def setmaxnreg(e: Emitter, instr: Instr) -> None:
    """Have so many registers from here on: none are allotted here, but the count is checked."""
    count = instr.operands[0]
    if not isinstance(count, Imm) or count.value % 8 or not 24 <= count.value <= 256:
        raise e.error("setmaxnreg takes a multiple of 8 from 24 to 256")
    e.line(f"m.set_registers({e.site()}, g, {count.value}, {'inc' in instr.mods})")
