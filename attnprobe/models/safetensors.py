"""Reads a safetensors file: its tensors as NumPy arrays, and what its header says of them.

Source: the safetensors format: eight bytes with the length of a JSON header, the header
(name -> dtype, shape, data_offsets), and the data, row-major and little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from attnprobe.errors import ModelFileError

DTYPES: Mapping[str, Any] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True)
class Tensor:
    """Where one tensor stands; ``begin`` and ``end`` are bytes of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """One safetensors file, mapped.

    Attributes
    ----------
    metadata : what ``__metadata__`` says, text -> text.
    tensors : name -> where it stands.

    Raises
    ------
    ModelFileError
        If the file is not of this kind, is cut off, or has a dtype that is not known here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        size = path.stat().st_size
        if size < 8:
            raise ModelFileError(f"{path} is not a safetensors file: it has {size} bytes")
        self._data = np.memmap(path, np.uint8, mode="r")
        length = int(self._data[:8].view("<u8")[0])
        if length > min(size - 8, _MAX_HEADER):
            raise ModelFileError(f"{path} is not a safetensors file, or is cut off in its header")
        try:
            header = json.loads(self._data[8 : 8 + length].tobytes())
        except ValueError as error:
            raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
        if not isinstance(header, dict):
            raise ModelFileError(f"{path} is not a safetensors file: its header is no object")
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.tensors = {name: self._tensor(name, row, 8 + length) for name, row in header.items()}

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """Return tensor ``name``, read-only, a view of the file."""
        if name not in self.tensors:
            raise ModelFileError(f"{self._path} has no tensor {name!r}")
        row = self.tensors[name]
        raw = np.frombuffer(self._data[row.begin : row.end], np.uint8)
        return raw.view(row.dtype).reshape(row.shape)

    def _tensor(self, name: str, row: dict[str, Any], base: int) -> Tensor:
        if row["dtype"] not in DTYPES:
            raise ModelFileError(
                f"tensor {name} is {row['dtype']}; this reader knows {', '.join(DTYPES)}"
            )
        dtype, shape = np.dtype(DTYPES[row["dtype"]]), tuple(row["shape"])
        begin, end = (base + offset for offset in row["data_offsets"])
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ModelFileError(f"tensor {name}: {end - begin} bytes are no {dtype} of {shape}")
        if not base <= begin <= end <= len(self._data):
            raise ModelFileError(f"{self._path} ends before tensor {name!r} does")
        return Tensor(dtype, shape, begin, end)
