"""attnprobe: tensor-core fragment layouts proved on hardware, and attention built on them.

    import attnprobe
    O, LSE = attnprobe.attention(q, k, v, causal=True, return_lse=True)
    row = attnprobe.layouts.find("m16n8k16.row.col.f32.f16")

Importing it imports neither CuPy nor rich, and NumPy only when something is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe import layouts
    from attnprobe.engine import attention, attention_paged, attention_varlen, merge_states

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "attention",
    "attention_paged",
    "attention_varlen",
    "layouts",
    "merge_states",
]

_ENGINE = ("attention", "attention_paged", "attention_varlen", "merge_states")


def __getattr__(name: str) -> Any:
    if name in _ENGINE:
        return getattr(importlib.import_module("attnprobe.engine"), name)
    if name == "layouts":
        return importlib.import_module("attnprobe.layouts")
    raise AttributeError(f"module 'attnprobe' has no attribute {name!r}")
