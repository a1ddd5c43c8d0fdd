"""Every error that attnprobe raises on purpose, and the exit code that each gives the command line.

AttnprobeError                  1
├── UsageError                  2   a name or a value that does not exist; says the nearest
│   └── UnsupportedError        5   a real thing that this kernel, arch or backend does not do
├── ProblemError (ValueError)   2   attention() was given arrays or arguments that it refuses
├── LayoutError (ValueError)    2   a layout row that does not cover its operand exactly once
├── ModelFileError (ValueError) 2   a file of model weights that cannot be read
├── DeviceError                 3   no usable GPU, or the driver refused
├── CompileError                4   NVRTC refused a source text; carries its log
├── ToleranceError (Assertion)  1   a result outside its bound: where, both values, the bound
└── EmulatorError               1   the emulated program did something wrong; carries where
    ├── PtxSyntaxError          4   text that the parser does not understand
    ├── UnknownOpcodeError      5   an instruction that the emulator does not implement
    ├── MemoryFault                 out of bounds, misaligned, or never written
    ├── RaceError                   two warps or launches, and nothing that orders their accesses
    └── DeadlockError               nobody can run; says who waits on what
"""

from __future__ import annotations

from typing import ClassVar


class AttnprobeError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class UsageError(AttnprobeError):
    """A name or a value that does not exist. The message names the nearest one that does."""

    exit_code = 2


class UnsupportedError(UsageError):
    """A real thing that this kernel, arch or backend does not do."""

    exit_code = 5


class ProblemError(AttnprobeError, ValueError):
    """Arrays or arguments that attention refuses: what was given, what is supported, what works."""

    exit_code = 2


class LayoutError(AttnprobeError, ValueError):
    """A layout row that does not cover its operand exactly once."""

    exit_code = 2


class ModelFileError(AttnprobeError, ValueError):
    """A file of model weights that is damaged, cut off, or of a kind that is not read here."""

    exit_code = 2


class DeviceError(AttnprobeError):
    """No usable GPU, or the driver refused."""

    exit_code = 3


class CompileError(AttnprobeError):
    """NVRTC refused a text, or NVRTC itself is missing. ``log`` is the compiler's own log."""

    exit_code = 4

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(f"{message}\n{log}" if log else message)
        self.log = log


class ToleranceError(AttnprobeError, AssertionError):
    """A result outside its bound. The message gives the worst index, both values and the bound."""


class EmulatorError(AttnprobeError):
    """The emulated program did something wrong.

    The message names PTX line, source line, block, warp and lanes.
    """


class PtxSyntaxError(EmulatorError):
    """Text that the PTX parser does not understand."""

    exit_code = 4


class UnknownOpcodeError(EmulatorError):
    """A PTX instruction that the emulator does not implement. Never a silent zero."""

    exit_code = 5


class MemoryFault(EmulatorError):
    """An access out of bounds or misaligned, or a read of shared memory that nothing wrote."""


class RaceError(EmulatorError):
    """Two warps touch one address with no barrier between, or cp.async data before its wait."""


class DeadlockError(EmulatorError):
    """No warp can run. The message says who waits on what."""
