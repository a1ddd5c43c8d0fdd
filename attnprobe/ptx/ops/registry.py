"""The table of opcodes: from an instruction's first words to the function that writes its code."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from functools import cache, lru_cache

from attnprobe import layouts
from attnprobe.errors import PtxSyntaxError
from attnprobe.layouts.wgmma import A_IN_REGISTERS
from attnprobe.ptx.emit import Emitter
from attnprobe.ptx.flow import Block
from attnprobe.ptx.ir import Instr, Vec

OpFunction = Callable[[Emitter, Instr], None]
EndFunction = Callable[[Emitter, Instr], str]

_OPS: dict[str, OpFunction] = {}
_ENDINGS: dict[str, EndFunction] = {}
_ACCEPTS: dict[str, Callable[[Instr], bool]] = {}
_CONVERGING: set[str] = set()

# Opcodes that are executed through a row of attnprobe.layouts.
FROM_ROWS = ("mma", "ldmatrix", "stmatrix", "movmatrix", "wgmma")

FAMILIES = (
    "arith",
    "packed",
    "logic",
    "compare",
    "convert",
    "narrow",
    "approx",
    "data",
    "asynccopy",
    "mbarrier",
    "bulk",
    "matrix",
    "wgmma",
    "warp",
    "atomic",
    "control",
)


def op(
    *names: str, converges: bool = False, accepts: Callable[[Instr], bool] | None = None
) -> Callable[[OpFunction], OpFunction]:
    """Register a function for the opcodes ``names``: one word, or several joined by dots where
    the first is shared.

    ``converges``: the lanes of a warp must execute it together. ``accepts`` says whether a
    variant of
    the opcode is implemented: what it refuses is refused when the program is loaded.
    """

    def register(function: OpFunction) -> OpFunction:
        for name in names:
            if name in _OPS:
                raise ValueError(f"opcode {name} is registered twice")
            _OPS[name] = function
            if converges:
                _CONVERGING.add(name)
            if accepts is not None:
                _ACCEPTS[name] = accepts
        return function

    return register


def ending(*names: str) -> Callable[[EndFunction], EndFunction]:
    """Register a function for opcodes that end a basic block; it returns the function's last
    line.
    """

    def register(function: EndFunction) -> EndFunction:
        for name in names:
            _ENDINGS[name] = function
        return function

    return register


@cache
def _imported() -> bool:
    for family in FAMILIES:
        importlib.import_module(f"attnprobe.ptx.ops.{family}")
    return True


@lru_cache(maxsize=4096)
def _key(name: str) -> str | None:
    """Return the longest registered name that the words of ``name`` begin with."""
    _imported()
    words = name.split(".")
    for length in range(len(words), 0, -1):
        name = ".".join(words[:length])
        if name in _OPS or name in _ENDINGS:
            return name
    return None


def row_name(instr: Instr) -> str:
    """Return the name of the layout row of an instruction of FROM_ROWS."""
    in_registers = len(instr.operands) > 1 and isinstance(instr.operands[1], Vec)
    return instr.name + A_IN_REGISTERS if instr.op == "wgmma" and in_registers else instr.name


def known(instr: Instr) -> bool:
    """Whether the emulator implements ``instr``."""
    key = _key(instr.name)
    if key is None:
        return False
    accepts = _ACCEPTS.get(key)
    return accepts is None or accepts(instr)


def refusal(instr: Instr) -> str:
    """Return the message for an instruction that the emulator does not implement."""
    where = f"PTX line {instr.line}: the emulator does not implement {instr.name}"
    if instr.op == "call":
        return (
            f"{where}: functions that are not inlined (printf among them) cannot run; "
            "inline them or remove the call"
        )
    if instr.op in FROM_ROWS and "fence" not in instr.mods:
        found = layouts.exact(row_name(instr))
        if found is not None:
            return f"{where}: there is a layout row, but this form is not emulated"
        rows = [row.ptx for row in layouts.rows(instr.op)]
        close = difflib.get_close_matches(instr.name, rows, n=3, cutoff=0.0)
        return f"{where}: no layout row has this name; the nearest: {', '.join(close)}"
    close = difflib.get_close_matches(instr.op, [*_OPS, *_ENDINGS], n=3, cutoff=0.5)
    return where + (f"; opcodes like it: {', '.join(close)}" if close else "")


def emit(emitter: Emitter, instr: Instr) -> None:
    """Write the code of ``instr``."""
    key = _key(instr.name)
    assert key is not None  # refused before
    try:
        _OPS[key](emitter, instr)
    except (IndexError, ValueError, KeyError) as error:
        raise PtxSyntaxError(
            f"PTX line {instr.line}: cannot make sense of {instr.name}: {error!r}"
        ) from error


def emit_ending(emitter: Emitter, block: Block) -> str:
    """Write the code of a block's last instruction and return the function's last line."""
    assert block.ending is not None
    key = _key(block.ending.name)
    assert key is not None
    return _ENDINGS[key](emitter, block.ending)


def converges(instr: Instr) -> bool:
    """Whether the lanes of a warp must execute ``instr`` together."""
    key = _key(instr.name)
    return key in _CONVERGING
