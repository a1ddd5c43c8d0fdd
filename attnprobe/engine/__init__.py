"""The attention engine: Problem -> Plan -> launch, on CuPy arrays or on the emulator.

Each name is imported when it is first asked for: who calls ``attention`` waits for no other.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.engine.api import attention
    from attnprobe.engine.merge import merge_states
    from attnprobe.engine.paged import attention_paged
    from attnprobe.engine.plan import Plan, make_plan
    from attnprobe.engine.problem import Problem
    from attnprobe.engine.varlen import attention_varlen

__all__ = [
    "Plan",
    "Problem",
    "attention",
    "attention_paged",
    "attention_varlen",
    "make_plan",
    "merge_states",
]

_MODULES = {
    "Plan": "plan",
    "Problem": "problem",
    "attention": "api",
    "attention_paged": "paged",
    "attention_varlen": "varlen",
    "make_plan": "plan",
    "merge_states": "merge",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    found = globals()[name] = getattr(module, name)
    return found
