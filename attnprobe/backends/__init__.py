"""Where a probe kernel runs: on a GPU, on the emulator, or in the recorded dumps of a GPU."""

from attnprobe.backends.base import Backend, Dump, Environment, Launch, NotRunError
from attnprobe.backends.select import NAMES, select

__all__ = ["NAMES", "Backend", "Dump", "Environment", "Launch", "NotRunError", "select"]
