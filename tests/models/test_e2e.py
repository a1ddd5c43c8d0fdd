"""The two real models: tokens, vectors and likelihoods as published, and the gate on our engine.

``make e2e`` installs their packages (176 MB) and runs this; without them it is skipped.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from attnprobe.cli import main
from attnprobe.models import attend, generate, minilm, smollm2
from attnprobe.models.packages import MINILM, PACKAGES, SMOLLM2
from attnprobe.numerics import real

MISSING = "; ".join(filter(None, (package.missing() for package in PACKAGES.values())))
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"{MISSING}, or make e2e"),
]
TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def language():
    return smollm2.load(SMOLLM2.path())


@pytest.fixture(scope="module")
def encoder():
    return minilm.load(MINILM.path())


# What the models' own tokenizers give, as the library tokenizers 0.23.3 runs them.
# fmt: off
SAME_TOKENS = {
    "a  17 x²": (
        [81, 256, 33, 39, 1792, 19133],
        [101, 1037, 2459, 1060, 10701, 102],
    ),
    "It's 3.5 km — said the naïve captain.\n\n\tNo!": (
        [1589, 506, 216, 35, 30, 37, 6381, 1841, 1137, 260, 15486, 46494, 20222, 30, 1116, 197,
         5230, 17],
        [101, 2009, 1005, 1055, 1017, 1012, 1019, 2463, 1517, 2056, 1996, 15743, 2952, 1012, 2053,
         999, 102],
    ),
    "<|im_start|>user\nhi<|im_end|>": (
        [1, 4093, 198, 6004, 2],
        [101, 1026, 1064, 10047, 1035, 2707, 1064, 1028, 5310, 7632, 1026, 1064, 10047, 1035, 2203,
         1064, 1028, 102],
    ),
    "日本語 co-operate İstanbul hydroxychloroquine": (
        [23274, 115, 40993, 179, 120, 248, 857, 29, 371, 3194, 24488, 125, 28683, 22910, 105, 22228,
         15692, 462],
        [101, 1864, 1876, 1950, 2522, 1011, 5452, 9960, 18479, 18037, 2818, 10626, 2080, 12519,
         2063, 102],
    ),
}
# fmt: on


@pytest.mark.parametrize("text", SAME_TOKENS)
def test_tokens_are_those_of_the_models_own_tokenizers(language, encoder, text) -> None:
    bytes_, pieces = SAME_TOKENS[text]
    assert language.bpe.encode(text) == bytes_
    assert language.bpe.decode(bytes_) == text
    assert encoder.wordpiece.encode(text, minilm.LIMIT) == pieces


def test_vectors_are_those_that_the_encoder_is_published_with(encoder) -> None:
    """Similarities of three sentences in the quickstart of sentence-transformers' documentation."""
    sentences = encoder.tokens(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    vectors = encoder.model.packed(sentences, attend.exact())
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=6e-5)


def test_the_decoder_finds_a_real_text_likely(language) -> None:
    """3.28 nats a token over the text of the fixture; another pairing of RoPE's axes has 4.70."""
    with np.load(Path(real.__file__).parent / "data" / real.SMOLLM2.file) as data:
        tokens = data["tokens"].tolist()
    logits = language.model.logits(tokens, attend.exact())
    assert generate.mean_nll(logits[:-1], tokens[1:]) == pytest.approx(3.283, abs=2e-3)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())
def test_the_kept_layers_are_what_the_model_computes(package) -> None:
    path = TOOLS / f"capture_{package.model}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    folder = package.path().parents[len(Path(package.file).parts)]
    assert tool.main(["--package", str(folder), "--check"]) == 0


@pytest.mark.parametrize(
    ("backend", "size"),
    [("emulator", ["--quick"]), pytest.param("gpu", [], marks=pytest.mark.gpu)],
)
def test_our_engine_passes_the_gate(capsys, backend, size) -> None:
    code = main(["gate", "--json", "--backend", backend, *size])
    told = json.loads(capsys.readouterr().out)
    verdicts = {
        (model["model"], check["part"], check["figure"]): check["verdict"]
        for model in told["models"]
        for check in model["checks"]
    }
    assert set(verdicts.values()) == {"ok"}, told
    assert len(verdicts) == 9
    assert (code, told["ok"]) == (0, True)
    if not size:
        language, _ = told["models"]
        assert language["sizes"]["tokens"] >= 200
        assert len(language["answers"]) == 3


@pytest.mark.parametrize(
    ("target", "backend"),
    [
        ("tests.commands.test_gate_command:scale_off", "emulator"),
        ("mutant:p_repack_order", "emulator"),
        pytest.param("mutant:p_repack_order", "gpu", marks=pytest.mark.gpu),
    ],
)
def test_a_broken_attention_does_not_pass_the_gate(capsys, target, backend) -> None:
    options = ["--quick", "--model", "smollm2", "--target", target, "--backend", backend]
    assert main(["gate", "--json", *options]) == 1
    (model,) = json.loads(capsys.readouterr().out)["models"]
    failed = {(c["part"], c["figure"]) for c in model["checks"] if c["verdict"] == "FAILED"}
    assert ("prefill", "max_abs_delta_logit") in failed
