"""Backend "emulator": the same kernel text as PTX, run by ``attnprobe.ptx`` in checked mode."""

from __future__ import annotations

import platform
from functools import cached_property

import numpy as np

from attnprobe import __version__, arch, nvrtc
from attnprobe import compile as compiler
from attnprobe.backends.base import Dump, Environment, Launch


class EmulatorBackend:
    """Runs launches on the CPU as sm_90 would.

    Its products read the layout rows that probes ask about, so it shows that kernel, generator and
    comparison agree; it cannot refute a row.
    """

    name = "emulator"
    cc = arch.EMULATED_ARCH

    def __init__(self, checked: bool = True, mma: str | None = None) -> None:
        """``checked`` and ``mma`` as in ``ptx.launch``."""
        self._checked, self._mma = checked, mma

    @cached_property
    def _environment(self) -> Environment:
        return {
            "device": f"attnprobe {__version__} emulator, checked mode",
            "arch": f"sm_{self.cc}",
            "nvrtc": nvrtc.identity().shown,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def environment(self) -> Environment:
        """Return versions of the emulator, of NVRTC, NumPy and Python."""
        return dict(self._environment)

    def run(self, launch: Launch) -> Dump:
        """Return what ``launch`` writes.

        Raises
        ------
        CompileError
            With NVRTC's log.
        EmulatorError
            Where the program does something wrong.
        """
        from attnprobe import ptx

        program = ptx.load(compiler.ptx(launch.source, self.cc))
        memory = ptx.GlobalMemory()
        outputs = launch.unwritten()
        inputs = [np.ascontiguousarray(array) for array in launch.inputs]
        args = [
            memory.map(array, name=f"input {number}", writable=False)
            for number, array in enumerate(inputs)
        ]
        args += [memory.map(array, name=f"output {number}") for number, array in enumerate(outputs)]
        maps = launch.placed_maps([argument.address for argument in args])
        ptx.launch(
            program,
            launch.entry,
            launch.grid,
            launch.block,
            [*maps, *args],
            launch.shared_bytes,
            checked=self._checked,
            mma=self._mma,
            memory=memory,
        )
        return Dump(tuple(outputs), self.name, self.environment())
