"""Which backend runs: by name, or the best one present."""

from __future__ import annotations

from attnprobe.backends.base import Backend
from attnprobe.errors import UsageError

NAMES: tuple[str, ...] = ("auto", "gpu", "emulator", "recorded")


def select(name: str) -> tuple[Backend, str]:
    """Return the backend ``name`` and one line that says what it is.

    "auto" takes the GPU when there is one, else the emulator, and the line says why.

    Raises
    ------
    DeviceError
        If "gpu" is asked for and there is no usable one.
    UsageError
        For any other name.
    """
    from attnprobe.backends import gpu  # imports cupy only when asked for a device

    if name == "auto":
        reason = gpu.usable()
        if reason:
            return _emulator(), f"backend: emulator (no GPU: {reason})"
        name = "gpu"
    if name == "gpu":
        backend = gpu.GpuBackend()
        return backend, f"backend: gpu ({described(backend)})"
    if name == "emulator":
        return _emulator(), "backend: emulator"
    if name == "recorded":
        from attnprobe.backends.recorded import RecordedBackend

        recorded = RecordedBackend()
        return recorded, f"backend: recorded (dumps of {described(recorded)})"
    raise UsageError(f"no backend {name!r}; there are {', '.join(NAMES)}")


def described(backend: Backend) -> str:
    """Return device, driver, NVRTC and date of what a backend answers from, in a few words."""
    environment = backend.environment()
    parts = [environment["device"]]
    for key in ("driver", "nvrtc", "date"):
        if key in environment:
            parts.append(environment[key] if key == "date" else f"{key} {environment[key]}")
    return ", ".join(parts)


def _emulator() -> Backend:
    from attnprobe.backends.emulator import EmulatorBackend

    return EmulatorBackend()
