"""Q, K, V of a real model: five layers of SmolLM2-135M-Instruct on 96 tokens of real text.

``data/NOTICE`` says where they come from; ``tools/capture_smollm2.py`` wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FILE = "smollm2_qkv.npz"
LAYERS = (0, 9, 15, 21, 29)


@cache
def layers() -> Mapping[int, tuple[Array, Array, Array]]:
    """Return layer number -> (q, k, v), read-only float16 arrays (batch, seqlen, heads, head_dim).

    q is (1, 96, 9, 64), k and v are (1, 96, 3, 64). Attention over them is causal with the default
    scale.
    """
    path = resources.files("attnprobe.numerics") / "data" / FILE
    with path.open("rb") as stream, np.load(stream) as data:
        found = {layer: _layer(data, layer) for layer in LAYERS}
    return MappingProxyType(found)


def _layer(data: Mapping[str, Array], layer: int) -> tuple[Array, Array, Array]:
    q, k, v = (data[f"layer{layer}_{name}"] for name in "qkv")
    for array in (q, k, v):
        array.flags.writeable = False
    return q, k, v
