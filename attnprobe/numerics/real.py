"""Q, K, V of two real models: layers of SmolLM2-135M-Instruct and MiniLM-L6 on real text.

``data/NOTICE`` says where they come from; ``tools/capture_smollm2.py`` and
``tools/capture_minilm.py`` wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Layers = Mapping[int, tuple[Array, Array, Array]]


@dataclass(frozen=True)
class Captured:
    """Layers of one model: file below ``data/``, their numbers, and the tokens of the text."""

    file: str
    layers: tuple[int, ...]
    seqlen: int


SMOLLM2 = Captured("smollm2_qkv.npz", (0, 9, 15, 21, 29), 96)
# A prime number of tokens: where the text repeats, it meets every tile at another place.
MINILM = Captured("minilm_qkv.npz", (0, 5), 53)

LAYERS = SMOLLM2.layers


def layers() -> Layers:
    """Return layer number -> (q, k, v) of SmolLM2, read-only float16.

    q is (1, 96, 9, 64), k and v are (1, 96, 3, 64). Attention over them is causal with the default
    scale.
    """
    return load(SMOLLM2)


@cache
def load(captured: Captured) -> Layers:
    """Return layer number -> (q, k, v), read-only float16 arrays (batch, seqlen, heads, head_dim).

    Those of MINILM are all (1, 53, 12, 32), for attention without a mask.
    """
    path = resources.files("attnprobe.numerics") / "data" / captured.file
    with path.open("rb") as stream, np.load(stream) as data:
        found = {layer: _layer(data, layer) for layer in captured.layers}
    return MappingProxyType(found)


def _layer(data: Mapping[str, Array], layer: int) -> tuple[Array, Array, Array]:
    q, k, v = (data[f"layer{layer}_{name}"] for name in "qkv")
    for array in (q, k, v):
        array.flags.writeable = False
    return q, k, v
