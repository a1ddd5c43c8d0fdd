"""Fragment layouts: rows of digits, from which probes, emulator, docs and pictures are derived.

The catalogue of all rows is made when it is first asked for: attention needs none of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from attnprobe.layouts.choice import Choice, Immediate
from attnprobe.layouts.fragment import Digit, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.operand import Operand
from attnprobe.layouts.sparsity import Sparsity

if TYPE_CHECKING:
    from attnprobe.layouts.catalogue import added, distinct, exact, find, names, rows, search

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

_OF_THE_CATALOGUE = ("added", "distinct", "exact", "find", "names", "rows", "search")


def __getattr__(name: str) -> Any:
    if name not in _OF_THE_CATALOGUE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module("attnprobe.layouts.catalogue"), name)
    globals()[name] = found
    return found
