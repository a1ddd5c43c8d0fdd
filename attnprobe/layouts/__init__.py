"""Fragment layouts: rows of digits, from which probes, emulator, docs and pictures are derived."""

from attnprobe.layouts.catalogue import added, exact, find, rows, search
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction, Operand

__all__ = [
    "Digit",
    "Fragment",
    "Instruction",
    "Operand",
    "added",
    "exact",
    "find",
    "rows",
    "search",
]
