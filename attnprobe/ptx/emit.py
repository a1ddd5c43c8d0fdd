"""From the instructions of one basic block to the text of one Python function.

An opcode's function (see ops/) gets an :class:`Emitter` positioned at its instruction, asks for its
sources as expressions of the dtype that it needs, and hands back the expression of each result. The
emitter knows in which dtype every value is at hand and inserts a view only where it must, so that a
register which holds a float and is moved as bits costs nothing.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnprobe.errors import PtxSyntaxError
from attnprobe.ptx.chains import Chains, Pending
from attnprobe.ptx.ir import Imm, Instr, Kernel, Not, Operand, Pair, Reg, Sink, Special, Sym, Vec
from attnprobe.ptx.values import DTYPES, RAW_CODES, TYPE_CODES, bits_of, constant, is_float, pick


@dataclass
class Shared:
    """What all blocks of one kernel share: the globals of the generated code and the
    instruction sites.

    Attributes
    ----------
    names : global names of the generated code.
    sites : instructions that can fail, by site number.
    codes : dtype code in which each register is kept between blocks.
    symbols : what the address of a variable is: ("shared" | "local" | "param" | "global", offset).
    rows : layout rows that the kernel uses, by mnemonic.
    shapes : numbers of the shapes of its wgmmas (register_fences.py).
    exact : products and ex2 have the bits of the hardware.
    """

    kernel: Kernel
    codes: list[str]
    symbols: dict[str, tuple[str, int]]
    names: dict[str, Any] = field(default_factory=dict)
    sites: list[Instr] = field(default_factory=list)
    rows: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    known: dict[Any, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    exact: bool = False

    def name(self, key: Any, prefix: str, make: Callable[[], Any]) -> str:
        """Return the global name under which the object for ``key`` is known, making it once."""
        found = self.known.get(key)
        if found is None:
            found = f"{prefix}{len(self.known)}"
            self.known[key] = found
            self.names[found] = make()
        return found


class Emitter:
    """Writes the function of one basic block."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.lines: list[str] = []
        self.origins: list[Instr] = []
        self.instr: Instr = Instr("", "", (), [], None, 0, None)
        self.values: dict[int, tuple[str, str] | Pending] = {}
        self.chains = Chains()
        self.views: dict[tuple[str, str], str] = {}
        self.written: dict[int, None] = {}
        self.flushed: set[str] = set()
        self.watched: set[int] = set()  # registers of products that are in flight
        self.cache: dict[Any, str] = {}
        self.count = 0

    # Names

    def fn(self, function: Callable[..., Any]) -> str:
        """Return the name under which the generated code calls ``function``."""
        return self.shared.name(
            function, "f_" + getattr(function, "__name__", "x"), lambda: function
        )

    def obj(self, key: Any, make: Callable[[], Any]) -> str:
        """Return the name of a constant object."""
        return self.shared.name(key, "k", make)

    def const(self, value: int, code: str) -> str:
        """Return the name of a (1, 1) constant with raw bits ``value``."""
        mask = (1 << bits_of(code)) - 1
        return self.obj((value & mask, code), lambda: constant(value, code))

    def site(self) -> str:
        """Return the number of the current instruction, by which an error finds its place in
        the text.
        """
        sites = self.shared.sites
        if not sites or sites[-1] is not self.instr:
            sites.append(self.instr)
        return str(len(sites) - 1)

    def line(self, text: str) -> None:
        """Append one line of code."""
        self.lines.append("    " + text)
        self.origins.append(self.instr)

    def tmp(self, expression: str) -> str:
        """Assign ``expression`` to a fresh name and return it."""
        self.count += 1
        name = f"v{self.count}"
        self.line(f"{name} = {expression}")
        return name

    # Sources

    def read(self, register: Reg) -> tuple[str, str]:
        """Return (name, dtype code) of what ``register`` holds now."""
        found = self.values.get(register.index)
        if found is None:
            found = (self.tmp(f"R[{register.index}]"), self.shared.codes[register.index])
            self.values[register.index] = found
        elif isinstance(found, Pending):
            found = (self.chains.name(self, found), "f4")
            self.values[register.index] = found
        return found

    def pending(self, operand: Operand) -> Pending | None:
        """Return what ``operand`` will be, if that is a product that waits to be written."""
        found = self.values.get(operand.index) if isinstance(operand, Reg) else None
        return found if isinstance(found, Pending) else None

    def wait(self, operand: Operand, value: Pending) -> None:
        """Let ``operand`` be a product that waits to be written."""
        if isinstance(operand, Reg):
            self.values[operand.index] = value
            self.written[operand.index] = None

    def view(self, name: str, have: str, want: str) -> str:
        """Return a name for the same bits as another dtype of the same width."""
        if have == want:
            return name
        found = self.views.get((name, want))
        if found is None:
            found = self.tmp(f"{name}.view({want})")
            self.views[(name, want)] = found
            self.views[(found, have)] = name
        return found

    def src(self, operand: Operand, code: str) -> str:
        """Return an expression for ``operand`` as dtype ``code``: narrowed or widened if need
        be.
        """
        if isinstance(operand, Reg):
            name, have = self.read(operand)
            return self.convert(name, have, code)
        if isinstance(operand, Imm):
            return self.literal(operand, code)
        if isinstance(operand, Not):
            name, _ = self.read(operand.reg)
            return self.tmp(f"~{name}")
        if isinstance(operand, Special):
            from attnprobe.ptx.special import special_code

            have = special_code(operand.name, self.instr)
            return self.convert(self.tmp(f"m.special(g, {operand.name!r})"), have, code)
        if isinstance(operand, Sym):
            return self.symbol(operand, code)
        raise self.error(f"an operand of {self.instr.name} is not a value")

    def convert(self, name: str, have: str, want: str) -> str:
        """Return ``name`` with its low bits, or extended by its sign or zeros, as ``want``."""
        if have == want:
            return name
        if "p" in (have, want) or bits_of(have) == bits_of(want):
            if "p" in (have, want):
                raise self.error(f"{self.instr.name} mixes a predicate with a number")
            return self.view(name, have, want)
        if is_float(have):
            name, have = self.view(name, have, RAW_CODES[bits_of(have)]), RAW_CODES[bits_of(have)]
        raw = want if not is_float(want) else RAW_CODES[bits_of(want)]
        key = (name, raw, "int")
        if key not in self.cache:
            self.cache[key] = self.tmp(f"{name}.astype({raw})")
        return self.view(self.cache[key], raw, want)

    def literal(self, operand: Imm, code: str) -> str:
        """Return the constant of a literal as ``code``: a float literal becomes a float of that
        width.
        """
        value = operand.value
        if operand.float_bits and is_float(code) and operand.float_bits != bits_of(code):
            wide = (
                struct.unpack("<d", value.to_bytes(8, "little"))[0]
                if operand.float_bits == 64
                else (struct.unpack("<f", value.to_bytes(4, "little"))[0])
            )
            cast = np.array(wide, DTYPES[code])
            value = int.from_bytes(cast.tobytes(), "little")
        elif not operand.float_bits and is_float(code):
            value = int.from_bytes(np.array(value, DTYPES[code]).tobytes(), "little")
        return self.const(value, code)

    def symbol(self, operand: Sym, code: str) -> str:
        """Return the address of a variable, in its own space (global addresses are found at
        launch).
        """
        place = self.shared.symbols.get(operand.name)
        if place is None:
            raise self.error(f"no variable {operand.name!r}")
        space, offset = place
        if space == "global":
            return self.convert(
                self.tmp(f"m.symbol({operand.name!r}, {operand.offset})"), "u8", code
            )
        if space == "dynamic":
            return self.convert(self.tmp(f"m.dynamic_shared({operand.offset})"), "u4", code)
        return self.const(offset + operand.offset, code)

    def int_code(self, *operands: Operand, bits: int) -> str:
        """Return the integer code that costs the fewest views, for an operation that signs do
        not matter to.
        """
        for operand in operands:
            if isinstance(operand, Reg):
                _, have = self.read(operand)
                if not is_float(have) and bits_of(have) == bits:
                    return have
        return RAW_CODES[bits]

    # Results

    def dst(self, operand: Operand, expression: str, code: str) -> None:
        """Assign ``expression``, of dtype ``code``, to ``operand`` (under the instruction's
        guard).
        """
        if isinstance(operand, Sink):
            return
        if not isinstance(operand, Reg):
            raise self.error(f"{self.instr.name} writes to something that is no register")
        if operand.index in self.watched and self.instr.op not in ("wgmma", "mov"):
            self.line(f"m.products.touched({self.site()}, g, {operand.name!r})")
        if not expression.isidentifier():
            expression = self.tmp(expression)
        if code != "p" and bits_of(code) < operand.bits:
            wide = ("i" if code[0] == "i" else "u") + str(operand.bits // 8)
            raw = code if not is_float(code) else RAW_CODES[bits_of(code)]
            expression, code = self.tmp(f"{self.view(expression, code, raw)}.astype({wide})"), wide
        elif code != "p" and bits_of(code) > operand.bits:
            raise self.error(f"{self.instr.name} writes {bits_of(code)} bits to {operand.name}")
        if self.instr.guard is not None:
            old, have = self.read(operand)
            old = self.convert(old, have, code)
            clean = expression in self.flushed and old in self.flushed
            expression = self.tmp(f"{self.fn(pick)}({self.guard()}, {expression}, {old})")
            if clean:
                self.flushed.add(expression)
        self.values[operand.index] = (expression, code)
        self.written[operand.index] = None

    def guard(self) -> str:
        """Return the expression of the instruction's guard: a bool array."""
        if self.instr.guard is None:
            raise self.error("no guard")
        register, negated = self.instr.guard
        name, code = self.read(register)
        if code != "p":
            raise self.error(f"the guard {register.name} is no predicate")
        if not negated:
            return name
        key = (name, "not")
        if key not in self.cache:
            self.cache[key] = self.tmp(f"~{name}")
        return self.cache[key]

    def active(self) -> str:
        """Return the expression of the lanes that execute the instruction: None or a bool array
        (warps, 32).
        """
        if self.instr.guard is None:
            return "g.mask"
        return self.tmp(f"g.where({self.guard()})")

    def pair(self, operand: Operand) -> tuple[Operand, Operand]:
        """Return both parts of ``d|p``; the second is a sink where there is none."""
        if isinstance(operand, Pair):
            return operand.first, operand.second
        return operand, Sink()

    def vector(self, operand: Operand) -> tuple[Operand, ...]:
        """Return the parts of ``{a, b}``; a single operand is a vector of one."""
        return operand.items if isinstance(operand, Vec) else (operand,)

    def immediate(self, operand: Operand) -> int:
        """Return the value of an operand that must be an integer literal."""
        if not isinstance(operand, Imm) or operand.float_bits:
            raise self.error(f"{self.instr.name} takes a literal there")
        return operand.value

    def type(self, number: int = -1) -> str:
        """Return the ``number``-th type among the modifiers."""
        found = [mod for mod in self.instr.mods if mod in TYPE_CODES]
        if not found:
            raise self.error(f"{self.instr.name} names no type")
        return found[number]

    def error(self, what: str) -> PtxSyntaxError:
        """Return an error at the current instruction."""
        return PtxSyntaxError(f"PTX line {self.instr.line}: {what}")

    def finish(self, name: str, live: set[int], ending: str) -> str:
        """Return the function's text: stores of the live results, then ``ending``."""
        for index in self.written:
            if index in live:
                value, code = self.read(self.shared.kernel.registers[index])
                self.line(f"R[{index}] = {self.convert(value, code, self.shared.codes[index])}")
        if ending:
            self.line(ending)
        body = "\n".join(self.lines) or "    pass"
        return f"def {name}(m, g, R):\n{body}\n"
