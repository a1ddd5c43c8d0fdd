"""What all chunks of one launch share: shape, parameters, memory, and how errors name a place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnprobe import _paths
from attnprobe.ptx.between import Between
from attnprobe.ptx.ir import Instr, Module
from attnprobe.ptx.memory import GlobalMemory
from attnprobe.ptx.program import Code
from attnprobe.ptx.values import Array

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

Triple = tuple[int, int, int]


@dataclass
class LaunchState:
    """One launch.

    Attributes
    ----------
    params : the parameter bytes, uint8.
    symbols : device addresses of the module's global and constant variables.
    dependent : whether it begins while the launch before it may be under way (dependence.py).
    between : what warps of different blocks know of each other, where that is looked at.
    dynamic_offset : shared address at which dynamic shared memory starts.
    """

    module: Module
    code: Code
    grid: Triple
    block: Triple
    params: Array
    memory: GlobalMemory
    dynamic_offset: int
    dynamic_shared: int
    checked: bool
    dependent: bool = False
    between: Between | None = None
    symbols: dict[str, int] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Threads per block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory per block, static and dynamic."""
        return self.dynamic_offset + self.dynamic_shared

    def where(self, instr: Instr) -> str:
        """Return the place of ``instr``: PTX line, its text, and the source line."""
        lines = self.module.text_lines
        text = lines[instr.line - 1].strip() if 0 < instr.line <= len(lines) else instr.name
        return f"PTX line {instr.line}: {text}\n     {self.source(instr)}"

    def source(self, instr: Instr) -> str:
        """Return the source line that ``instr`` came from, and where that was inlined."""
        at = instr.location
        if at is None:
            return f"in kernel {self.code.kernel.name} (no source lines in this PTX)"
        text = f"{self._file(at.file)}:{at.line}"
        if at.inlined_at is not None:
            text += f", inlined at {self._file(at.inlined_at[0])}:{at.inlined_at[1]}"
        return f"from {text}"

    def _file(self, number: int) -> str:
        """Return a source file's name. NVRTC puts its working directory in front of what
        ``#line`` says.
        """
        name = Path(self.module.files.get(number, f"file {number}"))
        if name.is_absolute() and name.is_relative_to(Path.cwd()):
            name = name.relative_to(Path.cwd())
        try:
            inside = not name.is_absolute() and (_paths.data_dir("kernels") / name).is_file()
        except FileNotFoundError:
            inside = False
        return f"kernels/{name.as_posix()}" if inside else name.as_posix()

    def block_name(self, number: int) -> str:
        """Return a block's coordinates as text."""
        x, y, _ = self.grid
        return f"block ({number % x}, {number // x % y}, {number // (x * y)})"

    def who(self, machine: Machine, row: int, lanes: Array) -> str:
        """Return block, warp and lanes as text. ``lanes`` is bool (32,)."""
        number = int(machine.block_numbers[machine.slot[row]])
        return (
            f"{self.block_name(number)}, warp {row % machine.warps_per_block}, {lane_text(lanes)}"
        )


def lane_text(lanes: Array) -> str:
    """Return lanes as ranges: ``lanes 0-3, 8``."""
    numbers = np.flatnonzero(lanes)
    if len(numbers) == 0:
        return "no lanes"
    runs: list[str] = []
    start = previous = int(numbers[0])
    for number in [*map(int, numbers[1:]), -1]:
        if number == previous + 1:
            previous = number
            continue
        runs.append(str(start) if start == previous else f"{start}-{previous}")
        start = previous = number
    return f"lane{'s' if len(numbers) > 1 else ''} {', '.join(runs)}"
