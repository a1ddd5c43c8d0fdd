"""Which backend runs, and that it says so."""

import subprocess
import sys

import pytest

from attnprobe import backends
from attnprobe.backends import gpu
from attnprobe.errors import DeviceError, UsageError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "usable", lambda: "none was built in")


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_is_the_emulator_and_says_why() -> None:
    backend, said = backends.select("auto")
    assert backend.name == "emulator"
    assert said == "backend: emulator (no GPU: none was built in)"


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_asked_for_and_missing_is_an_error_with_exit_code_3() -> None:
    with pytest.raises(DeviceError, match="none was built in") as caught:
        backends.select("gpu")
    assert caught.value.exit_code == 3


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="auto, gpu, emulator, recorded"):
        backends.select("abacus")


@pytest.mark.parametrize("name", ["emulator", "recorded"])
def test_a_backend_without_a_gpu_does_not_import_cupy(name: str) -> None:
    program = (
        "import sys; from attnprobe import cli\n"
        f"code = cli.main(['probe', 'x1.shared', '--backend', '{name}'])\n"
        "sys.exit(9 if 'cupy' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ldmatrix_layout" in done.stdout


def test_the_line_on_recorded_dumps_says_device_driver_compiler_and_date() -> None:
    _, said = backends.select("recorded")
    for part in ("dumps of ", "driver ", "nvrtc ", "20"):
        assert part in said
