"""MiniLM, a small BERT that turns a sentence into a vector: NumPy float32 but for its attention.

A sentence's vector is the normalised mean of its tokens' states.

Source: Devlin et al., BERT (arXiv 1810.04805); Wang et al., MiniLM (arXiv 2002.10957); the model
card for the pooling. Weights are named as in the published safetensors file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.models.attend import Attend
from attnprobe.models.safetensors import SafetensorsFile
from attnprobe.models.wordpiece import WordPiece

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Mix = Callable[[Floats, Floats, Floats], Floats]

LIMIT = 256  # tokens of a sentence, as the model's own settings say
_HEAD_DIM = 32


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder; ``epsilon`` is the layer norms'."""

    layers: int
    num_heads: int
    head_dim: int
    epsilon: float


class Bert:
    """The encoder of ``shape`` with ``weights``: name -> float32, a matrix (outputs, inputs)."""

    def __init__(self, shape: Shape, weights: Mapping[str, Floats]) -> None:
        self.shape, self._weights = shape, weights

    def padded(self, sentences: Sequence[Sequence[int]], padding: int, attend: Attend) -> Floats:
        """Return the embeddings, (len(sentences), hidden), of one batch with a padding mask.

        ``padding`` is the token that fills the shorter sentences up.
        """
        longest = max(map(len, sentences))
        tokens = np.full((len(sentences), longest), padding)
        for row, sentence in enumerate(sentences):
            tokens[row, : len(sentence)] = sentence
        lengths = np.array([len(sentence) for sentence in sentences])
        kept = np.arange(longest) < lengths[:, None]

        def mix(q: Floats, k: Floats, v: Floats) -> Floats:
            return attend.padded(q, k, v, kept)

        states = self._run(tokens, np.broadcast_to(np.arange(longest), tokens.shape), mix)
        return _pooled([state[mark] for state, mark in zip(states, kept, strict=True)])

    def packed(self, sentences: Sequence[Sequence[int]], attend: Attend) -> Floats:
        """Return the embeddings, (len(sentences), hidden), of sentences one behind the other."""
        tokens = np.concatenate([np.asarray(sentence) for sentence in sentences])
        positions = np.concatenate([np.arange(len(sentence)) for sentence in sentences])
        ends = np.cumsum([len(sentence) for sentence in sentences])
        cu_seqlens = np.concatenate([[0], ends]).astype(np.int32)

        def mix(q: Floats, k: Floats, v: Floats) -> Floats:
            return attend.packed(q, k, v, cu_seqlens)

        return _pooled(np.split(self._run(tokens, positions, mix), ends[:-1]))

    def _run(self, tokens: Array, positions: Array, mix: Mix) -> Floats:
        table = "embeddings.{}_embeddings.weight".format
        x = self._weights[table("word")][tokens] + self._weights[table("position")][positions]
        x = self._norm(x + self._weights[table("token_type")][0], "embeddings")
        for layer in range(self.shape.layers):
            block = f"encoder.layer.{layer}."
            mixed = self._linear(self._attention(block, x, mix), block + "attention.output.dense")
            x = self._norm(x + mixed, block + "attention.output")
            inner = _gelu(self._linear(x, block + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, block + "output.dense"), block + "output")
        return x

    def _attention(self, block: str, x: Floats, mix: Mix) -> Floats:
        heads = (*x.shape[:-1], self.shape.num_heads, self.shape.head_dim)
        q, k, v = (
            self._linear(x, f"{block}attention.self.{name}").reshape(heads)
            for name in ("query", "key", "value")
        )
        return mix(q, k, v).reshape(x.shape)

    def _linear(self, x: Floats, name: str) -> Floats:
        weight, bias = (self._weights[f"{name}.{part}"] for part in ("weight", "bias"))
        return np.asarray(x @ weight.T + bias)

    def _norm(self, x: Floats, name: str) -> Floats:
        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        scaled = centred / np.sqrt(variance + np.float32(self.shape.epsilon))
        return np.asarray(scaled * weight + bias)


def _gelu(x: Floats) -> Floats:
    """x * Phi(x), with the exact distribution function and not its tanh approximation."""
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2)).ravel().tolist()), np.float32, x.size)
    return np.asarray(x * np.float32(0.5) * (1 + erf.reshape(x.shape)))


def _pooled(states: Sequence[Floats]) -> Floats:
    """Return the normalised mean of each sentence's (tokens, hidden)."""
    means = np.stack([state.mean(axis=0) for state in states])
    return np.asarray(means / np.linalg.norm(means, axis=-1, keepdims=True))


class Encoder(NamedTuple):
    """An encoder with its tokenizer."""

    model: Bert
    wordpiece: WordPiece

    def tokens(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of each sentence."""
        return [self.wordpiece.encode(sentence, LIMIT) for sentence in sentences]


def load(path: Path) -> Encoder:
    """Read ``model.safetensors``, and ``vocab.txt`` beside it.

    Raises
    ------
    ModelFileError
        If the weights cannot be read.
    """
    file = SafetensorsFile(path)
    weights = {
        name: file.tensor(name).astype(np.float32)
        for name, row in file.tensors.items()
        if row.dtype.kind == "f"
    }
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layer." in name)
    heads = weights["embeddings.LayerNorm.weight"].size // _HEAD_DIM
    shape = Shape(layers, heads, _HEAD_DIM, epsilon=1e-12)
    return Encoder(Bert(shape, weights), WordPiece.from_file(path.with_name("vocab.txt")))
