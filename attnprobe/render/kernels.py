"""What a kernel text is, in a few words: its macros as people would say them."""

from __future__ import annotations

from collections.abc import Mapping

from attnprobe.engine.features import FEATURES

_SWITCHES = {row.define for row in FEATURES}
_PREFIX = "ATTN_"


def shown_macros(macros: Mapping[str, str]) -> str:
    """Return macros in short, features that are off left out: ``head_dim 128, window``."""
    words = []
    for name, value in macros.items():
        short = name.removeprefix(_PREFIX).lower()
        if name not in _SWITCHES:
            words.append(f"{short} {value}")
        elif value != "0":
            words.append(short)
    return ", ".join(words)
