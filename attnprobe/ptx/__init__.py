"""The emulator: runs the PTX that NVRTC makes of a kernel on NumPy arrays, with no GPU."""

from attnprobe.layouts.tensor_map import TensorMap
from attnprobe.ptx.memory import Buffer, GlobalMemory
from attnprobe.ptx.program import Program, load
from attnprobe.ptx.run import LaunchReport, launch

__all__ = ["Buffer", "GlobalMemory", "LaunchReport", "Program", "TensorMap", "launch", "load"]
