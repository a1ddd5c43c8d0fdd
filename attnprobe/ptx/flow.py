"""Basic blocks of a kernel: where they go, in which order groups run them, which registers live on.

Order: groups at lower blocks run first, so that those behind catch up and groups meet again. The
order is topological with loops kept together: all of a loop comes before what follows the loop,
whatever order the compiler wrote the blocks in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from attnprobe.errors import PtxSyntaxError
from attnprobe.ptx.ir import Addr, Instr, Kernel, Label, Not, Operand, Pair, Reg, Vec

# What ends a block, other than running into a label.
_ENDS = {
    "bra": "branch",
    "brx": "switch",
    "ret": "exit",
    "exit": "exit",
    "trap": "trap",
    "bar": "barrier",
    "barrier": "barrier",
}

# Operands that an instruction writes, by opcode; one unless listed.
_NO_RESULT = {
    "st",
    "red",
    "bra",
    "brx",
    "ret",
    "exit",
    "trap",
    "bar",
    "barrier",
    "membar",
    "fence",
    "cp",
    "prefetch",
    "prefetchu",
    "nanosleep",
    "pmevent",
    "brkpt",
    "discard",
    "applypriority",
}


@dataclass
class Block:
    """One basic block.

    Attributes
    ----------
    kind : how it ends: "next", "branch", "switch", "exit", "trap", "barrier", "await" (an mbarrier)
        or "collect" (products of a warpgroup).
    targets : blocks that the ending may go to (not counting ``after``).
    after : the block that stands behind, or -1.
    rank : place in the order in which groups run.
    live_in_bits, live_out_bits : the same as live_in and live_out, one bit a register.
    """

    index: int
    instrs: list[Instr] = field(default_factory=list)
    ending: Instr | None = None
    kind: str = "next"
    targets: list[int] = field(default_factory=list)
    after: int = -1
    rank: int = 0
    live_in_bits: int = 0
    live_out_bits: int = 0

    @cached_property
    def live_in(self) -> tuple[int, ...]:
        """Registers that are read here or later before they are written, ascending."""
        return _members(self.live_in_bits)

    @cached_property
    def live_out(self) -> tuple[int, ...]:
        """Registers that are read after this block before they are written, ascending."""
        return _members(self.live_out_bits)

    @property
    def successors(self) -> list[int]:
        """Blocks that can run next."""
        follows = self.after >= 0 and not (
            self.kind in ("branch", "exit", "trap", "switch")
            and self.ending is not None
            and self.ending.guard is None
        )
        return [*self.targets, self.after] if follows else list(self.targets)


def blocks(kernel: Kernel) -> list[Block]:
    """Return the basic blocks of ``kernel``, in the order of the text; the first is the entry."""
    result = [Block(0)]
    start: dict[int, int] = {}
    for item in kernel.body:
        current = result[-1]
        if isinstance(item, Label):
            if current.instrs or current.ending is not None or not result:
                result.append(Block(len(result)))
            start[item.index] = len(result) - 1
            continue
        kind = _kind(item)
        if kind is None:
            if group_wide(item) and current.instrs and not any(map(group_wide, current.instrs)):
                current = Block(len(result))  # warps of a warpgroup meet where a block begins
                result.append(current)
            current.instrs.append(item)
        else:
            current.ending, current.kind = item, kind
            result.append(Block(len(result)))
    for block in result:
        block.after = block.index + 1 if block.index + 1 < len(result) else -1
        if block.ending is not None:
            block.targets = [start[label] for label in _labels(block.ending)]
    _rank(result)
    _liveness(result)
    return result


def _kind(instr: Instr) -> str | None:
    """Return how a block ends with ``instr``, None if it does not."""
    if instr.op == "mbarrier":
        return "await" if {"try_wait", "test_wait"} & set(instr.mods) else None
    if instr.op == "wgmma":
        return "collect" if "wait_group" in instr.mods else None
    if instr.op in ("bar", "barrier") and "warp" in instr.mods:
        return None
    return _ENDS.get(instr.op)


def group_wide(instr: Instr) -> bool:
    """Whether the four warps of a warpgroup must execute ``instr`` together."""
    return instr.op == "wgmma" and "mma_async" in instr.mods


def _labels(instr: Instr) -> list[int]:
    found = []
    for operand in instr.operands:
        items = operand.items if isinstance(operand, Vec) else (operand,)
        found += [item.index for item in items if isinstance(item, Label)]
    if instr.op in ("bra", "brx") and not found:
        raise PtxSyntaxError(f"PTX line {instr.line}: {instr.name} has no target")
    return found


def reads(instr: Instr) -> set[int]:
    """Return the registers that ``instr`` reads."""
    result = _registers(instr.operands if _no_result(instr) else instr.operands[1:])
    if group_wide(instr):
        result |= _registers(instr.operands[:1])  # D is added to
    if instr.op in ("bar", "barrier") and "red" in instr.mods:
        result |= _registers(instr.operands[1:])
    if instr.guard is not None:
        result.add(instr.guard[0].index)
        result |= writes(instr)  # lanes that the guard leaves out keep the old value
    return result


def writes(instr: Instr) -> set[int]:
    """Return the registers that ``instr`` writes."""
    if instr.op in ("bar", "barrier") and "red" in instr.mods:
        return _registers(instr.operands[:1])
    if _no_result(instr):
        return set()
    return _registers(instr.operands[:1])


def _no_result(instr: Instr) -> bool:
    """Whether ``instr`` writes no register: of its opcode, or since its target is in memory."""
    return instr.op in _NO_RESULT or (bool(instr.operands) and isinstance(instr.operands[0], Addr))


def _registers(operands: list[Operand]) -> set[int]:
    found: set[int] = set()
    for operand in operands:
        if isinstance(operand, Reg):
            found.add(operand.index)
        elif isinstance(operand, Not):
            found.add(operand.reg.index)
        elif isinstance(operand, Vec):
            found |= _registers(list(operand.items))
        elif isinstance(operand, Pair):
            found |= _registers([operand.first, operand.second])
        elif isinstance(operand, Addr):
            found |= _registers(list(operand.coordinates))
            if isinstance(operand.base, Reg):
                found.add(operand.base.index)
    return found


def _liveness(all_blocks: list[Block]) -> None:
    # Sets of registers as bits of an int: unions of thousands of registers are one operation.
    used: list[int] = []
    killed: list[int] = []
    for block in all_blocks:
        use = kill = 0
        for instr in [*block.instrs, *([block.ending] if block.ending else [])]:
            use |= _bits(reads(instr)) & ~kill
            if instr.guard is None:
                kill |= _bits(writes(instr))
        used.append(use)
        killed.append(kill)
    live = [0] * len(all_blocks)
    outs = [0] * len(all_blocks)
    changed = True
    while changed:
        changed = False
        for block in sorted(all_blocks, key=lambda one: -one.rank):
            out = 0
            for target in block.successors:
                out |= live[target]
            into = used[block.index] | (out & ~killed[block.index])
            outs[block.index] = out
            if into != live[block.index]:
                live[block.index], changed = into, True
    for block in all_blocks:
        block.live_in_bits, block.live_out_bits = live[block.index], outs[block.index]


def _bits(registers: set[int]) -> int:
    result = 0
    for register in registers:
        result |= 1 << register
    return result


def _members(bits: int) -> tuple[int, ...]:
    text = bin(bits)[:1:-1]
    found = []
    at = text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return tuple(found)


def _rank(all_blocks: list[Block]) -> None:
    order = _loop_order(
        set(range(len(all_blocks))), [block.successors for block in all_blocks], [0]
    )
    for rank, index in enumerate(order):
        all_blocks[index].rank = rank


def _loop_order(members: set[int], edges: list[list[int]], entries: list[int]) -> list[int]:
    """Return ``members`` in topological order, every loop in one piece and ordered the same way
    inside.
    """
    result: list[int] = []
    for component in reversed(_components(members, edges)):
        if len(component) == 1:
            result += component
            continue
        inside = set(component)
        outside = [node for node in members if node not in inside]
        heads = [entry for entry in entries if entry in inside]
        heads += sorted(
            {target for node in outside for target in edges[node] if target in inside} - set(heads)
        )
        head = heads[0] if heads else min(inside)
        cut = list(edges)
        for node in inside:
            cut[node] = [target for target in edges[node] if target != head]
        result += _loop_order(inside, cut, [head])
    return result


def _components(members: set[int], edges: list[list[int]]) -> list[list[int]]:
    """Return the strongly connected components, each after all that it reaches (Tarjan, without
    recursion).
    """
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    result: list[list[int]] = []
    for root in sorted(members):
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter([target for target in edges[root] if target in members]))]
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append(
                        (target, iter([after for after in edges[target] if after in members]))
                    )
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    result.append(sorted(component))
    return result
