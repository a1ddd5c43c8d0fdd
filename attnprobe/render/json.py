"""JSON that a person can read too: what fits on a line stays on it."""

from __future__ import annotations

import json
from typing import Any

_WIDTH = 100


def dumps(value: Any) -> str:
    """Return ``value`` as JSON, ending in a newline; lists and objects that fit stay on one line.

    Raises
    ------
    TypeError
        For a value that JSON has no form for.
    ValueError
        For a NaN or an infinity, which are not JSON.
    """
    return _pretty(value, 0) + "\n"


def _pretty(value: Any, indent: int) -> str:
    flat = json.dumps(value, allow_nan=False)
    if not isinstance(value, dict | list | tuple) or len(flat) + indent <= _WIDTH:
        return flat
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        pairs = ((json.dumps(str(key)), _pretty(each, indent + 2)) for key, each in value.items())
        items = [f"{key}: {each}" for key, each in pairs]
        opening, closing = "{}"
    else:
        items = [_pretty(each, indent + 2) for each in value]
        opening, closing = "[]"
    body = f",\n{inner}".join(items)
    return f"{opening}\n{inner}{body}\n{' ' * indent}{closing}"
