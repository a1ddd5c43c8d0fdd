"""Two tiny models with random weights, as files in the shape of the real packages."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from attnprobe.models import texts, wordpiece
from attnprobe.models.byte_bpe import byte_characters
from attnprobe.models.packages import MINILM, SMOLLM2

# Sharp heads and attention that weighs: what a wrong softmax scale shows in.
SHARP = 2.0

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, LAYERS = 96, 3, 1, 32, 64, 2
THETA, EPSILON = 1e4, 1e-5
MERGES = ("t h", "th e", "Ġ the")
MARKS = ("<|im_start|>", "<|im_end|>")

BERT_HIDDEN, BERT_INNER, BERT_LAYERS, POSITIONS = 64, 96, 2, 256


def vocabulary() -> list[str]:
    """The tokens of the tiny decoder: marks, bytes, and what the merges join."""
    return [*MARKS, *byte_characters(), *(merge.replace(" ", "") for merge in MERGES)]


def llama_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Return name -> float32 weights of the tiny decoder."""
    rng = np.random.default_rng(seed)

    def matrix(outputs, inputs, gain=1.0):
        return (gain * rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)

    weights = {
        "token_embd.weight": (0.3 * rng.standard_normal((len(vocabulary()), HIDDEN))).astype(
            np.float32
        ),
        "output_norm.weight": np.full(HIDDEN, 0.5, np.float32),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights |= {
            block + "attn_norm.weight": rng.uniform(0.8, 1.2, HIDDEN).astype(np.float32),
            block + "ffn_norm.weight": rng.uniform(0.8, 1.2, HIDDEN).astype(np.float32),
            block + "attn_q.weight": matrix(HEADS * HEAD_DIM, HIDDEN, SHARP),
            block + "attn_k.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN, SHARP),
            block + "attn_v.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            block + "attn_output.weight": matrix(HIDDEN, HEADS * HEAD_DIM),
            block + "ffn_gate.weight": matrix(INNER, HIDDEN),
            block + "ffn_up.weight": matrix(INNER, HIDDEN),
            block + "ffn_down.weight": matrix(HIDDEN, INNER),
        }
    return weights


def bert_tokens() -> list[str]:
    """The tokens of the tiny encoder: every word of the sentences, and pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    known = sorted({word for sentence in texts.SENTENCES for word in wordpiece.words(sentence)})
    return [*special, *known, "##ing", "##s"]


def bert_weights(seed: int = 1) -> dict[str, np.ndarray]:
    """Return name -> float32 weights of the tiny encoder."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def table(name, rows):
        weights[name] = rng.standard_normal((rows, BERT_HIDDEN)).astype(np.float32)

    def linear(name, outputs, inputs, gain=1.0):
        scaled = gain * rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        weights[f"{name}.weight"] = scaled.astype(np.float32)
        weights[f"{name}.bias"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)

    def norm(name):
        weights[f"{name}.LayerNorm.weight"] = rng.uniform(0.8, 1.2, BERT_HIDDEN).astype(np.float32)
        weights[f"{name}.LayerNorm.bias"] = (0.1 * rng.standard_normal(BERT_HIDDEN)).astype(
            np.float32
        )

    table("embeddings.word_embeddings.weight", len(bert_tokens()))
    table("embeddings.position_embeddings.weight", POSITIONS)
    table("embeddings.token_type_embeddings.weight", 2)
    norm("embeddings")
    for layer in range(BERT_LAYERS):
        block = f"encoder.layer.{layer}."
        for name in ("query", "key", "value"):
            gain = 1.0 if name == "value" else SHARP
            linear(f"{block}attention.self.{name}", BERT_HIDDEN, BERT_HIDDEN, gain)
        linear(f"{block}attention.output.dense", BERT_HIDDEN, BERT_HIDDEN)
        norm(f"{block}attention.output")
        linear(f"{block}intermediate.dense", BERT_INNER, BERT_HIDDEN)
        linear(f"{block}output.dense", BERT_HIDDEN, BERT_INNER)
        norm(f"{block}output")
    return weights


# --- files ----------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_value(value) -> bytes:
    """A GGUF value with its type in front: text, number, or list of one of them."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    items = [gguf_value(item) for item in value]
    return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(
        item[4:] for item in items
    )  # fmt: skip


def gguf_bytes(metadata: dict, tensors: dict[str, tuple[tuple[int, ...], int, bytes]]) -> bytes:
    """A version 3 file; ``tensors`` are name -> (axes, fastest first; type; data)."""
    data, table = b"", b""
    for name, (axes, kind, content) in tensors.items():
        table += text(name) + struct.pack("<I", len(axes))
        table += struct.pack(f"<{len(axes)}Q", *axes) + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + gguf_value(value) for key, value in metadata.items()) + table
    return head + bytes(-len(head) % 32) + data


def safetensors_bytes(tensors: dict[str, np.ndarray], kinds: dict[str, str]) -> bytes:
    """A file of arrays; ``kinds`` are NumPy dtype name -> the format's."""
    header, data = {"__metadata__": {"format": "np"}}, b""
    for name, array in tensors.items():
        ends = [len(data), len(data) + array.nbytes]
        kind = kinds[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": ends}
        data += array.tobytes()
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + data


def write_smollm2(folder: Path) -> Path:
    """Write the tiny decoder below ``folder`` where the real package has its file."""
    tokens = vocabulary()
    metadata = {
        "llama.block_count": LAYERS,
        "llama.context_length": 512,
        "llama.embedding_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.freq_base": THETA,
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in MARKS else 1 for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.eos_token_id": tokens.index(MARKS[1]),
    }
    tensors = {
        name: (array.shape[::-1], 0, array.astype("<f4").tobytes())
        for name, array in llama_weights().items()
    }
    path = folder / SMOLLM2.module / SMOLLM2.file
    path.parent.mkdir(parents=True)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def write_minilm(folder: Path) -> Path:
    """Write the tiny encoder below ``folder`` where the real package has its files."""
    path = folder / MINILM.module / MINILM.file
    path.parent.mkdir(parents=True)
    tensors = {"embeddings.position_ids": np.arange(POSITIONS)[None], **bert_weights()}
    path.write_bytes(safetensors_bytes(tensors, {"int64": "I64", "float32": "F32"}))
    path.with_name("vocab.txt").write_text("\n".join(bert_tokens()) + "\n", encoding="utf-8")
    return path
