"""SmolLM2, or any small llama-family decoder: NumPy float32 but for its attention.

Embedding, RMSNorm, Q K V without bias, rotary embedding, attention, SwiGLU, and the embedding again
as the last projection.

Source: Touvron et al., LLaMA (arXiv 2302.13971), section 2; names of weights as in GGUF files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.models.attend import Attend, Cache, CacheSpec
from attnprobe.models.byte_bpe import ByteBpe
from attnprobe.models.gguf import GgufFile
from attnprobe.models.rotary import Rotary

Floats = npt.NDArray[np.float32]

# (layer, q, k, v) -> O: q is (batch, seqlen, num_heads, head_dim), not turned by its position yet.
Mix = Callable[[int, Floats, Floats, Floats], Floats]

_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_MARK_TYPE = 3  # of tokenizer.ggml.token_type: a control token


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; ``theta`` and ``limit`` are the rotary embedding's."""

    layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    epsilon: float
    theta: float
    limit: int


class Llama:
    """The decoder of ``shape`` with ``weights``: name -> float32 (outputs, inputs)."""

    def __init__(self, shape: Shape, weights: Mapping[str, Floats]) -> None:
        self.shape, self._weights = shape, weights
        self.rotary = Rotary(shape.head_dim, shape.theta, shape.limit)

    def logits(self, tokens: Sequence[int], attend: Attend) -> Floats:
        """Return the logits after each token, (len(tokens), vocabulary), all tokens at once."""

        def mix(layer: int, q: Floats, k: Floats, v: Floats) -> Floats:
            return attend.causal(self.rotary.turned(q), self.rotary.turned(k), v)

        return np.asarray(self._run([tokens], mix)[0])

    def step(self, tokens: Sequence[Sequence[int]], cache: Cache, rows: Sequence[int]) -> Floats:
        """Return the logits after each new token, (len(rows), count, vocabulary).

        Parameters
        ----------
        tokens : as many new tokens for each of the sequences ``rows`` of ``cache``, which grow.
        """

        def mix(layer: int, q: Floats, k: Floats, v: Floats) -> Floats:
            return cache.attend(layer, rows, q, k, v)

        logits = self._run(tokens, mix)
        cache.grow(rows, len(tokens[0]))
        return logits

    def cache_spec(self, batch: int, capacity: int) -> CacheSpec:
        """Return what a cache for ``batch`` sequences of up to ``capacity`` tokens holds."""
        shape = self.shape
        return CacheSpec(
            shape.layers, batch, capacity, shape.num_kv_heads, shape.head_dim, self.rotary
        )

    def _run(self, tokens: Sequence[Sequence[int]], mix: Mix) -> Floats:
        embedding = self._weight("token_embd")
        x = embedding[np.asarray(tokens)]
        for layer in range(self.shape.layers):
            x = x + self._attention(layer, self._norm(x, f"blk.{layer}.attn_norm"), mix)
            x = x + self._feed_forward(layer, self._norm(x, f"blk.{layer}.ffn_norm"))
        return self._norm(x, "output_norm") @ embedding.T

    def _attention(self, layer: int, x: Floats, mix: Mix) -> Floats:
        counts = {"q": self.shape.num_heads, "k": self.shape.num_kv_heads}
        counts["v"] = counts["k"]
        q, k, v = (
            (x @ self._weight(f"blk.{layer}.attn_{name}").T).reshape(
                *x.shape[:2], count, self.shape.head_dim
            )
            for name, count in counts.items()
        )
        mixed = mix(layer, q, k, v).reshape(*x.shape[:2], -1)
        return np.asarray(mixed @ self._weight(f"blk.{layer}.attn_output").T)

    def _feed_forward(self, layer: int, x: Floats) -> Floats:
        block = f"blk.{layer}.ffn_"
        gate, up = (x @ self._weight(block + name).T for name in ("gate", "up"))
        with np.errstate(over="ignore"):  # exp of a large number: the gate is shut, 0
            inner = gate / (1 + np.exp(-gate)) * up
        return np.asarray(inner @ self._weight(block + "down").T)

    def _norm(self, x: Floats, name: str) -> Floats:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        scaled = x / np.sqrt(mean_square + np.float32(self.shape.epsilon))
        return np.asarray(scaled * self._weight(name))

    def _weight(self, name: str) -> Floats:
        return self._weights[f"{name}.weight"]


class Language(NamedTuple):
    """A decoder with its tokenizer; ``end`` is the token that ends an answer."""

    model: Llama
    bpe: ByteBpe
    end: int

    def question(self, text: str) -> list[int]:
        """Return the tokens of a chat in which the user has asked ``text``."""
        turns = (("system", _SYSTEM), ("user", text))
        told = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
        return self.bpe.encode(told + "<|im_start|>assistant\n")


def load(path: Path) -> Language:
    """Read a GGUF file; all weights become float32, 540 MB for SmolLM2-135M.

    Raises
    ------
    ModelFileError
        If it cannot be read.
    """
    file = GgufFile(path)
    weights = {name: file.tensor(name) for name in file.tensors}
    data = file.metadata
    tokens, kinds = data["tokenizer.ggml.tokens"], data["tokenizer.ggml.token_type"]
    marks = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _MARK_TYPE]
    bpe = ByteBpe(tokens, data["tokenizer.ggml.merges"], marks)
    return Language(Llama(shape_of(data), weights), bpe, int(data["tokenizer.ggml.eos_token_id"]))


def shape_of(data: Mapping[str, Any]) -> Shape:
    """Return the sizes that a GGUF file's metadata give."""
    heads = int(data["llama.attention.head_count"])
    return Shape(
        layers=int(data["llama.block_count"]),
        num_heads=heads,
        num_kv_heads=int(data["llama.attention.head_count_kv"]),
        head_dim=int(data["llama.embedding_length"]) // heads,
        epsilon=float(data["llama.attention.layer_norm_rms_epsilon"]),
        theta=float(data["llama.rope.freq_base"]),
        limit=int(data["llama.context_length"]),
    )
