"""Fragment layouts: rows of digits, from which probes, emulator, docs and pictures are derived."""

from attnprobe.layouts.catalogue import added, distinct, exact, find, names, rows, search
from attnprobe.layouts.choice import Choice, Immediate
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.operand import Operand
from attnprobe.layouts.sparsity import Sparsity

__all__ = [
    "Choice",
    "Digit",
    "Fragment",
    "Immediate",
    "Instruction",
    "Operand",
    "Sparsity",
    "added",
    "distinct",
    "exact",
    "find",
    "names",
    "rows",
    "search",
]
