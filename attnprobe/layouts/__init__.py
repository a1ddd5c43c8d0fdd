"""Fragment layouts: rows of digits, from which probes, emulator, docs and pictures are derived.

Each name is imported when it is first asked for: attention needs a tensor map, and no row.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "Choice": "choice",
    "Digit": "fragment",
    "Fragment": "fragment",
    "Immediate": "choice",
    "Instruction": "instruction",
    "Operand": "operand",
    "Sparsity": "sparsity",
}  # all others are in catalogue


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'catalogue')}")
    found = globals()[name] = getattr(module, name)
    return found
