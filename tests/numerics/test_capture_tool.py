"""The readers that the real layers were captured with: the model file's packing, and its tokens."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(autouse=True)
def _tools_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def write_gguf(path, tensors):
    """A version 3 file with one string, one array and ``tensors``: name -> (axes, type, bytes)."""
    data, table = b"", b""
    for name, (axes, kind, content) in tensors.items():
        table += text(name) + struct.pack("<I", len(axes))
        table += struct.pack(f"<{len(axes)}Q", *axes) + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 2)
    head += text("name") + struct.pack("<I", 8) + text("tiny")
    head += text("merges") + struct.pack("<IIQ", 9, 8, 2) + text("a b") + text("ab c")
    head += table
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def test_a_model_file_is_read_and_dequantised(tmp_path):
    from gguf_file import GgufFile

    plain = np.arange(6, dtype="<f4")
    codes = np.arange(32) % 16
    nibbles = (codes[:16] | codes[16:] << 4).astype(np.uint8).tobytes()
    q4 = np.array([0.5, -3.0], "<f2").tobytes() + nibbles
    signed = np.arange(-16, 16, dtype=np.int8)
    q8 = np.array([0.25], "<f2").tobytes() + signed.tobytes()
    write_gguf(
        tmp_path / "tiny.gguf",
        {
            "plain": ((3, 2), 0, plain.tobytes()),
            "half": ((6,), 1, plain.astype("<f2").tobytes()),
            "nibbles": ((32, 2), 3, q4 + q4),
            "bytes": ((32,), 8, q8),
        },
    )
    file = GgufFile(tmp_path / "tiny.gguf")
    assert file.metadata == {"name": "tiny", "merges": ["a b", "ab c"]}
    np.testing.assert_array_equal(file.tensor("plain"), plain.reshape(2, 3))
    np.testing.assert_array_equal(file.tensor("half"), plain)
    np.testing.assert_array_equal(file.tensor("nibbles"), np.tile(0.5 * codes - 3, (2, 1)))
    np.testing.assert_array_equal(file.tensor("bytes"), 0.25 * signed)


def test_something_else_than_a_model_file_is_refused(tmp_path):
    from gguf_file import GgufFile

    (tmp_path / "other").write_bytes(b"not a model file")
    with pytest.raises(ValueError, match="is not a GGUF file"):
        GgufFile(tmp_path / "other")


def test_bytes_are_merged_in_the_order_of_the_ranks():
    from byte_bpe import ByteBpe, byte_characters

    merges = ["l o", "Ġ lo", "o w", "lo w", "Ã ©"]
    tokens = [*byte_characters(), *(merge.replace(" ", "") for merge in merges)]
    bpe = ByteBpe(tokens, merges)
    spelled = [tokens[number] for number in bpe.encode("low low 12é")]
    assert spelled == ["low", "Ġlo", "w", "Ġ", "1", "2", "Ã©"]
    assert bpe.decode(bpe.encode("any  text — été\n")) == "any  text — été\n"


def test_rope_turns_neighbouring_pairs_and_keeps_position_zero():
    from capture_smollm2 import Llama

    model = object.__new__(Llama)
    model.head_dim, model.theta = 4, 100.0
    x = np.tile(np.array([1.0, 0.0, 1.0, 0.0], np.float32), (3, 1, 1))
    turned = model._rotated(x)
    angles = np.arange(3)[:, None] * np.array([1.0, 0.1])
    want = np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(3, 1, 4)
    np.testing.assert_allclose(turned, want, atol=1e-6)


def test_the_negative_log_likelihood_of_equal_logits_is_the_logarithm_of_their_number():
    from capture_smollm2 import mean_nll

    assert mean_nll(np.zeros((5, 8), np.float32), [0, 1, 2, 3, 4]) == pytest.approx(np.log(8))
