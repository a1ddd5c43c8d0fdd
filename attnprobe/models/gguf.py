"""Reads a GGUF model file: its metadata, and its tensors as float32 NumPy arrays.

Only what a llama-family file with F32, F16, Q4_1 and Q8_0 tensors needs. GGUF versions 2 and 3.

Source: the GGUF specification (ggml, docs/gguf.md): header, key-value pairs, tensors, aligned data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import ModelFileError

Floats = npt.NDArray[np.float32]

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"} | {
    10: "Q",
    11: "q",
    12: "d",
}


@dataclass(frozen=True)
class TensorType:
    """How one ggml tensor type packs its elements: ``block`` elements in ``size`` bytes."""

    name: str
    block: int
    size: int


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    3: TensorType("Q4_1", 32, 20),  # f16 d, f16 m, 16 bytes of nibbles: value = d * nibble + m
    8: TensorType("Q8_0", 32, 34),  # f16 d, 32 signed bytes: value = d * byte
}


@dataclass(frozen=True)
class Tensor:
    """Where one tensor stands: shape in NumPy order (slowest axis first), type, file offset."""

    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return int(np.prod(self.shape)) // self.type.block * self.type.size


class GgufFile:
    """One GGUF file, mapped. ``metadata`` is a dict; ``tensor(name)`` dequantises on each call.

    Raises
    ------
    ModelFileError
        If the file is not of this kind, is cut off, or has a tensor type that is not known here.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        self.metadata: dict[str, Any] = {}
        with path.open("rb") as stream:  # buffered: a vocabulary is a hundred thousand small reads
            self._stream = stream
            if stream.read(len(MAGIC)) != MAGIC:
                raise ModelFileError(f"{path} is not a GGUF file")
            version = self._scalar("I")
            if version not in (2, 3):
                raise ModelFileError(f"{path}: GGUF version {version}; this reader knows 2 and 3")
            tensor_count, pair_count = self._scalar("Q"), self._scalar("Q")
            for _ in range(pair_count):
                key = self._string()
                self.metadata[key] = self._value(self._scalar("I"))
            self.tensors = dict(self._tensor_info() for _ in range(tensor_count))
            end = stream.tell()
        alignment = int(self.metadata.get("general.alignment", 32))
        self._base = -(-end // alignment) * alignment
        self._data = np.memmap(path, np.uint8, mode="r")

    def tensor(self, name: str) -> Floats:
        """Return tensor ``name`` as float32, slowest axis first: a weight is (outputs, inputs)."""
        if name not in self.tensors:
            raise ModelFileError(f"{self._path} has no tensor {name!r}")
        info = self.tensors[name]
        begin = self._base + info.offset
        raw = self._data[begin : begin + info.size]
        if len(raw) < info.size:
            raise ModelFileError(f"{self._path} ends inside tensor {name!r}")
        return _dequantise(np.asarray(raw), info.type).reshape(info.shape)

    def _bytes(self, count: int) -> bytes:
        read = self._stream.read(min(count, self._size))  # a damaged count can be any number
        if len(read) < count:
            raise ModelFileError(f"{self._path} ends inside its header")
        return read

    def _scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self._bytes(struct.calcsize("<" + code)))[0]

    def _string(self) -> str:
        return self._bytes(self._scalar("Q")).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            item, count = self._scalar("I"), self._scalar("Q")
            return [self._value(item) for _ in range(count)]
        if kind not in SCALARS:
            raise ModelFileError(f"{self._path}: value type {kind} is not one of GGUF version 3")
        return self._scalar(SCALARS[kind])

    def _tensor_info(self) -> tuple[str, Tensor]:
        name = self._string()
        axes = [self._scalar("Q") for _ in range(self._scalar("I"))]
        kind, offset = self._scalar("I"), self._scalar("Q")
        if kind not in TENSOR_TYPES:
            known = ", ".join(row.name for row in TENSOR_TYPES.values())
            raise ModelFileError(f"tensor {name} has ggml type {kind}; this reader knows {known}")
        return name, Tensor(tuple(reversed(axes)), TENSOR_TYPES[kind], offset)


def _dequantise(raw: npt.NDArray[np.uint8], kind: TensorType) -> Floats:
    if kind.name == "F32":
        return raw.view("<f4").astype(np.float32)
    if kind.name == "F16":
        return raw.view("<f2").astype(np.float32)
    blocks = raw.reshape(-1, kind.size)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    if kind.name == "Q8_0":
        return scale * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)
    least = np.ascontiguousarray(blocks[:, 2:4]).view("<f2").astype(np.float32)
    nibbles = blocks[:, 4:]
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
    return scale * codes + least
