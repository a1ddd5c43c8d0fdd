"""A loaded PTX text: every kernel's blocks as Python functions, ready to run."""

from __future__ import annotations

import gc
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from attnprobe import layouts
from attnprobe.errors import UnknownOpcodeError, UsageError
from attnprobe.ptx import between, flow, register_fences
from attnprobe.ptx.emit import Emitter, Shared
from attnprobe.ptx.ir import (
    Addr,
    Imm,
    Instr,
    Kernel,
    Module,
    Not,
    Operand,
    Pair,
    Reg,
    Special,
    Sym,
    Vec,
)
from attnprobe.ptx.ops import registry
from attnprobe.ptx.parser import parse
from attnprobe.ptx.special import special_code
from attnprobe.ptx.values import DTYPES, RAW_CODES, TYPE_CODES, bits_of

BlockFunction = Callable[..., Any]


class CodeBlock:
    """One basic block as it runs: ``call(machine, group, registers)``, then what ``flow`` says.

    The Python function is written when the block first runs: most kernels have blocks that never
    do.
    """

    def __init__(self, shared: Shared, block: flow.Block) -> None:
        self.shared = shared
        self.flow = block
        self.count = len(block.instrs) + (block.ending is not None)
        self.converges = any(registry.converges(instr) for instr in block.instrs)
        self.group_wide = any(flow.group_wide(instr) for instr in block.instrs)

    @property
    def live_in(self) -> tuple[int, ...]:
        """Registers whose values the block, or what follows it, needs."""
        return self.flow.live_in

    @cached_property
    def _written(self) -> tuple[str, list[Instr]]:
        return _function(self.shared, self.flow)

    @property
    def text(self) -> str:
        """The generated Python, for reading."""
        return self._written[0]

    def origin(self, error: BaseException) -> Instr:
        """Return the instruction whose code raised ``error``."""
        origins, place = self._written[1], 0
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_name == f"b{self.flow.index}":
                place = trace.tb_lineno - 2  # the function's first line is its head
            trace = trace.tb_next
        return origins[min(place, len(origins) - 1)]

    @cached_property
    def clobbers(self) -> dict[int, Instr]:
        """Registers that the block computes, each with the first instruction that does."""
        found: dict[int, Instr] = {}
        for instr in self.flow.instrs:
            if instr.op not in ("wgmma", "mov"):
                for register in flow.writes(instr):
                    found.setdefault(register, instr)
        return found

    @cached_property
    def call(self) -> BlockFunction:
        """The function that runs the block."""
        names = self.shared.names
        with self.shared.lock:
            # The generated text is all ours: names from the PTX never reach it.
            exec(
                compile(self.text, f"<{self.shared.kernel.name} block {self.flow.index}>", "exec"),
                names,
            )
        function: BlockFunction = names[f"b{self.flow.index}"]
        return function

    @cached_property
    def clobbered(self) -> int:
        """The same registers, one bit each."""
        return sum(1 << register for register in self.clobbers)

    @cached_property
    def fences(self) -> register_fences.Effect:
        """What the block does to what is known of registers that a wgmma may use."""
        return register_fences.effect(self.flow, self.shared.shapes)

    @property
    def ending(self) -> Instr | None:
        """The instruction that ends the block."""
        return self.flow.ending


@dataclass
class Code:
    """One kernel, generated.

    Attributes
    ----------
    static_shared : bytes of shared memory that the kernel itself declares.
    shared_align : alignment of its dynamic shared memory.
    local_bytes : bytes of local memory per thread.
    codes : dtype code of each register between blocks.
    asynchronous : whether it has mbarriers, bulk copies or wgmma.
    group_wide : whether it has wgmma.
    meets : whether its blocks may learn of each other in global memory.
    """

    kernel: Kernel
    blocks: list[CodeBlock]
    shared: Shared
    static_shared: int
    shared_align: int
    local_bytes: int
    codes: list[str]
    asynchronous: bool = False
    group_wide: bool = False
    meets: bool = False


@dataclass
class Program:
    """A PTX text, parsed and generated. ``entries`` are its kernels by name."""

    module: Module
    entries: dict[str, Code]
    exact_entries: dict[str, Code] = field(default_factory=dict)
    rows: dict[str, layouts.Instruction] = field(default_factory=dict)

    def entry(self, name: str, exact: bool = False) -> Code:
        """Return the kernel ``name``, generated for plain or for exact products.

        Raises
        ------
        UsageError
            If there is none; names those that there are.
        """
        if name in self.entries and not exact:
            return self.entries[name]
        if name in self.entries:
            if name not in self.exact_entries:
                self.exact_entries[name] = _exact(self.entries[name])
            return self.exact_entries[name]
        raise UsageError(
            f"no kernel {name!r} in this PTX; it has: {', '.join(self.entries) or 'none'}"
        )


_LOADED: OrderedDict[str, Program] = OrderedDict()
_KEEP = 64
_LOCK = threading.Lock()


def load(text: str) -> Program:
    """Return the program that the PTX ``text`` is, kept for the next call with the same text.

    Raises
    ------
    PtxSyntaxError
        If the text is not PTX.
    UnknownOpcodeError
        If any of its kernels has an instruction that the emulator does not implement.
    """
    with _LOCK:
        found = _LOADED.get(text)
        # A layout row may have been replaced since (layouts.added): then the old code is stale.
        if found is not None and all(
            layouts.exact(name) == row for name, row in found.rows.items()
        ):
            _LOADED.move_to_end(text)
            return found
    with _collector_paused():
        module = parse(text)
        program = Program(module, {})
        for name, kernel in module.kernels.items():
            program.entries[name] = _generate(module, kernel, program.rows)
    with _LOCK:
        _LOADED[text] = program
        while len(_LOADED) > _KEEP:
            _LOADED.popitem(last=False)
    return program


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's cycle collector: a program is 100,000 objects and no garbage.

    Looking through them all again and again would take as long as the rest of loading.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _generate(module: Module, kernel: Kernel, rows: dict[str, layouts.Instruction]) -> Code:
    _refuse_unknown(kernel)
    for item in kernel.body:
        if isinstance(item, Instr) and item.op in registry.FROM_ROWS:
            name = registry.row_name(item)
            row = layouts.exact(name)
            if row is not None:
                rows[name] = row
    symbols, static, align, local = _places(module, kernel)
    codes = _codes(kernel)
    shared = Shared(kernel, codes, symbols, rows=rows)
    shared.names.update(DTYPES)
    code_blocks = [CodeBlock(shared, block) for block in flow.blocks(kernel)]
    asynchronous = any(
        isinstance(item, Instr) and (item.op in ("mbarrier", "wgmma") or "bulk" in item.mods)
        for item in kernel.body
    )
    group_wide = any(block.group_wide for block in code_blocks)
    meets = any(isinstance(item, Instr) and between.meets(item) for item in kernel.body)
    kinds = (asynchronous, group_wide, meets)
    return Code(kernel, code_blocks, shared, static, align, local, codes, *kinds)


def _exact(plain: Code) -> Code:
    """Return the same kernel with exact products: other code for the same blocks."""
    known = plain.shared
    shared = Shared(known.kernel, known.codes, known.symbols, rows=known.rows, exact=True)
    shared.names.update(DTYPES)
    return replace(
        plain, shared=shared, blocks=[CodeBlock(shared, block.flow) for block in plain.blocks]
    )


def _refuse_unknown(kernel: Kernel) -> None:
    seen: set[str] = set()
    for item in kernel.body:
        if isinstance(item, Instr) and item.name not in seen:
            if not registry.known(item):
                raise UnknownOpcodeError(registry.refusal(item))
            seen.add(item.name)
        if isinstance(item, Instr) and item.op == "mov" and isinstance(item.operands[-1], Special):
            special_code(item.operands[-1].name, item)


def _function(shared: Shared, block: flow.Block) -> tuple[str, list[Instr]]:
    emitter = Emitter(shared)
    for instr in block.instrs:
        emitter.instr = instr
        registry.emit(emitter, instr)
    ending = ""
    if block.ending is not None:
        emitter.instr = block.ending
        ending = registry.emit_ending(emitter, block)
    text = emitter.finish(f"b{block.index}", set(block.live_out), ending)
    return text, emitter.origins


def _places(module: Module, kernel: Kernel) -> tuple[dict[str, tuple[str, int]], int, int, int]:
    """Return where each variable is, the static shared bytes, the dynamic alignment, the local
    bytes.
    """
    symbols: dict[str, tuple[str, int]] = {}
    static, local, align = 0, 0, 16
    everything = [*module.variables.values(), *kernel.variables]
    used = _used_symbols(kernel)
    for variable in everything:
        if variable.space == "shared" and not variable.external and variable.name in used:
            static = -(-static // variable.align) * variable.align
            symbols[variable.name] = ("shared", static)
            static += variable.size
        elif variable.space == "shared" and variable.external:
            symbols[variable.name] = ("dynamic", 0)
            align = max(align, variable.align)
        elif variable.space == "local":
            local = -(-local // variable.align) * variable.align
            symbols[variable.name] = ("local", local)
            local += variable.size
        elif variable.space in ("global", "const"):
            symbols[variable.name] = ("global", 0)
    for parameter in kernel.params:
        symbols[parameter.name] = ("param", parameter.offset)
    return symbols, static, align, -(-local // 16) * 16


def _used_symbols(kernel: Kernel) -> set[str]:
    found: set[str] = set()

    def visit(operand: Operand | None) -> None:
        if isinstance(operand, Sym):
            found.add(operand.name)
        elif isinstance(operand, Vec):
            for item in operand.items:
                visit(item)
        elif isinstance(operand, Addr):
            visit(operand.base)

    for item in kernel.body:
        if isinstance(item, Instr):
            for operand in item.operands:
                visit(operand)
    return found


def _codes(kernel: Kernel) -> list[str]:
    """Return the dtype code in which each register is kept: the one that most instructions use
    it as.
    """
    votes: dict[int, Counter[str]] = {}
    for item in kernel.body:
        if isinstance(item, Instr):
            for register, code in _uses(item):
                if register.bits > 1 and bits_of(code) == register.bits:
                    votes.setdefault(register.index, Counter())[code] += 1
    result = []
    for register in kernel.registers:
        if register.index in votes:
            result.append(max(votes[register.index].items(), key=lambda vote: vote[1])[0])
        else:
            result.append(RAW_CODES[min(register.bits, 64)])
    return result


def _uses(instr: Instr) -> list[tuple[Reg, str]]:
    row = layouts.exact(instr.name) if instr.op in ("mma", "ldmatrix") else None
    found: list[tuple[Reg, str]] = []
    types = [mod for mod in instr.mods if mod in TYPE_CODES]
    for number, operand in enumerate(instr.operands):
        if row is not None and number < len(row.operands):
            kind = row.operands[number].format.name
        elif not types:
            continue
        else:
            kind = types[0] if number == 0 or len(types) == 1 else types[-1]
        code = TYPE_CODES.get(kind)
        if code is None:
            continue
        if kind.startswith("b") and instr.op == "mov":
            continue  # a move of bits says nothing about what they are
        found += [(register, code) for register in _plain(operand)]
    return found


def _plain(operand: Operand) -> list[Reg]:
    if isinstance(operand, Reg):
        return [operand]
    if isinstance(operand, Not):
        return [operand.reg]
    if isinstance(operand, Vec):
        return [register for item in operand.items for register in _plain(item)]
    if isinstance(operand, Pair):
        return _plain(operand.first)
    if isinstance(operand, Imm):
        return []
    return []
