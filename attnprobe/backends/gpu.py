"""Backend "gpu": launches through ``cupy.RawModule`` on the current stream and device."""

from __future__ import annotations

import datetime
import platform
import shutil
import subprocess
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attnprobe import compile as compiler
from attnprobe import tensor_maps
from attnprobe.backends import ahead
from attnprobe.backends.base import Dump, Environment, Launch
from attnprobe.compile import Source
from attnprobe.errors import CompileError, DeviceError

_STATIC_SHARED_LIMIT = 48 * 1024  # above it a kernel must ask for its dynamic shared memory first


def usable() -> str:
    """Return "" where CuPy sees a GPU, else the reason why not."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is not installed ({error}); pip install 'attnprobe[cuda12]'"
    if not cupy.is_available():
        return "CuPy sees no CUDA device"
    return ""


class GpuBackend:
    """Runs launches on the current CUDA device.

    Raises
    ------
    DeviceError
        If there is no usable GPU; says why.
    """

    name = "gpu"

    def __init__(self) -> None:
        reason = usable()
        if reason:
            raise DeviceError(f"no usable GPU: {reason}; --backend emulator runs without one")
        import cupy

        self._cupy: Any = cupy
        self._modules: dict[str, Any] = {}
        self._cubins: dict[str, bytes] = {}
        self._loaded: tuple[str, Any] = ("", None)
        self.cc = int(cupy.cuda.Device().compute_capability)

    @cached_property
    def _environment(self) -> Environment:
        cupy = self._cupy
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        name = properties["name"]
        major, minor = cupy.cuda.nvrtc.getVersion()
        driver_api = cupy.cuda.runtime.driverGetVersion()
        return {
            "device": name.decode() if isinstance(name, bytes) else str(name),
            "arch": f"sm_{self.cc}",
            "driver": driver_version(),
            "driver_cuda": f"{driver_api // 1000}.{driver_api % 1000 // 10}",
            "nvrtc": f"{major}.{minor}",
            "cupy": str(cupy.__version__),
            "python": platform.python_version(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }

    def environment(self) -> Environment:
        """Return device, driver, NVRTC and CuPy versions, and the date."""
        return dict(self._environment)

    def run(self, launch: Launch) -> Dump:
        """Return what ``launch`` writes on this device.

        Raises
        ------
        CompileError
            With NVRTC's log.
        """
        cupy = self._cupy
        inputs = [cupy.asarray(array) for array in launch.inputs]
        outputs = [cupy.asarray(array) for array in launch.unwritten()]
        kernel = self._kernel(launch)  # after the arrays: they make the context that it needs
        if launch.shared_bytes > _STATIC_SHARED_LIMIT:
            kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
        arrays = (*inputs, *outputs)
        places = [array.data.ptr for array in arrays] if launch.maps else []
        maps = [_by_value(tensor_maps.encoded(told)) for told in launch.placed_maps(places)]
        args = (*maps, *arrays)
        kernel(launch.grid, launch.block, args, shared_mem=launch.shared_bytes)
        held = tuple(cupy.asnumpy(array) for array in outputs)  # waits for the launch
        return Dump(held, self.name, self.environment())

    def compile_ahead(self, wanted: Iterable[tuple[Source, str]]) -> int:
        """Compile texts for their targets ("" is this device's own), in a process for each core.

        Returns how many were compiled. A text that NVRTC refuses is left for ``run`` to report.
        """
        new = {
            source.text: (source, target or f"sm_{self.cc}")
            for source, target in wanted
            if source.text not in self._cubins
        }
        made = ahead.cubins(list(new.values()))
        self._cubins |= {text: data for text, data in zip(new, made, strict=True) if data}
        return len(new)

    def _kernel(self, launch: Launch) -> Any:
        text = launch.source.text
        if launch.target or text in self._cubins:
            return self._module_of_cubin(launch).get_function(launch.entry)
        if text not in self._modules:
            self._modules[text] = self._cupy.RawModule(code=text, options=compiler.OPTIONS)
        try:
            return self._modules[text].get_function(launch.entry)
        except self._cupy.cuda.compiler.CompileException as error:
            raise CompileError(f"{launch.source.name}: NVRTC refused it", str(error)) from error

    def _module_of_cubin(self, launch: Launch) -> Any:
        """Return the module of a text that was compiled ahead, or for a target of its own.

        Only the latest is kept: thousands of such modules would fill the device's memory.
        """
        text = launch.source.text
        if text not in self._cubins:
            target = launch.target or f"sm_{self.cc}"
            self._cubins[text] = compiler.cubin(launch.source, target)[0]
        if self._loaded[0] != text:
            module = self._cupy.cuda.function.Module()
            module.load(self._cubins[text])
            self._loaded = (text, module)
        return self._loaded[1]


def _by_value(data: bytes) -> Any:
    """Return bytes as what CuPy passes to a kernel by value."""
    return np.frombuffer(data, np.dtype([("words", np.uint64, (len(data) // 8,))]))[0]


def free_bytes() -> int:
    """Return the free memory of the GPU that has least, without a context of our own; 0: unknown.

    A context would take hundreds of MB of what is asked for.
    """
    return min((int(line) << 20 for line in _told_by_driver("memory.free")), default=0)


def driver_version() -> str:
    """Return the version of the NVIDIA driver, "580.95.05", or "unknown"."""
    module = Path("/proc/driver/nvidia/version")
    if module.is_file():
        words = module.read_text(encoding="utf-8", errors="replace").split()
        versions = [word for word in words if word[0].isdigit() and word.count(".") in (1, 2)]
        if versions:
            return versions[0]
    return next(iter(_told_by_driver("driver_version")), "unknown")


def _told_by_driver(name: str) -> list[str]:
    """Return what nvidia-smi says of a property, a word for each GPU; nothing where it cannot."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={name}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []
