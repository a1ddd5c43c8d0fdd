"""``attnprobe demo``: one screen, both halves, and an exit code that means something."""

from __future__ import annotations

import pytest

from attnprobe.cli import main
from attnprobe.numerics import real


@pytest.mark.e2e
def test_both_halves_on_the_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--backend", "emulator"]) == 0
    out = capsys.readouterr().out
    assert "backend: emulator" in out
    assert "48 of 48 match" in out
    assert all(f"\n  {layer:5d} " in out for layer in real.LAYERS)
    assert "OVER THE BOUND" not in out


def test_no_gpu_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnprobe.backends import gpu

    monkeypatch.setattr(gpu, "usable", lambda: "CuPy sees no CUDA device")
    assert main(["demo", "--backend", "gpu"]) == 3
    assert "no usable GPU" in capsys.readouterr().err
