"""Control flow: branches, exits, barriers, and what has no effect here (fences, nanosleep)."""

from __future__ import annotations

from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.ir import Instr, Operand, Vec
from attnprobe.ptx.ops.registry import ending, op


def _guard(e: Emitter, instr: Instr) -> str:
    return e.guard() if instr.guard is not None else "None"


@ending("bra")
def bra(e: Emitter, instr: Instr) -> str:
    """Go to a label where the guard holds."""
    return f"return {_guard(e, instr)}"


@ending("brx.idx")
def brx(e: Emitter, instr: Instr) -> str:
    """Go to the label that an index chooses."""
    return f"return {e.src(instr.operands[0], 'u4')}, {_guard(e, instr)}"


@ending("ret", "exit")
def leave(e: Emitter, instr: Instr) -> str:
    """End these threads."""
    return f"return {_guard(e, instr)}"


@ending("trap")
def trap(e: Emitter, instr: Instr) -> str:
    """End the launch with an error."""
    return f"return {_guard(e, instr)}"


_REDUCTIONS = ("popc", "and", "or")


@ending("bar.sync", "bar.cta.sync", "barrier.sync", "barrier.cta.sync")
def barrier_sync(e: Emitter, instr: Instr) -> str:
    """Wait until all threads (or the given number) have arrived at a barrier."""
    operands = instr.operands
    count = e.src(operands[1], "u4") if len(operands) > 1 else "None"
    return f"return {_guard(e, instr)}, 'sync', {e.src(operands[0], 'u4')}, {count}, None, None"


@ending("bar.arrive", "bar.cta.arrive", "barrier.arrive", "barrier.cta.arrive")
def barrier_arrive(e: Emitter, instr: Instr) -> str:
    """Arrive at a barrier without waiting."""
    operands = instr.operands
    number, count = e.src(operands[0], "u4"), e.src(operands[1], "u4")
    return f"return {_guard(e, instr)}, 'arrive', {number}, {count}, None, None"


@ending("bar.red", "bar.cta.red", "barrier.red", "barrier.cta.red")
def barrier_red(e: Emitter, instr: Instr) -> str:
    """Wait at a barrier and get the count, conjunction or disjunction of a predicate over its
    threads.
    """
    target, number, *rest = instr.operands
    count = e.src(rest[0], "u4") if len(rest) > 1 else "None"
    kind = next(mod for mod in instr.mods if mod in _REDUCTIONS)
    register = _register(e, target)
    predicate = e.src(rest[-1], "p")
    which = e.src(number, "u4")
    return f"return {_guard(e, instr)}, {kind!r}, {which}, {count}, {predicate}, {register}"


def _register(e: Emitter, operand: Operand) -> str:
    from attnprobe.ptx.ir import Reg

    if not isinstance(operand, Reg) or isinstance(operand, Vec):
        raise e.error("the result of a barrier is a register")
    return f"({operand.index}, {e.shared.codes[operand.index]!r})"


@op("bar.warp.sync", converges=True)
def bar_warp_sync(e: Emitter, instr: Instr) -> None:
    """Wait for the lanes of the warp: they have met where the block begins."""


@op("fence.proxy.async")
def fence_proxy_async(e: Emitter, instr: Instr) -> None:
    """wgmma and bulk copies see what was written before: checked mode asks for this."""
    e.line("m.fence_proxy(g)")


@op("fence.mbarrier_init")
def fence_mbarrier_init(e: Emitter, instr: Instr) -> None:
    """Bulk copies see the mbarriers that were made before."""
    e.line("m.fence_init(g)")


@op("membar", "fence")
def fence(e: Emitter, instr: Instr) -> None:
    """Memory is sequentially consistent here; checked mode asks for fences between blocks."""
    if "cta" not in instr.mods:
        e.line("m.fence(g)")


@op("griddepcontrol.wait")
def griddepcontrol_wait(e: Emitter, instr: Instr) -> None:
    """The launch before in the stream is over, and all launches before that."""
    e.line(f"m.dependence.wait(g, {e.active()})")


@op("griddepcontrol.launch_dependents")
def griddepcontrol_launch_dependents(e: Emitter, instr: Instr) -> None:
    """The launch behind in the stream may begin: a launch that waits itself before it asks."""
    e.line(f"m.dependence.check({e.site()}, g, {e.active()})")


@op("nanosleep", "pmevent")
def no_effect(e: Emitter, instr: Instr) -> None:
    """Nothing happens."""


@op("brkpt", accepts=lambda _: False)
def brkpt(e: Emitter, instr: Instr) -> None:
    """Not implemented."""
