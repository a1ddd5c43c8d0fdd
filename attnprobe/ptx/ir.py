"""What the parser makes of a PTX text: modules, kernels, instructions and their operands."""

from __future__ import annotations

from dataclasses import dataclass, field

# Declared register types -> bits. Predicates are one bit and have their own storage.
REGISTER_BITS: dict[str, int] = {
    "pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64, "b128": 128,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reg:
    """A register: its number within the kernel, the name that the text uses, its width in bits."""

    index: int
    name: str
    bits: int


@dataclass(frozen=True, slots=True)
class Imm:
    """A literal. ``value`` is an int; for ``0f``/``0d`` literals it is the raw bits,
    ``float_bits`` wide.
    """

    value: int
    float_bits: int = 0


@dataclass(frozen=True, slots=True)
class Sym:
    """The address of a variable, plus a constant."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Special:
    """A special register such as ``%tid.x``."""

    name: str


@dataclass(frozen=True, slots=True)
class Label:
    """A place to branch to, by its number within the kernel."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """A negated predicate operand, ``!p``."""

    reg: Reg


@dataclass(frozen=True, slots=True)
class Sink:
    """The operand ``_``: a result that nobody wants."""


@dataclass(frozen=True, slots=True)
class Vec:
    """``{a, b, ...}``."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """``d|p``: two results of one instruction."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Addr:
    """``[base + offset]``; ``base`` is None for an absolute address.

    ``coordinates`` are those of a tensor: ``[base, {x, y}]``.
    """

    base: Reg | Sym | None
    offset: int
    coordinates: tuple[Operand, ...] = ()


Operand = Reg | Imm | Sym | Special | Label | Not | Sink | Vec | Pair | Addr


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the CUDA source, from ``.loc``; ``inlined_at`` is where the function was
    inlined.
    """

    file: int
    line: int
    inlined_at: tuple[int, int] | None = None


@dataclass(slots=True)
class Instr:
    """One instruction.

    Attributes
    ----------
    name : the opcode as written, with all its modifiers.
    op : its first word; mods : the other words.
    guard : predicate register and whether it is negated, or None.
    line : line of the PTX text, from 1.
    """

    name: str
    op: str
    mods: tuple[str, ...]
    operands: list[Operand]
    guard: tuple[Reg, bool] | None
    line: int
    location: Location | None


@dataclass(slots=True)
class Variable:
    """A variable in global, constant, shared, local or parameter space."""

    name: str
    space: str
    align: int
    size: int
    data: bytes = b""
    external: bool = False
    offset: int = 0
    references: tuple[
        tuple[int, str, int], ...
    ] = ()  # (offset, symbol, addend) of addresses in data


@dataclass(slots=True)
class Kernel:
    """One ``.entry``: its parameters, registers, variables and body (instructions and labels,
    in order).
    """

    name: str
    params: list[Variable] = field(default_factory=list)
    registers: list[Reg] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    body: list[Instr | Label] = field(default_factory=list)
    line: int = 0
    max_threads: int | None = None


@dataclass(slots=True)
class Module:
    """A whole PTX text."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    target: str = ""
    version: str = ""
    text_lines: list[str] = field(default_factory=list)
